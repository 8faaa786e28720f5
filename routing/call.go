package routing

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/provision"
	"github.com/catga/catga-go/internal/wire"
)

// CallOptions are the options of one Call.
type CallOptions struct {
	// Idempotent says that running the call twice is as good as once: it is
	// then also tried again where it is unknown whether a node ran it.
	Idempotent bool
	// Pick chooses the node of a call to Any; nil is RoundRobin.
	Pick Strategy
	// Header is added to the request. Names that begin with Nats- or Catga- are
	// refused.
	Header nats.Header
}

const (
	// callRetries is how often a call is tried again.
	callRetries = 3
	// callTimeout bounds a call in all.
	callTimeout = sendTimeout
	// The pauses before a node is asked again; a call that has another node to
	// ask does not pause. They bridge a connection that was dropped and comes
	// back, which takes 50 to 100 ms with the settings of cluster.Dial.
	callPause       = 100 * time.Millisecond
	callPauseGrowth = 3
	callPauseJitter = 0.3
	// leaveGrace is how long an answer may arrive after the news that its node
	// left: a node that says goodbye has answered everything before, but the
	// two come on different addresses.
	leaveGrace = 200 * time.Millisecond
)

// calls is the state of the call side of a router.
type calls struct {
	replies atomic.Pointer[replies]
	turns   sync.Map // kind -> *atomic.Uint64: whose turn it is
	drops   drops

	mu         sync.Mutex
	retired    []*replies // inboxes of earlier incarnations that may still be answered
	closed     bool
	dispatcher *dispatcher
}

// Call asks one node and returns its answer. A call that provably reached
// nobody is tried again, three times at most: at once at a node that it has not
// tried, else after a pause of 0.1 s, 0.3 s, 0.9 s, each give or take a third.
// It takes 30 s in all, or less where ctx says so.
//
// Where the own connection breaks while the answer is due, the answer may be lost
// with it: 0.25 s after the connection is back the attempt ends as ErrUnknown,
// or, with Idempotent, is made again, at the same node too if need be.
//
// The error is *HandlerError where the handler ran and failed, ErrNotDelivered
// where no handler ran or will run, and else ErrUnknown. They wrap the reason:
// ErrNoMember, ErrNoHandler, ErrSelector, ErrBusy, ErrTooLarge, what ended ctx,
// and so on. Any with a selector that chooses none of the handlers is ErrNoMember.
func (r *Router) Call(ctx context.Context, to One, m Raw, o CallOptions) (Raw, error) {
	if err := r.sendable(); err != nil {
		return Raw{}, notDelivered(err)
	}
	if to == nil {
		return Raw{}, notDelivered(errNoTarget)
	}
	if ctx.Err() != nil {
		return Raw{}, notDelivered(ctxReason(ctx))
	}
	t := to.target()
	if err := t.where.problem(); err != nil {
		return Raw{}, notDelivered(err)
	}
	c := call{r: r, to: t, msg: m, idempotent: o.Idempotent, strategy: o.Pick, end: time.Now().Add(callTimeout), late: errDeadline}
	extra := 0
	if d, ok := ctx.Deadline(); ok {
		c.timed = true
		extra = 1
		if d.Before(c.end) {
			c.end, c.late = d, context.DeadlineExceeded
		}
	}
	var err error
	if c.header, err = newHeader(ctx, m, o.Header, extra); err != nil {
		return Raw{}, notDelivered(err)
	}
	p, err := c.choose()
	if err != nil {
		return Raw{}, notDelivered(err)
	}
	for retries := 0; ; retries++ {
		answer, err := c.attempt(ctx, p)
		if err == nil || retries == callRetries || !c.again(p, err) {
			return answer, c.outcome(err)
		}
		if p, err = c.next(ctx, p, err); err != nil {
			return Raw{}, c.outcome(err)
		}
	}
}

var errNoTarget = errors.New("no target")

// call is one Call on its way from node to node.
type call struct {
	r          *Router
	to         target
	msg        Raw
	header     nats.Header // nil where there is nothing to say
	timed      bool        // ctx has a deadline, which the handler is told
	idempotent bool
	strategy   Strategy
	end        time.Time
	late       error // what is wrong after end

	tried    []*peer // whom it was sent to
	burnt    []*peer // those of tried that may have run it: never asked again
	unsure   error   // the first attempt whose outcome is unknown
	detached bool    // the last attempt failed here, before anybody was asked
	pauses   *backoff.ExponentialBackOff
}

