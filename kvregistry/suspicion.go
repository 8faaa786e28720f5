package kvregistry

import (
	"cmp"
	"slices"
	"time"
)

// The timing of suspicion. All of it is counted from probes and advisories,
// never from another host's clock.
const (
	// confirmWait is between the two probes after an advisory: the grace was
	// already waited for by the server.
	confirmWait = 20 * time.Millisecond
	// silenceWait is when a probe that nobody answered is repeated.
	silenceWait = time.Second
	// serverGrace is how long nobody is declared gone after the watcher found
	// itself on another server, or on one that has restarted: the others come
	// back one by one. It is counted from the first cause and never added up.
	serverGrace = 10 * time.Second
	// verdictRetry is when a verdict that could not be written is tried again,
	// with a fresh probe before it.
	verdictRetry = 250 * time.Millisecond
)

// life is one incarnation of a node.
type life struct {
	id          string
	incarnation uint64
}

// answer is how a probe ended.
type answer int

const (
	// alive: it answered.
	alive answer = iota + 1
	// nobody: the server knows of no listener.
	nobody
	// silence: somebody listens and did not answer in time.
	silence
	// void: the probe proves nothing, because the prober's own connection was
	// lost meanwhile or could not be used.
	void
)

// actionKind is what the shell is to do for the guard.
type actionKind int

const (
	probeIt actionKind = iota + 1
	buryIt
)

// action is one thing for the shell to do. It reports the outcome of each:
// answered for a probe, buried for a verdict.
type action struct {
	kind   actionKind
	life   life
	reason Reason
}

// suspect is one watched incarnation.
type suspect struct {
	life
	grace time.Duration
	// ward means that this node is one of its watchers and probes it at every
	// interval; otherwise it is only looked at for a cause, once.
	ward bool
	// next is when it is to be probed; zero while a probe or a verdict is under way.
	next time.Time
	busy bool
	// since is when a probe first found nobody, of those found in a row.
	since time.Time
	// advised means that its absence has already outlasted its grace: the
	// server took its tripwire away, or its beat ran out.
	advised bool
}

// guard decides who is gone. It is fed with who is to be watched, with
// advisories and the ends of probes, and says whom to probe and whom to bury.
//
// The rule: gone is who had no listener twice in a row, the second time at
// least one grace after the first, or at once when a grace is known to be
// over. An answer, or a loss of the guard's own connection, clears what was
// held against somebody.
//
// It is pure: the time is handed in.
type guard struct {
	suspects map[life]*suspect
	// every is the interval between two probes of a ward.
	every time.Duration
	// frozen is until when nobody is declared gone; zero when nothing froze it.
	frozen time.Time
	down   bool
}

func newGuard() *guard {
	return &guard{suspects: map[life]*suspect{}, every: time.Second}
}

// watch sets the wards. A new one is probed at once.
func (g *guard) watch(wards []suspect, every time.Duration, now time.Time) {
	g.every = every
	keep := make(map[life]bool, len(wards))
	for _, w := range wards {
		keep[w.life] = true
		s := g.suspects[w.life]
		if s == nil {
			s = &suspect{life: w.life, next: now}
			g.suspects[w.life] = s
		}
		s.grace, s.ward = w.grace, true
	}
	for l, s := range g.suspects {
		if !keep[l] {
			s.ward = false
			if s.idle() {
				delete(g.suspects, l)
			}
		}
	}
}

// idle tells whether nothing is held against s.
func (s *suspect) idle() bool { return s.since.IsZero() && !s.advised && !s.busy && !s.ward }

// accuse probes l at once. advised says that its absence has already outlasted
// its grace.
func (g *guard) accuse(l life, grace time.Duration, advised bool, now time.Time) {
	s := g.suspects[l]
	if s == nil {
		s = &suspect{life: l}
		g.suspects[l] = s
	}
	s.grace = grace
	s.advised = s.advised || advised
	if !s.busy {
		s.next = now
	}
}

// forget drops an incarnation that has ended.
func (g *guard) forget(l life) { delete(g.suspects, l) }

// link tells of the guard's own connection: that it is lost, or is there again
// on the same run of the same server or on another one.
func (g *guard) link(up, sameServer bool, now time.Time) {
	g.down = !up
	for _, s := range g.suspects {
		// What was seen through the old connection proves nothing.
		s.since, s.advised = time.Time{}, false
		if up && !s.busy {
			s.next = now
		}
	}
	if up && !sameServer && !now.Before(g.frozen) {
		g.frozen = now.Add(serverGrace)
	}
}

// answered takes the end of a probe.
func (g *guard) answered(l life, a answer, now time.Time) (actions []action) {
	s := g.suspects[l]
	if s == nil {
		return nil
	}
	s.busy = false
	switch a {
	case alive:
		s.since, s.advised = time.Time{}, false
		s.next = now.Add(g.every)
		if s.idle() {
			delete(g.suspects, l)
		}
	case silence:
		s.next = now.Add(silenceWait)
		if !s.ward && !s.advised && s.since.IsZero() {
			delete(g.suspects, l)
		}
	case void:
		s.since = time.Time{}
		s.next = now.Add(verdictRetry)
	case nobody:
		first := s.since.IsZero()
		if first {
			s.since = now
		}
		due := s.since.Add(s.grace)
		if s.advised {
			due = s.since.Add(confirmWait)
		}
		due = later(due, g.frozen)
		if first || now.Before(due) {
			s.next = due
			if !s.advised {
				// An advisory may come meanwhile, and so may the node.
				s.next = earlier(due, now.Add(g.every))
			}
			break
		}
		s.busy, s.next = true, time.Time{}
		actions = append(actions, action{kind: buryIt, life: l, reason: ReasonCrashed})
	}
	return actions
}

// buried tells how a verdict went. One that was not written is tried again
// after a fresh probe; one that was, or that the store refused because
// something newer is there, is over: the feed tells the rest.
func (g *guard) buried(l life, written bool, now time.Time) {
	s := g.suspects[l]
	if s == nil {
		return
	}
	s.busy = false
	if written {
		if s.since, s.advised = (time.Time{}), false; s.idle() {
			delete(g.suspects, l)
			return
		}
		s.next = now.Add(g.every)
		return
	}
	s.next = now.Add(verdictRetry)
}

// tick returns the probes that are due.
func (g *guard) tick(now time.Time) (actions []action) {
	if g.down {
		return nil
	}
	for l, s := range g.suspects {
		if s.busy || now.Before(s.next) {
			continue
		}
		s.busy = true
		actions = append(actions, action{kind: probeIt, life: l})
	}
	slices.SortFunc(actions, func(a, b action) int {
		return cmp.Or(cmp.Compare(a.life.id, b.life.id), cmp.Compare(a.life.incarnation, b.life.incarnation))
	})
	return actions
}

// next is when tick is due; false when nothing is waiting for time to pass.
func (g *guard) nextTick() (at time.Time, ok bool) {
	if g.down {
		return at, false
	}
	for _, s := range g.suspects {
		if !s.busy && (!ok || s.next.Before(at)) {
			at, ok = s.next, true
		}
	}
	return at, ok
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
