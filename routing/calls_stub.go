package routing

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go"
)

// calls is the state of the call side of a router.
type calls struct{}

var errNoCalls = errors.New("calls are not there yet")

// CallOptions are the options of one Call.
type CallOptions struct {
	Idempotent bool
	Header     nats.Header
}

// Call is not there yet.
func (r *Router) Call(context.Context, One, Raw, CallOptions) (Raw, error) {
	return Raw{}, notDelivered(errNoCalls)
}

func (r *Router) cast(context.Context, Target, Raw, SendOptions) error {
	return notDelivered(errNoCalls)
}

func (r *Router) subscribeCalls() error            { return nil }
func (r *Router) startCalls(uint64) error          { return nil }
func (r *Router) drainCalls(context.Context) error { return nil }
func (r *Router) closeCalls()                      {}
