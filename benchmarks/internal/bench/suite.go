package bench

import (
	"context"
	"flag"
)

// Suite is one family of measurements.
type Suite interface {
	// Flags adds what the suite takes. Names are shared by all suites: one that
	// another suite has is looked up, not added again.
	Flags(flags *flag.FlagSet)
	// Run measures and prints. It ends everything that it started.
	Run(ctx context.Context, out *Printer) error
}
