package routing

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
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
	if in := c.replies.Load(); in == nil || in.base() != prefix {
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
		if c.replies.Load() == nil {
			c.nodes = r.cluster.CallNodePrefix()
		}
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

// drainCalls takes no new requests, answers those that have arrived, and
// returns when the answers are with the server.
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
// often while no handler hangs, and sleeps while nothing arrives. Kinds that have been slow get a goroutine per message at
// once, so that the leader is free.
type dispatcher struct {
	r       *Router
	in      chan *nats.Msg
	subs    map[*nats.Subscription]*served // not written after subscribe
	inboxes string                         // the InboxRoot of the cluster

	leader atomic.Pointer[leader]
	watch  watchdog

	running sync.WaitGroup // leaders, and handlers in goroutines of their own
	started sync.Once
	drained chan struct{} // closed when everything that will ever arrive is in the channel
	closing chan struct{} // closed when nothing may begin any more
	done    chan struct{} // closed when running is zero for good

	isClosing atomic.Bool // closing is closed

	drainOnce, closeOnce, doneOnce sync.Once
}

// served is one kind as the dispatcher sees it.
type served struct {
	*kind
	d *dispatcher

	// mean is the moving mean of how long its handler takes, in nanoseconds.
	mean atomic.Int64

	mu      sync.Mutex
	running int
	waiting []*nats.Msg // at-most-once messages without a place
	dropped uint64
}

func newDispatcher(r *Router) *dispatcher {
	d := &dispatcher{
		r:       r,
		in:      make(chan *nats.Msg, callBuffer),
		subs:    make(map[*nats.Subscription]*served, 3*len(r.kinds)),
		inboxes: r.cluster.InboxRoot(),
		drained: make(chan struct{}),
		closing: make(chan struct{}),
		done:    make(chan struct{}),
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
		d.promote()
		go d.guard()
	})
}

// drain is the soft stop.
func (d *dispatcher) drain(ctx context.Context) error {
	var errs []error
	d.drainOnce.Do(func() {
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
		close(d.drained)
	})
	go d.finish()
	select {
	case <-d.done:
	case <-ctx.Done():
		return errors.Join(append(errs, fmt.Errorf("handlers of calls still run: %w", ctxReason(ctx)))...)
	}
	// The answers are still on their way.
	return errors.Join(append(errs, flush(ctx, d.r.nc))...)
}

// close is the hard stop; the ctx of the handlers has ended.
func (d *dispatcher) close() {
	d.closeOnce.Do(func() {
		d.isClosing.Store(true)
		close(d.closing)
		d.unsubscribe()
		d.refuseRest()
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
			d.refuse(m, wire.RefusedLeaving)
		default:
			return
		}
	}
}

func (d *dispatcher) refuse(m *nats.Msg, why string) {
	if wantsAnswer(m.Reply) {
		d.answer(refusal(m.Reply, why))
	}
}

// answer publishes an answer; one that does not fit becomes an error that says so.
func (d *dispatcher) answer(a *nats.Msg) {
	var err error
	if a.Header == nil {
		err = d.r.nc.Publish(a.Subject, a.Data)
	} else {
		err = d.r.nc.PublishMsg(a)
	}
	if errors.Is(err, nats.ErrMaxPayload) {
		err = d.r.nc.PublishMsg(errorAnswer(a.Subject, codeTooLarge,
			fmt.Sprintf("the answer of %d bytes is larger than the server takes", len(a.Data))))
	}
	if err != nil {
		d.r.log.Warn("answer not sent", "subject", a.Subject, "err", err)
	}
}

// leader is one goroutine that reads the channel, for as long as it is the leader.
type leader struct {
	// at is even while it waits for a message and odd while it runs a handler,
	// and grows by one with each change; deposed when another took its place.
	at atomic.Uint64
	// kind is what it runs, or ran last.
	kind atomic.Pointer[served]
}

const deposed = ^uint64(0)

