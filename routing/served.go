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
	// slowKind is the mean from which on a kind gets a goroutine per message.
	slowKind = 200 * time.Microsecond
	// meanWeight is the share of one message in the moving mean, as a divisor.
	meanWeight = 8
	// outlier is the most that one message adds to the mean. A handler that is
	// held up once, by the scheduler as a rule, is not slow for a hundred messages.
	outlier = 10 * slowKind
)

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

// entry says what becomes of a message on arrival.
type entry int

const (
	runs   entry = iota // it has a place
	queued              // it waits for one, or is dropped
	full                // it has none
)

// enter looks for a place for m, which l has read. A paused kind has none.
func (s *served) enter(m *nats.Msg, l *leader) entry {
	call := wantsAnswer(m.Reply)
	if s.lane.paused.Load() {
		if call {
			return full
		}
		return queued
	}
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
		s.waiting = append(s.waiting, l.own(m))
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

// leave gives a place back; a message that waited takes it over, unless the kind
// was paused since.
func (s *served) leave() *nats.Msg {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lane.paused.Load() {
		s.waiting = nil
	}
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

// work runs m, and then what waited for its place: in a flood a goroutine takes
// the queue along.
func (s *served) work(m *nats.Msg) {
	var now time.Time
	for m != nil {
		m = s.handle(m, &now)
	}
}

// handle runs m and gives its place back. It returns the message that takes the
// place over, or nil; where the handler ends its goroutine another one goes on.
//
// now is the time, or zero; it is left as the time when the handler has ended. To
// look at the clock takes as long as much of the rest.
func (s *served) handle(m *nats.Msg, now *time.Time) (next *nats.Msg) {
	returned := false
	defer func() {
		if next = s.leave(); next != nil && !returned {
			rest := next // for the other goroutine: next itself stays off the heap
			s.d.running.Go(func() { s.work(rest) })
		}
	}()
	s.run(m, now)
	returned = true
	return nil
}

// run runs the handler for m, and answers.
func (s *served) run(m *nats.Msg, now *time.Time) {
	d := s.d
	var a Raw
	err := errGoexit // unless the handler returns
	defer func() { s.answer(m, a, err) }()
	start := *now
	if start.IsZero() {
		start = time.Now()
	}
	*now = time.Time{}
	var req request
	if err = decodeRequest(&req, d.inboxes, m); err != nil {
		return
	}
	life := d.r.life.Load()
	if life.over.Load() {
		err = errOver
		return
	}
	err = errGoexit
	req.msg.Body.Name = s.name
	req.msg.Sent = start
	ctx := life.ctx
	if m.Header != nil {
		ctx = withTrace(ctx, m.Header)
	}
	if most := s.limit(req.timeout); most > 0 {
		l := limit(ctx, start.Add(most), nil)
		defer l.end()
		ctx = l
	}
	s.tally.calls.begin()
	defer func() {
		took := time.Since(start)
		*now = start.Add(took)
		s.tally.calls.end(took)
		mean := s.mean.Load()
		s.mean.Store(mean + (int64(min(took, outlier))-mean)/meanWeight)
		if err != nil {
			err = s.failed(m, life, err)
		}
	}()
	a, err = s.call(ctx, &req.msg)
}

// failed notes that a run failed, and returns what its caller is to hear.
func (s *served) failed(m *nats.Msg, l *life, err error) error {
	if l.ctx.Err() == nil || !isEnd(l.ctx, err) {
		s.tally.fail(err)
		return err
	}
	if _, ours := wire.CallerUnder(s.d.inboxes, m.Reply); ours && l.over.Load() {
		return errLetGo
	}
	return err
}

var (
	errGoexit = errors.New("the handler ended its goroutine")
	// errOver is for what did not begin because of an eviction.
	errOver = errors.New("evicted before it began")
	// errLetGo is for what failed because of one, and was called by a node: that
	// node sees the eviction too.
	errLetGo = errors.New("evicted while it ran")
)

// isEnd reports whether err is that ctx has ended.
func isEnd(ctx context.Context, err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(ctx))
}

// answer tells the caller of m how it ended.
func (s *served) answer(m *nats.Msg, a Raw, err error) {
	d := s.d
	switch {
	case errors.Is(err, errOver):
		d.refuse(m, wire.RefusedLeaving)
	case !wantsAnswer(m.Reply):
		if err != nil {
			d.r.log.Warn("at-most-once message failed", "kind", s.name, "subject", m.Subject, "err", err)
		}
	case errors.Is(err, errLetGo): // the caller knows
	case errors.Is(err, errVersion):
		d.refuse(m, wire.RefusedVersion)
	case errors.Is(err, errRequest):
		d.answer(m, errorAnswer(m.Reply, codeBadRequest, err.Error()))
	case err != nil:
		d.answer(m, failureAnswer(m.Reply, err))
	case !s.opts.Reply:
		d.answer(m, &nats.Msg{Subject: m.Reply})
	default:
		d.answer(m, successAnswer(m.Reply, a))
	}
}

// limit is how long a handler may run: the caller's time, or the time limit of
// the kind, whichever is less; 0 is for ever.
func (s *served) limit(callers time.Duration) time.Duration {
	if t := s.opts.TimeLimit; t > 0 && (callers == 0 || t < callers) {
		return t
	}
	return callers
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
