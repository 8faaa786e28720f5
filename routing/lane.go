package routing

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// lane runs the durable messages of one kind, up to its concurrency side by
// side, whichever way they came. Workers live as long as there is work, and none
// is left when it is quiet. A kind whose handler takes next to no time has one
// worker: a goroutine for each message would cost as much as all the rest.
// Where that worker has not come back to take the next message for laneWatch,
// the others start.
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

	mean  time.Duration // moving mean of how long the handler takes
	begun uint64        // messages that were taken
	seen  uint64        // begun when the watch was set
	watch *time.Timer   // set while messages wait for the one worker of a fast kind
	set   bool
}

const (
	// fastKind is the mean up to which a kind has one worker. A handler that
	// takes longer gains more by running on several cores than it costs to get
	// there.
	fastKind  = 20 * time.Microsecond
	laneWatch = time.Millisecond
)

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
	start := l.running == 0 || l.mean > fastKind
	start = start && !l.paused.Load() && l.running < l.kind.opts.Concurrency
	if start {
		l.running++
	} else {
		l.setWatch()
	}
	l.mu.Unlock()
	if start {
		l.r.wg.Go(l.work)
	}
}

// setWatch looks after the one worker of a fast kind; l.mu is held.
func (l *lane) setWatch() {
	if l.set || l.mean > fastKind {
		return
	}
	l.set, l.seen = true, l.begun
	if l.watch == nil {
		l.watch = time.AfterFunc(laneWatch, l.look)
		return
	}
	l.watch.Reset(laneWatch)
}

// look starts workers for what waits where the one worker is held up.
func (l *lane) look() {
	l.mu.Lock()
	l.set = false
	waiting, start := len(l.waiting)-l.head, 0
	switch {
	case waiting == 0 || l.closed || l.paused.Load():
	case l.begun != l.seen:
		l.setWatch()
	default:
		// The next of the kind do not have to wait as well to be known as slow.
		l.mean = max(l.mean, laneWatch)
		start = max(min(l.kind.opts.Concurrency-l.running, waiting), 0)
		l.running += start
	}
	l.mu.Unlock()
	for range start {
		l.r.wg.Go(l.work)
	}
}

// work runs messages until none waits.
func (l *lane) work() {
	var took time.Duration
	for d := l.next(0); d != nil; d = l.next(took) {
		took = l.run(d)
	}
}

// run runs one message. A handler that ends its goroutine (t.FailNow does) has
// failed, and another worker takes over.
func (l *lane) run(d *delivery) (took time.Duration) {
	returned := false
	defer func() {
		l.freed(int(l.size.Add(-1)))
		if !returned {
			l.r.wg.Go(l.work)
		}
	}()
	took = l.r.attempt(d)
	returned = true
	return took
}

// freed tells those who order messages for the lane, where that is of use to
// them, that its load has come down to that.
func (l *lane) freed(load int) {
	for _, p := range l.sources {
		if load <= int(p.wanting.Load()) {
			p.lookNow()
		}
	}
}

// next takes the oldest message, or ends the worker; took is how long the handler
// took for the message before.
func (l *lane) next(took time.Duration) *delivery {
	l.mu.Lock()
	defer l.mu.Unlock()
	if took > 0 {
		l.mean += (min(took, outlier) - l.mean) / meanWeight
	}
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
	l.begun++
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
	if l.watch != nil {
		l.watch.Stop()
	}
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