// promote makes a new goroutine the leader.
func (d *dispatcher) promote() {
	l := &leader{}
	d.leader.Store(l)
	d.running.Go(func() { d.lead(l) })
}

func (d *dispatcher) lead(l *leader) {
	ended := false
	defer func() {
		// A handler that ends its goroutine (t.FailNow does) ends the leader.
		if at := l.at.Load(); !ended && at != deposed && l.at.CompareAndSwap(at, deposed) {
			d.promote()
		}
	}()
	for {
		var m *nats.Msg
		select { // one channel alone is cheap to look at
		case m = <-d.in:
		default:
			select {
			case m = <-d.in:
			case <-d.closing:
				ended = true
				return
			case <-d.drained:
				select {
				case m = <-d.in:
				default:
					ended = true
					return
				}
			}
		}
		if d.isClosing.Load() {
			d.refuse(m, wire.RefusedLeaving)
			continue
		}
		if !d.take(l, m) {
			ended = true
			return
		}
	}
}

// take handles one message; it returns false when l is not the leader any more.
func (d *dispatcher) take(l *leader, m *nats.Msg) bool {
	s := d.subs[m.Sub]
	if s == nil || m.Header != nil && !isFor(m.Header, d.r.id) {
		return true
	}
	switch s.enter(m) {
	case full:
		d.refuse(m, wire.RefusedBusy)
		return true
	case queued:
		return true
	}
	if s.mean.Load() > int64(slowKind) {
		d.running.Go(func() { s.handle(m) })
		return true
	}
	l.kind.Store(s)
	at := l.at.Add(1)
	d.watch.begin()
	s.handle(m)
	return l.at.CompareAndSwap(at, at+1)
}

const (
	// watchEvery is how often the watchdog looks; a hanging handler keeps the
	// messages behind it waiting for one to two of it.
	watchEvery = 500 * time.Microsecond
	// watchSeldom takes its place where no handler has hung for watchCalm: on
	// two cores, 2,000 looks per second cost a lone caller a fifth of its calls.
	watchSeldom = 5 * time.Millisecond
	watchCalm   = time.Second
	// watchIdle is for how long nothing must happen before it goes to sleep.
	watchIdle = 20 * time.Millisecond
	// slowKind is the mean from which on a kind gets a goroutine per message.
	slowKind = 200 * time.Microsecond
	// meanWeight is the share of one message in the moving mean, as a divisor.
	meanWeight = 8
)

// watchdog wakes when a handler begins and sleeps while nothing happens.
type watchdog struct {
	asleep atomic.Bool
	wake   chan struct{}
}

