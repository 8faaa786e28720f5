package routing

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/wire"
)

const (
	// callLimit is how many calls and at-most-once messages of one kind run at
	// once on a node. A call beyond it is answered busy.
	callLimit = 256
	// castQueue is how many at-most-once messages of one kind wait for a place;
	// one beyond it is dropped.
	castQueue = 16384
	// callBuffer is how many requests wait between the connection and the
	// dispatcher: in a burst, and from Prepare to Start.
	callBuffer = 32768
	// closeWait is how long Close waits for handlers whose ctx has ended.
	closeWait = time.Second
	// newsQuiet is how long no call must have begun before a node that drains
	// stops to listen: by then its callers have heard that it leaves.
	newsQuiet = 100 * time.Millisecond
	// newsLimit bounds the wait for that: programs without a view never hear of it.
	newsLimit = 3 * time.Second
)

// subscribeCalls opens the subjects of every kind and waits until the server
// knows of them. Requests are kept, and answered after startCalls.
func (r *Router) subscribeCalls(ctx context.Context) error {
	if err := r.openDispatcher(); err != nil {
		return err
	}
	// Subscriptions survive a reconnect by themselves, so there is nothing else
	// to make again before a rejoin.
	return flush(ctx, r.nc)
}

// openDispatcher makes the dispatcher and its subscriptions where there is none.
func (r *Router) openDispatcher() error {
	c := &r.calls
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrClosed
	}
	if c.dispatcher != nil || len(r.kinds) == 0 {
		return nil
	}
	d := newDispatcher(r)
	if err := d.subscribe(); err != nil {
		d.unsubscribe()
		return err
	}
	c.dispatcher = d
	return nil
}

// startCalls opens the inbox of an incarnation and begins to answer.
func (r *Router) startCalls(ctx context.Context, incarnation uint64) error {
	c := &r.calls
	prefix := r.cluster.InboxPrefix(r.id, incarnation)
	var next *replies
	if in := c.replies.Load(); in == nil || in.base != prefix {
		next = newReplies(prefix)
		if err := next.subscribe(ctx, r.nc); err != nil {
			next.close()
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		if next != nil {
			next.close()
		}
		return ErrClosed
	}
	if next != nil {
		c.retire(c.replies.Swap(next))
	}
	if c.dispatcher != nil {
		c.dispatcher.start()
	}
	return nil
}

// retire keeps an inbox open while calls wait in it; c.mu is held.
func (c *calls) retire(in *replies) {
	if in != nil {
		c.retired = append(c.retired, in)
	}
	kept := c.retired[:0]
	for _, in := range c.retired {
		if in.waiting() > 0 {
			kept = append(kept, in)
		} else {
			in.close()
		}
	}
	clear(c.retired[len(kept):])
	c.retired = kept
}

// drainCalls answers until callers have heard that the node leaves, takes no new
// requests then, answers those that have arrived, and returns when the answers
// are with the server.
func (r *Router) drainCalls(ctx context.Context) error {
	r.calls.mu.Lock()
	d := r.calls.dispatcher
	r.calls.mu.Unlock()
	if d == nil {
		return nil
	}
	return d.drain(ctx)
}

// closeCalls ends everything: calls of ours that wait fail, requests that have
// not begun are refused, handlers get closeWait to see that their ctx has ended.
func (r *Router) closeCalls() {
	c := &r.calls
	c.mu.Lock()
	first := !c.closed
	c.closed = true
	d, in, retired := c.dispatcher, c.replies.Load(), c.retired
	c.retired = nil
	c.mu.Unlock()
	if !first {
		return
	}
	if d != nil {
		d.close()
	}
	for _, in := range append(retired, in) {
		if in != nil {
			in.close()
		}
	}
}

// dispatcher runs the handlers for what arrives on core NATS.
//
// All subscriptions feed one channel. One goroutine, the leader, reads it and
// runs the handler itself: a goroutine per message costs a quarter of the
// throughput of fast handlers. A watchdog looks every watchEvery whether the
// leader still is in the handler that it was in; if so it makes another
// goroutine the leader, and the old one ends with its handler. It looks less
// often while no handler hangs, and sleeps while nothing arrives. Kinds that
// have been slow get a goroutine per message at once, so that the leader is
// free.
type dispatcher struct {
	r       *Router
	in      chan *nats.Msg
	subs    map[*nats.Subscription]*served // not written after subscribe
	inboxes string                         // the InboxRoot of the cluster
	many    string                         // the CallAllPrefix of the cluster

	callers callers
	leaving atomic.Bool // callers remembers what comes

	leader atomic.Pointer[leader]
	watch  watchdog

	running sync.WaitGroup // leaders, and handlers in goroutines of their own
	started sync.Once
	closing chan struct{} // closed when nothing may begin any more
	done    chan struct{} // closed when running is zero for good

	isClosing atomic.Bool // closing is closed
	ends      atomic.Bool // everything that will ever arrive is in the channel, or nobody cares

	drainOnce, closeOnce, doneOnce sync.Once
}

func newDispatcher(r *Router) *dispatcher {
	d := &dispatcher{
		r:       r,
		in:      make(chan *nats.Msg, callBuffer),
		subs:    make(map[*nats.Subscription]*served, 3*len(r.kinds)),
		inboxes: r.cluster.InboxRoot(),
		many:    r.cluster.CallAllPrefix(),
		closing: make(chan struct{}),
		done:    make(chan struct{}),
		callers: callers{root: r.cluster.InboxRoot(), known: map[string]*caller{}},
	}
	d.watch.wake = make(chan struct{}, 1)
	return d
}

func (d *dispatcher) subscribe() error {
	c, nc := d.r.cluster, d.r.nc
	for name, k := range d.r.kinds {
		s := &served{kind: k, d: d}
		for _, subject := range [...]string{c.CallNode(d.r.id, name), c.CallAll(name)} {
			sub, err := nc.ChanSubscribe(subject, d.in)
			if err != nil {
				return fmt.Errorf("subscribe %s: %w", subject, err)
			}
			d.subs[sub] = s
		}
		sub, err := nc.ChanQueueSubscribe(c.CallAny(name), wire.CallQueue, d.in)
		if err != nil {
			return fmt.Errorf("subscribe %s: %w", c.CallAny(name), err)
		}
		d.subs[sub] = s
	}
	return nil
}

func (d *dispatcher) unsubscribe() {
	for sub := range d.subs {
		// The only error is a connection that is closed already.
		_ = sub.Unsubscribe()
	}
}

func (d *dispatcher) start() {
	d.started.Do(func() {
		d.promote(nil)
		go d.guard()
	})
}

// drain is the soft stop.
func (d *dispatcher) drain(ctx context.Context) error {
	var errs []error
	d.drainOnce.Do(func() {
		d.leaving.Store(true)
		d.callers.leave()
		d.awaitNews(ctx)
		for sub := range d.subs {
			if err := sub.Drain(); err != nil {
				errs = append(errs, err)
			}
		}
		// When the server has seen the unsubscribes, nothing more comes. A
		// connection that is away gets nothing either.
		if err := flush(ctx, d.r.nc); err != nil {
			errs = append(errs, err)
		}
		d.end()
	})
	go d.finish()
	select {
	case <-d.done:
	case <-ctx.Done():
		return errors.Join(append(errs, fmt.Errorf("handlers of calls still run: %w", ctxReason(ctx)))...)
	}
	if len(errs) == 0 {
		d.sayFarewell()
	}
	// The answers are still on their way.
	return errors.Join(append(errs, flush(ctx, d.r.nc))...)
}

// awaitNews goes on answering while calls come. A request that is between two
// servers when the subscriptions end is lost without a word. Its caller hears of
// that by the farewell; it is faster and cheaper when nobody sends any more.
func (d *dispatcher) awaitNews(ctx context.Context) {
	ticker := time.NewTicker(newsQuiet)
	defer ticker.Stop()
	for end, seen := time.Now().Add(newsLimit), d.begun(); time.Now().Before(end); {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		case <-d.closing:
			return
		}
		now := d.begun()
		if now == seen {
			return
		}
		seen = now
	}
}

