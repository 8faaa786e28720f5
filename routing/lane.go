package routing

import (
	"slices"
	"sync"
	"sync/atomic"
)

// lane runs the durable messages of one kind, up to its concurrency side by
// side, whichever way they came. Workers live as long as there is work: under
// load no goroutine is made per message, and none is left when it is quiet.
type lane struct {
	r       *Router
	kind    *kind
	sources []*puller // that are told of free slots; not written after Prepare

	size atomic.Int64 // waiting and running

	// paused says that nothing begins; written under mu.
	paused atomic.Bool

	mu      sync.Mutex
	waiting []*delivery
	head    int // of waiting
	running int
	closed  bool
	idle    chan struct{} // closed when nothing runs any more, after close
}

func newLane(r *Router, k *kind) *lane { return &lane{r: r, kind: k, idle: make(chan struct{})} }

// load is how many messages the lane has.
func (l *lane) load() int { return int(l.size.Load()) }

// put takes a message. A closed lane hands it back.
func (l *lane) put(d *delivery) {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		d.finish(ackNak)
		return
	}
	l.size.Add(1)
	l.waiting = append(l.waiting, d)
	start := !l.paused.Load() && l.running < l.kind.opts.Concurrency
	if start {
		l.running++
	}
	l.mu.Unlock()
	if start {
		l.r.wg.Go(l.work)
	}
}

// work runs messages until none waits.
func (l *lane) work() {
	for {
		d := l.next()
		if d == nil {
			return
		}
		l.run(d)
	}
}

// run runs one message. A handler that ends its goroutine (t.FailNow does) has
// failed, and another worker takes over.
func (l *lane) run(d *delivery) {
	returned := false
	defer func() {
		l.size.Add(-1)
		l.tell()
		if !returned {
			l.r.wg.Go(l.work)
		}
	}()
	l.r.attempt(d)
	returned = true
}

// next takes the oldest message, or ends the worker.
func (l *lane) next() *delivery {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.head == len(l.waiting) {
		l.waiting, l.head = l.waiting[:0], 0
	}
	if l.head == len(l.waiting) || l.paused.Load() {
		l.running--
		if l.closed && l.running == 0 {
			close(l.idle)
		}
		return nil
	}
	d := l.waiting[l.head]
	l.waiting[l.head] = nil
	l.head++
	return d
}

// dropOver drops what has not begun and came in a life that is over.
func (l *lane) dropOver() {
	l.mu.Lock()
	kept := slices.DeleteFunc(l.waiting[l.head:], func(d *delivery) bool { return d.life.over.Load() })
	l.size.Add(int64(len(kept) - len(l.waiting[l.head:])))
	l.waiting, l.head = kept, 0
	l.mu.Unlock()
}

// close takes no more and hands back what has not begun. The returned channel
// is closed when the running handlers have ended.
func (l *lane) close() <-chan struct{} {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return l.idle
	}
	l.closed = true
	back := l.waiting[l.head:]
	l.waiting, l.head = nil, 0
	if l.running == 0 {
		close(l.idle)
	}
	l.mu.Unlock()
	l.size.Add(int64(-len(back)))
	for _, d := range back {
		d.finish(ackNak)
	}
	return l.idle
}