// begin is called by the leader before a handler; it costs a load while the
// watchdog is awake.
func (w *watchdog) begin() {
	if w.asleep.Load() && w.asleep.CompareAndSwap(true, false) {
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

// guard is the loop of the watchdog.
func (d *dispatcher) guard() {
	every := watchEvery
	timer := time.NewTimer(every)
	defer timer.Stop()
	var last *leader
	var lastAt uint64
	var idle, calm time.Duration
	for {
		select {
		case <-timer.C:
		case <-d.done:
			return
		}
		l := d.leader.Load()
		at := l.at.Load()
		idle, calm = idle+every, calm+every
		switch {
		case l != last || at != lastAt:
			idle = 0
		case at%2 == 1:
			idle = 0
			if l.at.CompareAndSwap(at, deposed) {
				// The next of the kind do not have to hang as well to be known as slow.
				s := l.kind.Load()
				s.mean.Store(max(s.mean.Load(), int64(watchEvery)))
				d.promote()
				calm = 0
			}
		}
		last, lastAt = l, at
		if idle >= watchIdle {
			idle = 0
			d.watch.asleep.Store(true)
			// A handler that began before it saw asleep is seen here.
			if d.leader.Load() == l && l.at.Load() == at {
				select {
				case <-d.watch.wake:
				case <-d.done:
					return
				}
			}
			d.watch.asleep.Store(false)
		}
		every = watchEvery
		if calm >= watchCalm {
			every = watchSeldom
		}
		timer.Reset(every)
	}
}

// entry says what becomes of a message on arrival.
type entry int

const (
	runs   entry = iota // it has a place
	queued              // it waits for one, or is dropped
	full                // it has none
)

// enter looks for a place for m.
func (s *served) enter(m *nats.Msg) entry {
	call := wantsAnswer(m.Reply)
	s.mu.Lock()
	switch {
	case s.running < callLimit:
		s.running++
		s.mu.Unlock()
		return runs
	case call:
		s.mu.Unlock()
		return full
	case len(s.waiting) < castQueue:
		s.waiting = append(s.waiting, m)
		s.mu.Unlock()
		return queued
	}
	s.dropped++
	n := s.dropped
	s.mu.Unlock()
	if n&(n-1) == 0 { // the first, second, fourth...: a flood must not flood the log
		s.d.r.log.Warn("at-most-once messages dropped: handlers are too slow", "kind", s.name, "dropped", n)
	}
	return queued
}

// leave gives a place back; a message that waited takes it over.
func (s *served) leave() *nats.Msg {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) == 0 {
		s.running--
		return nil
	}
	m := s.waiting[0]
	s.waiting[0] = nil
	s.waiting = s.waiting[1:]
	if len(s.waiting) == 0 {
		s.waiting = nil
	}
	return m
}

// handle runs the handler for m, answers, and gives the place of m back.
func (s *served) handle(m *nats.Msg) {
	d := s.d
	var a Raw
	err := errGoexit // unless the handler returns
	defer func() {
		s.answer(m, a, err)
		if next := s.leave(); next != nil {
			d.running.Go(func() { s.handle(next) })
		}
	}()
	start := time.Now()
	var req request
	if err = decodeRequest(&req, d.inboxes, m); err != nil {
		return
	}
	err = errGoexit
	req.msg.Body.Name = s.name
	req.msg.Sent = start
	ctx, cancel := s.context(req.timeout, m.Header)
	defer cancel()
	a, err = s.call(ctx, &req.msg)
	took := int64(time.Since(start))
	mean := s.mean.Load()
	s.mean.Store(mean + (took-mean)/meanWeight)
}

var errGoexit = errors.New("the handler ended its goroutine")

// answer tells the caller of m how it ended.
func (s *served) answer(m *nats.Msg, a Raw, err error) {
	d := s.d
	switch {
	case !wantsAnswer(m.Reply):
		if err != nil {
			d.r.log.Warn("at-most-once message failed", "kind", s.name, "subject", m.Subject, "err", err)
		}
	case errors.Is(err, errVersion):
		d.refuse(m, wire.RefusedVersion)
	case errors.Is(err, errRequest):
		d.answer(errorAnswer(m.Reply, codeBadRequest, err.Error()))
	case err != nil:
		d.answer(failureAnswer(m.Reply, err))
	case !s.opts.Reply:
		d.answer(&nats.Msg{Subject: m.Reply})
	default:
		d.answer(successAnswer(m.Reply, a))
	}
}

// context is the ctx of one handler: it ends with limit, the caller's deadline,
// or with the time limit of the kind, and in Close. It is the router's own where there is
// neither.
func (s *served) context(limit time.Duration, h nats.Header) (context.Context, context.CancelFunc) {
	ctx := s.d.r.ctx
	if h != nil {
		ctx = withTrace(ctx, h)
	}
	if l := s.opts.TimeLimit; l > 0 && (limit == 0 || l < limit) {
		limit = l
	}
	if limit == 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, limit)
}

// call runs the handler; a panic is an error without the stack, which is for
// the log of this node only.
func (s *served) call(ctx context.Context, m *Msg[Raw]) (a Raw, err error) {
	defer func() {
		if v := recover(); v != nil {
			s.d.r.log.Error("handler panicked", "kind", s.name, "from", m.From, "panic", v, "stack", string(debug.Stack()))
			a, err = Raw{}, fmt.Errorf("handler panicked: %v", v)
		}
	}()
	return s.handler(ctx, m)
}
