package routing

import (
	"sync/atomic"
	"time"
)

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
		case at%2 == 1 && at != deposed:
			idle = 0
			if l.at.CompareAndSwap(at, deposed) {
				// The next of the kind do not have to hang as well to be known as slow.
				s := l.kind.Load()
				s.mean.Store(max(s.mean.Load(), int64(watchEvery)))
				d.promote(l)
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