// choose returns the node for the next attempt; nil is nobody untried.
func (c *call) choose() (*peer, error) {
	view := c.r.peers.Load()
	if c.to.to == toNode {
		return memberFor(view, c.to.id, c.msg.Name)
	}
	handlers, err := view.candidates(c.msg.Name, c.to.where)
	if err != nil {
		return nil, err
	}
	return c.pick(handlers, c.tried)
}

// memberFor returns node id if it is a member that handles kind.
func memberFor(view *peers, id, kind string) (*peer, error) {
	p := view.byID[id]
	switch {
	case p == nil || p.lost:
		return nil, fmt.Errorf("%w: %.100q", ErrNoMember, id)
	case !p.handles(kind):
		return nil, fmt.Errorf("node %s: %w", id, noHandler(kind))
	}
	return p, nil
}

func noHandler(kind string) error {
	if err := wire.CheckKind(kind); err != nil {
		return fmt.Errorf("%w: %w", ErrNoHandler, err)
	}
	return fmt.Errorf("%w %s", ErrNoHandler, kind)
}

// turn counts the choices per kind: kinds that are called in turn would else
// each meet the same node every time.
func (r *Router) turn(kind string) uint64 {
	n, ok := r.calls.turns.Load(kind)
	if !ok {
		n, _ = r.calls.turns.LoadOrStore(kind, new(atomic.Uint64))
	}
	return n.(*atomic.Uint64).Add(1) - 1
}

// again notes the failed attempt at p and decides whether another one may follow.
func (c *call) again(p *peer, err error) bool {
	switch {
	case errors.Is(err, ErrNotDelivered):
		if errors.Is(err, ErrTooLarge) {
			return false // nor would another node be told
		}
		if !c.detached {
			c.tried = append(c.tried, p)
		}
		return true
	case errors.Is(err, ErrUnknown):
		if c.unsure == nil {
			c.unsure = err
		}
		c.tried = append(c.tried, p)
		if isDropped(err) {
			return c.idempotent // of the same node too, where there is no other
		}
		c.burnt = append(c.burnt, p)
		return c.idempotent && c.to.to == toAny
	default: // the handler's own answer
		return false
	}
}

// next returns whom to ask after an attempt at last failed with err.
func (c *call) next(ctx context.Context, last *peer, err error) (*peer, error) {
	if c.to.to == toAny && !c.detached {
		p, err := c.choose()
		if p != nil || err != nil {
			return p, err
		}
	}
	if err := c.pause(ctx, last, err); err != nil {
		return nil, err
	}
	p, err := c.choose()
	if p == nil && err == nil {
		// Everybody was asked. Those who did not run it may be asked again; those
		// who may have are left out.
		var handlers []*peer
		if handlers, err = c.r.peers.Load().candidates(c.msg.Name, c.to.where); err == nil {
			p, err = c.pick(handlers, c.burnt)
		}
		if p == nil && err == nil {
			err = fmt.Errorf("%w %s that was not asked", ErrNoHandler, c.msg.Name)
		}
	}
	return p, err
}

// pause waits before nodes are asked again. err is why the last attempt failed;
// it is returned where the time left is too short for another one.
func (c *call) pause(ctx context.Context, last *peer, err error) error {
	if c.pauses == nil {
		c.pauses = backoff.NewExponentialBackOff(
			backoff.WithInitialInterval(callPause),
			backoff.WithMultiplier(callPauseGrowth),
			backoff.WithRandomizationFactor(callPauseJitter),
			backoff.WithMaxElapsedTime(0),
		)
	}
	d := c.pauses.NextBackOff()
	if time.Until(c.end) < d {
		return err
	}
	var gone chan struct{} // to one node: no use waiting for it longer than it is there
	if c.to.to == toNode {
		gone = last.gone
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-gone:
		return nil
	case <-ctx.Done():
		return ctxReason(ctx)
	case <-c.r.ctx.Done():
		return ErrClosed
	}
}

