package routing

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// errTimeLimit is the cause of a handler's ctx at the end of its time.
var errTimeLimit = fmt.Errorf("routing: the handler's time is up: %w", context.DeadlineExceeded)

// handlerKey marks the ctx of a handler: what it sends belongs to work that has
// begun.
type handlerKey struct{}

// panicError is the failure of a handler that panicked.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

// attempt runs the handler once on a delivery and decides what becomes of it. It
// returns how long the handler took.
func (r *Router) attempt(d *delivery) (took time.Duration) {
	if d.gone() {
		return 0
	}
	attempt := int(min(d.ack.attempt, 1<<31)) //nolint:gosec // bounded
	if most := d.kind.opts.Retry.maxAttempt(); attempt > most {
		cause := fmt.Errorf("delivered %d times, %d at most", attempt, most)
		d.kind.tally.note(cause)
		r.bury(d, attempt-1, cause, "poison")
		return 0
	}
	err := errGoexit // unless the handler returns
	defer func() { r.settle(d, attempt, err) }()
	took, err = r.invoke(d, attempt)
	return took
}

// settle answers for a message whose handler has ended with err.
func (r *Router) settle(d *delivery, attempt int, err error) {
	switch {
	case err == nil:
		d.finish(ackDone) // nothing is sent where it is gone
		return
	case d.gone():
		return
	case r.ctx.Err() != nil:
		// It failed because we end: nobody's fault, and another node's now.
		d.finish(ackNak)
		return
	}
	d.kind.tally.fail(err)
	v := d.kind.opts.Retry.decide(attempt, err, jitter())
	if v.dead {
		r.bury(d, attempt, err, v.reason)
		return
	}
	r.log.Info("a message failed and is tried again", "kind", d.kind.name, "attempt", attempt, "after", v.after, "err", err)
	d.kind.tally.retried.Add(1)
	if v.after == 0 {
		d.finish(ackNak)
		return
	}
	d.p.retryAt(d, time.Now().Add(v.after))
	d.finish(nakAfter(v.after))
}

// invoke calls the handler with its time limit, and returns how long it took; a
// panic is an error.
func (r *Router) invoke(d *delivery, attempt int) (took time.Duration, err error) {
	m := &d.given
	*m = Msg[Raw]{
		Body:    Raw{Name: d.kind.name, ContentType: jsonType, Data: d.msg.Data},
		Attempt: attempt,
		Sent:    d.ack.stored,
		Header:  d.msg.Header,
	}
	ctx := d.life.work
	if id, ok := onlyID(m.Header); ok {
		m.ID, m.From = id, senderOfID(id)
	} else {
		if err := checkVersion(m.Header); err != nil {
			return 0, err
		}
		if err := checkSelect(m.Header); err != nil {
			return 0, err
		}
		m.ID, m.From = idOf(m.Header)
		m.Body.ContentType = contentTypeOf(m.Header)
		ctx = withTrace(ctx, m.Header)
	}
	began := d.begin()
	if most := d.kind.timeLimit(); most > 0 {
		d.time.begin(ctx, began.Add(most), errTimeLimit)
		defer d.time.end()
		ctx = &d.time
	}
	defer func() {
		took = time.Since(began)
		d.kind.tally.messages.end(took)
	}()
	_, err = r.guard(ctx, d.kind, m)
	return took, err
}

// guard calls a handler and turns a panic into an error, with the stack in the
// log.
func (r *Router) guard(ctx context.Context, k *kind, m *Msg[Raw]) (answer Raw, err error) {
	defer func() {
		if v := recover(); v != nil {
			stack := debug.Stack()
			r.log.Error("a handler panicked", "kind", k.name, "id", m.ID, "attempt", m.Attempt, "panic", v, "stack", string(stack))
			answer, err = Raw{}, &panicError{v, stack}
		}
	}()
	return k.handler(ctx, m)
}

// timeLimit is how long a durable message of the kind may run; 0 is for ever.
func (k *kind) timeLimit() time.Duration {
	switch {
	case k.opts.TimeLimit < 0:
		return 0
	case k.opts.TimeLimit == 0:
		return defaultTimeLimit
	}
	return k.opts.TimeLimit
}

// begin notes that the handler runs, and since when.
func (d *delivery) begin() time.Time {
	now := time.Now()
	d.began.Store(int64(now.Sub(d.p.born)) + 1)
	d.kind.tally.messages.begin()
	return now
}

// stackOf returns the stack of a panic, or nil.
func stackOf(err error) []byte {
	if p, ok := errors.AsType[*panicError](err); ok {
		return p.stack
	}
	return nil
}
