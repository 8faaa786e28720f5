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
	"slices"
	"strings"
	"syscall"

	"github.com/catga/catga-go/benchmarks/internal/bench"
)

// suites are what -suite names. Each has flags of its own.
var suites = map[string]bench.Suite{}

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
	out := bench.NewPrinter(os.Stdout, *asJSON)
	return suite.Run(ctx, out)
}
