package kvregistry

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

const (
	// catchUpEvery is how often a member makes sure that it has missed nothing.
	catchUpEvery = 30 * time.Second
	// behindWait is how long a view may be behind another before it catches up: a
	// message may be on its way.
	behindWait = 100 * time.Millisecond
	// minRetry and maxRetry bound the pause before the store is asked again, in a
	// small cluster.
	minRetry = 50 * time.Millisecond
	maxRetry = 2 * time.Second
	// retriesPerSecond is how often a whole cluster asks at most: a store that
	// does not answer in time may have too much to do already.
	retriesPerSecond = 500
	// backWait is how long a store must say that it is older than the table
	// before it is believed: longer than an election. A leader that was cut off
	// knows less than the others until it has heard of the new one.
	backWait = 15 * time.Second
)

// errBack means that the store says to be older than it was.
var errBack = errors.New("kvregistry: the store is behind what it had: an old leader, or writes were lost")

// syncState is the reading of the store.
type syncState struct {
	running bool
	again   bool
	// full asks for everything instead of what is new.
	full bool
	// held are the messages of the feed that came during the reading.
	held  []change
	known identity
	// at is when the table was last known to be complete.
	at time.Time
	// back is since when the store says to be older than the table; zero when it does not.
	back  time.Time
	retry time.Duration
	due   time.Time
	// lag is when a view that is behind another one, of revision ahead, is looked
	// at again, and lagged how far it was. Zero when it is not known to be behind.
	lag           time.Time
	lagged, ahead uint64
}

// heard takes what a ping told of its sender's view; peerAt the revision that a
// pong told.
func (s *session) heard(p ping) {
	if !s.holding() {
		if p.Size > 0 {
			s.size.Store(int64(min(p.Size, maxConsumers)))
		}
		return
	}
	if revision := p.Revision; revision > s.hub.revision.Load() {
		s.post(func() { s.peerAt(revision) })
	}
}

// peerAt notes that somebody has a view of that revision.
func (s *session) peerAt(revision uint64) {
	if revision <= s.table.complete || s.sync.running {
		return
	}
	s.sync.ahead = max(s.sync.ahead, revision)
	if s.sync.lag.IsZero() {
		s.sync.lag, s.sync.lagged = time.Now().Add(behindWait), s.table.complete
	}
}

// lagging looks again at a view that was behind. One that has got further since
// misses nothing, or it would have met a hole: it is slow, and reading the store
// would make it slower.
func (s *session) lagging(now time.Time) {
	if s.sync.lag.IsZero() || now.Before(s.sync.lag) {
		return
	}
	s.sync.lag = time.Time{}
	if s.table.complete == s.sync.lagged {
		s.resync(false)
		return
	}
	s.peerAt(s.sync.ahead)
}

// reading is what a reading of the store has found.
type reading struct {
	changes []change
	through uint64
	id      identity
	// all means that changes are everything that the store has; anew, that the
	// store is another one than before.
	all, anew bool
}

// resync reads what is new in the store, or everything when full. One reading
// runs at a time; another one follows when it was asked for meanwhile.
func (s *session) resync(full bool) {
	s.sync.full = s.sync.full || full
	if s.sync.running {
		s.sync.again = true
		return
	}
	if !s.link.up {
		return // the reconnect asks again
	}
	if !s.holding() {
		s.sync.full = false
		s.lookAtStore()
		return
	}
	// The marks of what was deleted are kept for a time only.
	full = s.sync.full || !s.synced || time.Since(s.sync.at) > markerTTL*9/10
	s.sync.running, s.sync.again, s.sync.full = true, false, false
	s.sync.due, s.sync.lag, s.sync.ahead = time.Time{}, time.Time{}, 0
	complete, known := s.table.complete, s.sync.known
	believe := !s.sync.back.IsZero() && time.Since(s.sync.back) > backWait
	s.work(func(ctx context.Context) func() {
		r, err := s.read(ctx, complete, known, full, believe)
		return func() { s.settle(r, full, err) }
	})
}

// compare tells what the store that is found is to one that was known, of which
// the table has everything up to revision complete: made anew, or older than it
// was.
func (known identity) compare(found identity, complete uint64) (anew, back bool) {
	anew = !known.created.IsZero() && !known.created.Equal(found.created)
	return anew, !anew && found.last < complete
}

// read asks the leader what the store is and reads what is new in it, or all.
// A store that is not there any more is made again. One that is older than it
// was is an error, unless it is to be believed: then it has lost writes.
func (s *session) read(ctx context.Context, complete uint64, known identity, full, believe bool) (r reading, err error) {
	r.id, err = s.identifyOrMake(ctx, complete)
	if err != nil {
		return r, err
	}
	anew, back := known.compare(r.id, complete)
	if back && !believe {
		return r, errBack
	}
	r.anew = anew || back
	r.all = full || r.anew
	from := complete
	if r.all {
		from = 0
	}
	r.changes, r.through, err = s.store.snapshot(ctx, from, r.id)
	return r, err
}

// settle takes the end of a reading.
func (s *session) settle(r reading, full bool, err error) {
	now := time.Now()
	s.sync.running = false
	held := s.sync.held
	s.sync.held = nil
	if err != nil {
		if !s.synced && errors.Is(err, ErrDenied) {
			s.stop(err) // no Join can come of it
			return
		}
		s.sync.full = s.sync.full || full
		s.unread(now, err)
		s.deltas(held)
		return
	}
	s.sync.known, s.sync.at, s.sync.retry = r.id, now, 0
	if r.anew {
		s.log.Warn("the registry's bucket was made anew: showing this node again, the others do the same")
	}
	if r.all {
		s.changed(s.table.rebase(r.changes, r.through, r.anew))
	} else {
		s.changed(s.table.catchUp(r.changes, r.through))
	}
	s.synced = true
	s.setFresh()
	s.deltas(held)
	if s.own != nil {
		if e := s.table.entries[s.cfg.Node]; s.own.stored.Load() != 0 && (e == nil || e.missing || e.read != s.own.stored.Load()) {
			s.own.wantLook()
		}
	}
	if s.sync.again || s.sync.full || s.table.behind() {
		s.resync(false)
		return
	}
	if s.sync.due.IsZero() {
		// Spread, so that nodes do not ask all at once.
		s.sync.due = now.Add(catchUpEvery - rand.N(catchUpEvery/5))
	}
}

// unread plans the next attempt to ask the store.
func (s *session) unread(now time.Time, err error) {
	s.log.Debug("the store was not read", "err", err)
	s.setStale(now)
	shared := time.Duration(s.size.Load()) * time.Second / retriesPerSecond
	s.sync.retry = min(max(2*s.sync.retry, minRetry, shared/10), max(maxRetry, shared))
	s.sync.due = now.Add(s.sync.retry + rand.N(s.sync.retry))
}

// deltas takes messages of the feed that were held back.
func (s *session) deltas(held []change) {
	for _, c := range held {
		events, gap := s.table.delta(c)
		s.changed(events)
		s.sync.again = s.sync.again || gap
	}
}
