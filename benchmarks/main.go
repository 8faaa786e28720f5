// Command benchmarks measures this library beside its peers, in the same run
// and on the same machine, and prints one line per case:
//
//	go -C benchmarks run . -suite membership -nodes 20 -json
//
// It starts what it needs itself, servers and members as processes of its own,
// and ends it. -help lists the suites and what they take.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"runtime/pprof"
	"slices"
	"strings"
	"syscall"

	"github.com/catga/catga-go/benchmarks/embedded"
	"github.com/catga/catga-go/benchmarks/internal/bench"
	"github.com/catga/catga-go/benchmarks/membership"
	"github.com/catga/catga-go/benchmarks/routing"
)

// suites are what -suite names. Each has flags of its own.
var suites = map[string]bench.Suite{
	"embedded":   &embedded.Suite{Progress: os.Stderr},
	"membership": &membership.Suite{Progress: os.Stderr},
	"routing":    &routing.Suite{},
}

func main() {
	if bench.InRole() {
		// This process was started by another one of this program.
		os.Exit(bench.RunRole())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchmarks:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	names := slices.Sorted(maps.Keys(suites))
	flags := flag.NewFlagSet("benchmarks", flag.ContinueOnError)
	name := flags.String("suite", "", "what to measure: "+strings.Join(names, ", "))
	asJSON := flags.Bool("json", false, "print one JSON object per line instead of a table")
	rounds := flags.Int("rounds", 0, "how often a quick case is measured; 0 is the suite's default")
	cases := flags.String("cases", "", "the cases to run, with commas; empty is the suite's default")
	check := flags.Bool("check", false, "fail when a target is missed")
	profile := flags.String("cpuprofile", "", "write a CPU profile of this process to a file")
	for _, n := range names {
		suites[n].Flags(flags)
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	suite, ok := suites[*name]
	if !ok {
		return fmt.Errorf("-suite %q: use one of %s", *name, strings.Join(names, ", "))
	}
	opts := bench.Options{Rounds: *rounds}
	var err error
	if opts.Cases, err = bench.ParseCases(*cases, suite); err != nil {
		return err
	}
	if *profile != "" {
		f, err := os.Create(*profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	out := bench.NewPrinter(os.Stdout, *asJSON)
	if err := suite.Run(ctx, out, opts); err != nil {
		return err
	}
	if *check {
		return bench.Check(out.Results(), suite.Targets())
	}
	return nil
}
