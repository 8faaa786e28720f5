package routing

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/catga/catga-go/internal/provision"
)

// Check makes a round trip for each consumer of this node: it is at the server,
// and messages are ordered from it, unless every place is taken or the kind is
// paused. An observer has none. What is missing is made again by the router
// itself, at once where it can.
//
// Errors: ErrNotJoined, ErrLeaving, ErrClosed, or what is wrong with each
// consumer.
func (r *Router) Check(ctx context.Context) error {
	if phase(r.status.Load()) == phaseDraining {
		return fmt.Errorf("routing: check: %w", ErrLeaving)
	}
	if err := r.sendable(); err != nil {
		return fmt.Errorf("routing: check: %w", err)
	}
	if r.observes() {
		return nil
	}
	var found error
	for _, p := range r.pullers() {
		err := p.check(ctx)
		switch {
		case err == nil:
			continue
		case ctx.Err() == nil:
			r.miss()
		}
		err = fmt.Errorf("consumer %s of stream %s: %w", p.consumer, p.stream, err)
		if found == nil {
			found = fmt.Errorf("routing: check: %w", err)
		} else {
			found = fmt.Errorf("%w; %w", found, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return found
}

var (
	errNoOrder   = errors.New("nothing is ordered from it at present")
	errLoopEnded = errors.New("nobody orders from it any more")
)

// check looks at the consumer, and whether the loop that orders from it is at work.
func (p *puller) check(ctx context.Context) error {
	var info *jetstream.ConsumerInfo
	err := provision.Guard(ctx, p.r.nc, "$JS.API.CONSUMER.INFO."+p.stream+"."+p.consumer, func(ctx context.Context) (err error) {
		info, err = p.r.consumerInfo(ctx, p.stream, p.consumer)
		return err
	})
	if err != nil {
		return err
	}
	p.provisioned(info) // if somebody made it anew, the loop turns to it
	answer := make(chan bool, 1)
	select {
	case p.looks <- answer:
	case <-p.done:
		return errLoopEnded
	case <-ctx.Done():
		return fmt.Errorf("the loop that orders from it does not answer: %w", context.Cause(ctx))
	}
	if !<-answer {
		return errNoOrder
	}
	return nil
}

// works reports whether an order stands, or none is to. It is for the loop.
func (p *puller) works() bool { return p.ordered > 0 || p.free() <= 0 }
