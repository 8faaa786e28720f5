package membership

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/catga/catga-go/benchmarks/internal/bench"
)

func TestMain(m *testing.M) {
	if bench.InRole() {
		os.Exit(bench.RunRole())
	}
	os.Exit(m.Run())
}

// lines runs the suite as the command does and returns what it prints.
func lines(t *testing.T, ctx context.Context, opts bench.Options, args ...string) ([]map[string]any, error) {
	t.Helper()
	s := &Suite{Progress: t.Output()}
	flags := flag.NewFlagSet("", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	s.Flags(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	err := s.Run(ctx, bench.NewPrinter(&b, true), opts)
	var all []map[string]any
	for line := range strings.Lines(b.String()) {
		var r map[string]any
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		all = append(all, r)
	}
	return all, err
}

// TestSuiteMeasures runs each kind of case once, small, and looks whether the
// figures can be true. No figure may be too good: a grace is over before anybody
// is called dead, and a hang takes longer.
func TestSuiteMeasures(t *testing.T) {
	for _, part := range []struct {
		name   string
		args   []string
		beside bool
		// least is the smallest figure of each case that can be true.
		least map[string]float64
	}{
		{"beside memberlist", nil, true, map[string]float64{
			"form": 0.001, "join_seen_by_all": 0.0001, "update_seen_by_all": 0.0001, "leave_seen_by_all": 0.0001,
			"crash_seen_by_all": 0.5, "false_deaths": 0,
		}},
		{"alone", []string{"-peers=false", "-cut", "8s"}, false, map[string]float64{
			// With memberlist, which takes a minute for a restart and half for a cut,
			// this would take too long.
			"restart_same_name": 0.001, "hang_seen_by_all": 3, "rejoin_after_partition": 0.0001,
		}},
		{"scale", []string{"-idle", "1s", "-full", "3"}, false, map[string]float64{
			"crash_100_seen_by_all": 0.5, "restart_all_true_again": 0.01, "idle_cpu_cores": 0, "server_mb": 5, "msgs_per_s": 1,
		}},
	} {
		t.Run(part.name, func(t *testing.T) {
			t.Parallel()
			opts := bench.Options{Rounds: 1, Cases: slices.Collect(maps.Keys(part.least))}
			all, err := lines(t, t.Context(), opts, append(part.args, "-nodes", "5", "-slow-rounds", "1")...)
			if err != nil {
				t.Fatal(err)
			}
			if len(all) != len(opts.Cases) {
				t.Errorf("%d results of %v", len(all), opts.Cases)
			}
			for _, r := range all {
				name, _ := r["case"].(string)
				if r["suite"] != "membership" || r["nodes"] != 5.0 || r["servers"] != 1.0 || r["samples"] != 1.0 || r["unit"] == "" || r["lower_is_better"] != true {
					t.Errorf("%v", r)
				}
				ours, ok := r["ours"].(float64)
				least, known := part.least[name]
				if !ok || !known || r["min"] != ours || r["max"] != ours || ours < least {
					t.Errorf("%s: ours %v, min %v, max %v; at least %v", name, r["ours"], r["min"], r["max"], least)
				}
				if _, ok := r["theirs"].(float64); ok != part.beside || ok != (r["peer"] == "memberlist") {
					t.Errorf("%s: memberlist beside it: %v: %v", name, ok, r)
				}
				if _, ok := r["ratio"].(float64); ok != (part.beside && name != "false_deaths") {
					t.Errorf("%s: a ratio: %v: %v", name, ok, r)
				}
			}
		})
	}
}

func TestSuiteRefuses(t *testing.T) {
	for _, args := range [][]string{{"-nodes", "2"}, {"-nodes", "x"}, {"-servers", "2"}, {"-slow-rounds", "0"}} {
		if _, err := lines(t, t.Context(), bench.Options{}, args...); err == nil || !strings.Contains(err.Error(), args[0]) {
			t.Errorf("%v: %v", args, err)
		}
	}
}

// TestSuiteEndsWhenInterrupted: what was started is waited for, however early
// the end comes.
func TestSuiteEndsWhenInterrupted(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	opts := bench.Options{Cases: []string{"hang_seen_by_all"}}
	if _, err := lines(t, ctx, opts, "-nodes", "5"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestTargetsAreOfCases(t *testing.T) {
	s := &Suite{}
	known := map[string]bool{growthCase: true}
	for _, name := range s.Cases() {
		known[name] = true
	}
	for _, target := range s.Targets() {
		if !known[target.Case] {
			t.Errorf("a target of %s, which is no case", target.Case)
		}
	}
	late := bench.Result{Case: "join_seen_by_all", Nodes: 50, Ours: 0.01}
	late.P95 = new(0.07)
	if err := bench.Check([]bench.Result{late}, s.Targets()); err == nil {
		t.Error("a p95 of 70 ms is no miss")
	}
}
