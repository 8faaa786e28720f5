package membership

import "context"

// measured is what a case measured on one side.
type measured struct {
	samples []float64
	// note is what a reader must know.
	note string
}

// side is one of the two that are measured: a cluster of n members, one of
// which comes and goes.
type side interface {
	// form measures whole clusters from nothing.
	form(ctx context.Context, rounds int) (measured, error)
	// start makes the cluster of the other cases.
	start(ctx context.Context) error
	// churn measures a member that joins, updates its metadata and leaves.
	churn(ctx context.Context, rounds int) (join, update, leave measured, err error)
	crash(ctx context.Context, rounds int) (measured, error)
	hang(ctx context.Context, rounds int) (measured, error)
	restart(ctx context.Context, rounds int) (measured, error)
	rejoin(ctx context.Context, seconds float64) (measured, error)
	// falseDeaths is how many members were declared dead that lived.
	falseDeaths() int
	close()
}