// outcome is what the caller is told: once an attempt may have run the
// handler, no later failure makes the call undelivered.
func (c *call) outcome(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*HandlerError](err); ok {
		return err
	}
	if c.unsure != nil && err != c.unsure { //nolint:errorlint // the same error, not the same kind
		return fmt.Errorf("%w; then %v", c.unsure, err) //nolint:errorlint // the later one must not be found by errors.Is
	}
	return notDelivered(err)
}

// attempt asks p and waits for the answer.
func (c *call) attempt(ctx context.Context, p *peer) (Raw, error) {
	r, kind := c.r, c.msg.Name
	c.detached = false
	in := r.calls.replies.Load()
	// A connection with a reconnect buffer would send the request later, when
	// the caller has been told that nobody got it.
	if in == nil || !r.nc.IsConnected() {
		c.detached = true
		return Raw{}, notDelivered(nats.ErrDisconnected)
	}
	now := time.Now()
	left := c.end.Sub(now)
	if left <= 0 {
		c.detached = true
		return Raw{}, notDelivered(c.late)
	}
	p.pending.Add(1)
	defer p.pending.Add(-1)
	back := r.calls.drops.back()
	w, reply := in.awaitPeer(p, now)
	answered := false
	defer func() { in.release(w, answered) }()
	w.timer.Reset(left)
	if err := c.publish(p.address(r.cluster, kind).subject, reply, left); err != nil {
		c.detached = true
		return Raw{}, err
	}
	gone, late := p.gone, c.late
	for {
		select {
		case m := <-w.answer:
			answered = true
			return decodeAnswer(m, p.ID, kind)
		case <-gone:
			late = errGone(p)
			if r.peers.Load().byID[p.ID] != nil { // lost, or another incarnation took its place
				return c.lateAnswer(w, &answered, p, late)
			}
			gone = nil
			w.timer.Reset(min(leaveGrace, time.Until(c.end)))
		case <-back:
			back = nil
			if left := time.Until(c.end); left > dropGrace {
				late = errDropped
				w.timer.Reset(dropGrace)
			}
		case <-ctx.Done():
			return c.lateAnswer(w, &answered, p, ctxReason(ctx))
		case <-w.timer.C:
			return c.lateAnswer(w, &answered, p, late)
		case <-in.closed:
			return c.lateAnswer(w, &answered, p, ErrClosed)
		}
	}
}

// lateAnswer ends an attempt for a reason; an answer that is there wins.
func (c *call) lateAnswer(w *pending, answered *bool, p *peer, reason error) (Raw, error) {
	select {
	case m := <-w.answer:
		*answered = true
		return decodeAnswer(m, p.ID, c.msg.Name)
	default:
	}
	if denied := provision.PublishDenied(c.r.nc, c.r.cluster.CallNode(p.ID, c.msg.Name)); denied != nil {
		return Raw{}, notDelivered(denied) // the server passed nothing on
	}
	return Raw{}, unknown(reason)
}

// publish sends the request.
func (c *call) publish(subject, reply string, left time.Duration) error {
	if c.timed {
		if c.header == nil {
			c.header = make(nats.Header, 1)
		}
		c.header[wire.HeaderTimeout] = []string{left.String()}
	}
	return c.r.publishCore(subject, reply, c.header, c.msg.Data)
}

// publishCore publishes on core NATS, after what was sent before; the error is
// an outcome.
func (r *Router) publishCore(subject, reply string, h nats.Header, data []byte) error {
	r.bundles.flush()
	if h == nil {
		return coreOutcome(r.nc.PublishRequest(subject, reply, data), data, nil)
	}
	return coreOutcome(r.nc.PublishMsg(&nats.Msg{Subject: subject, Reply: reply, Header: h, Data: data}), data, h)
}

// coreOutcome is the outcome of a publish that ended with err.
func coreOutcome(err error, data []byte, h nats.Header) error {
	if err == nil {
		return nil
	}
	err = notTaken(err)
	if errors.Is(err, ErrTooLarge) {
		err = fmt.Errorf("%d bytes and %d headers: %w", len(data), len(h), err)
	}
	return notDelivered(err)
}

// ctxReason is why ctx ended: its error and, where there is one, its cause.
func ctxReason(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(cause, err) {
		return cause
	}
	return fmt.Errorf("%w: %w", err, cause)
}