// begun counts the calls that have begun.
func (d *dispatcher) begun() (n uint64) {
	for _, k := range d.r.kinds {
		n += k.tally.calls.begun.Load()
	}
	return n
}

// close is the hard stop; the ctx of the handlers has ended.
func (d *dispatcher) close() {
	d.closeOnce.Do(func() {
		d.isClosing.Store(true)
		close(d.closing)
		d.unsubscribe()
		d.refuseRest()
		d.end()
	})
	go d.finish()
	timer := time.NewTimer(closeWait)
	defer timer.Stop()
	select {
	case <-d.done:
	case <-timer.C:
		d.r.log.Warn("handlers of calls ignore that their ctx ended; left running")
	}
}

// end lets the leader end when it has read the channel. Its word is a nil in it;
// where there is no room it is read later, and the leader looks.
func (d *dispatcher) end() {
	d.ends.Store(true)
	select {
	case d.in <- nil:
	default:
	}
}

// finish closes done when the last leader and handler have ended.
func (d *dispatcher) finish() {
	d.doneOnce.Do(func() {
		d.running.Wait()
		close(d.done)
	})
}

// refuseRest answers what is in the channel without running it.
func (d *dispatcher) refuseRest() {
	for {
		select {
		case m := <-d.in:
			if m != nil {
				d.refuse(m, wire.RefusedLeaving)
			}
		default:
			return
		}
	}
}

func (d *dispatcher) refuse(m *nats.Msg, why string) {
	if wantsAnswer(m.Reply) {
		d.answer(m, refusal(m.Reply, why))
	}
}

// answer publishes the answer to m; one that does not fit becomes an error that
// says so. Where m went to many, the answer tells whose it is.
func (d *dispatcher) answer(m, a *nats.Msg) {
	d.r.bundles.flush()
	unsigned := false
	if strings.HasPrefix(m.Subject, d.many) {
		if strings.HasPrefix(m.Reply, d.inboxes) && m.Reply[len(m.Reply)-1] == wire.AnswerMark {
			a.Reply = d.r.bundles.reply
		} else {
			unsigned = true
			d.sign(a)
		}
	}
	err := d.r.nc.PublishMsg(a)
	if errors.Is(err, nats.ErrMaxPayload) {
		reply := a.Reply
		a = errorAnswer(a.Subject, codeTooLarge,
			fmt.Sprintf("the answer of %d bytes is larger than the server takes", len(a.Data)))
		a.Reply = reply
		if unsigned {
			d.sign(a)
		}
		err = d.r.nc.PublishMsg(a)
	}
	if err != nil {
		d.r.log.Warn("answer not sent", "subject", a.Subject, "err", err)
	}
}

// sign writes into an answer whose it is.
func (d *dispatcher) sign(a *nats.Msg) {
	if a.Header == nil {
		a.Header = make(nats.Header, 1)
	}
	a.Header[wire.HeaderFrom] = []string{d.r.id}
}
