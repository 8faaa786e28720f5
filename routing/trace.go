package routing

import (
	"context"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/wire"
)

// traceKey is where the trace context of a handled message travels in its ctx.
type traceKey struct{}

// withTrace puts the W3C trace context of a received message into ctx, so that
// what its handler sends belongs to the same trace.
func withTrace(ctx context.Context, h nats.Header) context.Context {
	parent := h.Get(wire.HeaderTraceParent)
	if parent == "" {
		return ctx
	}
	trace := map[string]string{wire.HeaderTraceParent: parent}
	if state := h.Get(wire.HeaderTraceState); state != "" {
		trace[wire.HeaderTraceState] = state
	}
	return context.WithValue(ctx, traceKey{}, trace)
}

// traceOf returns the headers of the trace that ctx carries; do not change it.
func traceOf(ctx context.Context) map[string]string {
	trace, _ := ctx.Value(traceKey{}).(map[string]string)
	return trace
}
