package routing

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
)

// batchWindow is how many messages of a batch are on their way at once.
const batchWindow = 4096

// BatchError says which messages of a batch are not stored for sure. errors.Is
// finds the outcome and the reason of each.
type BatchError struct {
	// Errors has one entry for each message, in order; nil is stored.
	Errors []error
}

// Error tells how many failed, and why the first of them did.
func (e *BatchError) Error() string {
	failed := e.Unwrap()
	if len(failed) == 0 {
		return "routing: batch: no message failed"
	}
	return fmt.Sprintf("routing: batch: %d of %d messages: %v", len(failed), len(e.Errors), failed[0])
}

// Unwrap returns the errors of the messages that failed.
func (e *BatchError) Unwrap() (failed []error) {
	for _, err := range e.Errors {
		if err != nil {
			failed = append(failed, err)
		}
	}
	return failed
}

// SendBatch gives many messages to the cluster, and does not wait for the one
// before it sends the next. Nil means that all of them are stored. They are
// stored one by one: others may come between, and when one fails the rest are
// stored nevertheless. As long as nothing fails they are stored in order. Of any
// number of nodes, Any with a selector chooses one for each message.
//
// With an ID each message has one of its own, "<id>-<n>" with n from 0: who
// repeats the batch with it stores only what is missing. ErrDuplicate is for a
// batch of which everything was stored before.
//
// Errors: ErrNotDelivered before anything is sent, where a message of the batch
// cannot be sent at all; afterwards *BatchError, which has what Send would have
// returned for each message.
func (r *Router) SendBatch(ctx context.Context, to Target, ms []Raw, o SendOptions) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	if len(ms) == 0 {
		return nil
	}
	options := func(i int) SendOptions {
		own := o
		if own.ID != "" {
			own.ID += "-" + strconv.Itoa(i)
		}
		return own
	}
	errs := make([]error, len(ms))
	if o.AtMostOnce {
		for i, m := range ms {
			errs[i] = r.cast(ctx, to, m, options(i))
		}
		return batchResult(errs)
	}
	msgs := make([]*nats.Msg, len(ms))
	for i, m := range ms {
		var err error
		if msgs[i], err = r.prepared(ctx, to, m, options(i)); err != nil {
			return notDelivered(fmt.Errorf("message %d of the batch: %w", i, err))
		}
	}
	acks, errs := r.storeAll(ctx, msgs)
	for i := range ms {
		errs[i] = sent(acks[i], errs[i], options(i))
	}
	return batchResult(errs)
}

// batchResult is what the sender of a batch is told: what was stored before is
// stored.
func batchResult(errs []error) error {
	before := 0
	for i, err := range errs {
		if errors.Is(err, ErrDuplicate) {
			errs[i] = nil
			before++
		}
	}
	e := &BatchError{errs}
	switch {
	case len(e.Unwrap()) > 0:
		return e
	case before == len(errs):
		return ErrDuplicate
	}
	return nil
}

// storeAll stores messages in order, a window of them at once. What fails and may
// succeed later is tried again, one after the other, when the rest is there.
func (r *Router) storeAll(ctx context.Context, msgs []*nats.Msg) ([]stored, []error) {
	acks, errs := make([]stored, len(msgs)), make([]error, len(msgs))
	attempts := make([]storing, len(msgs))
	type failure struct {
		i     int
		doubt error
	}
	var failed []failure
	end := func(i int) {
		if errs[i] != nil { // it was not sent
			failed = append(failed, failure{i, nil})
			return
		}
		ack, maybe, err := r.endStore(ctx, msgs[i], attempts[i])
		if err == nil {
			acks[i] = stored{seq: ack.Seq, duplicate: ack.Duplicate}
			return
		}
		errs[i] = err
		f := failure{i: i}
		if maybe {
			f.doubt = err
		}
		failed = append(failed, f)
	}
	for i, m := range msgs {
		if i >= batchWindow {
			end(i - batchWindow)
		}
		attempts[i], errs[i] = r.beginStore(m, lastAttempt) // it waits behind the others
	}
	for i := max(len(msgs)-batchWindow, 0); i < len(msgs); i++ {
		end(i)
	}
	for _, f := range failed {
		switch err := errs[f.i]; {
		case storableLater(err) && ctx.Err() == nil:
			acks[f.i], errs[f.i] = r.storeAfter(ctx, msgs[f.i], f.doubt)
		case f.doubt != nil:
			errs[f.i] = unknown(err)
		default:
			errs[f.i] = notDelivered(err)
		}
	}
	return acks, errs
}
