package routing

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"time"

	"github.com/catga/catga-go/benchmarks/internal/bench"
)

const (
	suiteName     = "routing"
	defaultRounds = 9
	// bodySize is the size of what is sent, in bytes.
	bodySize = 128
)

// The transports: a server process that is reached over TCP, or a server in the
// process that does everything.
const (
	tcp    = "tcp"
	inproc = "inproc"
	both   = "both"
)

// Suite is the suite "routing".
type Suite struct {
	transport string
	sample    time.Duration
	profile   string
}

// Flags implements bench.Suite.
func (s *Suite) Flags(flags *flag.FlagSet) {
	flags.StringVar(&s.transport, "transport", both, "routing: tcp (a process each for server, caller and callee), inproc (all in one) or both")
	flags.DurationVar(&s.sample, "sample", 400*time.Millisecond, "routing: how long one side of a case runs in each round")
	flags.StringVar(&s.profile, "calleeprofile", "", "routing: write a CPU profile of the process that answers to a file")
}

// Cases implements bench.Suite.
func (s *Suite) Cases() []string {
	var names []string
	for _, c := range cases {
		names = append(names, c.name)
	}
	return append(names, caseInFlight, caseMoved)
}

// Run implements bench.Suite.
func (s *Suite) Run(ctx context.Context, out *bench.Printer, opts bench.Options) error {
	opts.Rounds = cmp.Or(opts.Rounds, defaultRounds)
	switch s.transport {
	case tcp, inproc, both:
	default:
		return fmt.Errorf("-transport %q: use tcp, inproc or both", s.transport)
	}
	for _, transport := range []string{tcp, inproc} {
		if s.transport != both && s.transport != transport {
			continue
		}
		if err := s.compareAll(ctx, out, opts, transport); err != nil {
			return fmt.Errorf("%s: %w", transport, err)
		}
	}
	if s.transport == inproc { // a process that is killed needs a server elsewhere
		return nil
	}
	for _, servers := range []int{1, 3} {
		if err := killAll(ctx, out, opts, servers); err != nil {
			return fmt.Errorf("%d servers: %w", servers, err)
		}
	}
	return nil
}

// compareAll runs the cases that compare, over one transport.
func (s *Suite) compareAll(ctx context.Context, out *bench.Printer, opts bench.Options, transport string) error {
	var g *ground
	for _, c := range cases {
		if !opts.Wants(c.name) {
			continue
		}
		if g == nil {
			var err error
			if g, err = s.open(ctx, transport); err != nil {
				return err
			}
			defer g.close()
		}
		if err := c.run(ctx, g, out, opts.Rounds); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}

// benchCase is one case that compares.
type benchCase struct {
	name          string
	unit          string
	lowerIsBetter bool
	note          string
	// sides returns who is compared; the first one is ours.
	sides func(ctx context.Context, g *ground) ([]side, error)
}

// side is one way to do the thing that a case is about.
type side struct {
	name string
	// sample does it for a while and returns the figure.
	sample func(ctx context.Context) (float64, error)
}

// The names of the sides.
const (
	ours  = "ours"
	raw   = "raw"
	micro = "micro"
	named = "named" // raw, with names as long as ours
)

// run measures round by round, each side in each of them, and begins each with
// another side: what changes in the course of the run changes for all.
func (c benchCase) run(ctx context.Context, g *ground, out *bench.Printer, rounds int) error {
	sides, err := c.sides(ctx, g)
	if err != nil {
		return err
	}
	samples := map[string][]float64{}
	for round := range rounds + 1 {
		for i := range sides {
			s := sides[(i+round)%len(sides)]
			figure, err := s.sample(ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			if round > 0 { // the first one warms up
				samples[s.name] = append(samples[s.name], figure)
			}
		}
	}
	result := bench.Result{
		Suite: suiteName, Case: c.name, Transport: g.transport, Unit: c.unit, LowerIsBetter: c.lowerIsBetter, Note: c.note,
	}.Of(samples[ours])
	for _, s := range sides[1:] {
		out.Print(result.Beside(s.name, samples[s.name]))
	}
	return nil
}
