package bench

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
)

// Suite is one family of measurements.
type Suite interface {
	// Flags adds what only this suite takes. Names are shared by all suites.
	Flags(flags *flag.FlagSet)
	// Cases are the names of its cases, in the order in which they run.
	Cases() []string
	// Targets are what its results must reach.
	Targets() []Target
	// Run measures and prints. It ends everything that it started.
	Run(ctx context.Context, out *Printer, opts Options) error
}

// Options are what every suite takes.
type Options struct {
	// Rounds is how often a quick case is measured; 0 is the suite's default.
	Rounds int
	// Cases are those to run; empty is the suite's default.
	Cases []string
}

// Wants tells whether the case is one of those to run.
func (o Options) Wants(name string) bool {
	return len(o.Cases) == 0 || slices.Contains(o.Cases, name)
}

// ParseCases reads a list with commas and checks its names against the suite's.
func ParseCases(list string, s Suite) ([]string, error) {
	if list == "" {
		return nil, nil
	}
	cases := strings.Split(list, ",")
	for _, name := range cases {
		if !slices.Contains(s.Cases(), name) {
			return nil, fmt.Errorf("-cases: no case %q: use some of %s", name, strings.Join(s.Cases(), ","))
		}
	}
	return cases, nil
}
