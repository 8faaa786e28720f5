package kvregistry

import (
	"cmp"
	"slices"
	"time"
)

// The timing of suspicion. All of it is counted from probes and advisories,
// never from another host's clock.
const (
	// recheckWait is when somebody whose tripwire is still there is looked at again.
	recheckWait = 250 * time.Millisecond
	// tripwireLimit is how long a tripwire that is there speaks for somebody
	// whom no probe finds: it may hang on a server that has stopped.
	tripwireLimit = 10 * time.Second
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

// trace is what is left of somebody's tripwire.
type trace int

const (
	// tripped: there is none; whoever had it was away for its grace, at least.
	tripped trace = iota + 1
	// intact: the newest one is there.
	intact
	// unsure: nobody could tell.
	unsure
)

// actionKind is what the shell is to do for the guard.
type actionKind int

const (
	probeIt actionKind = iota + 1
	inspectIt
	buryIt
)

// action is one thing for the shell to do. It reports the outcome of each:
// answered for a probe, inspected for a look at the tripwire, buried for a
// verdict.
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
	// advised means that its absence is said to have outlasted its grace
	// already: the server took a tripwire away, or its beat ran out.
	advised bool
	// over means that its absence has outlasted its grace: its tripwire was
	// looked for since and is not there. The next probe decides.
	over bool
}

// clear drops what is held against s.
func (s *suspect) clear() { s.since, s.advised, s.over = time.Time{}, false, false }

// guard decides who is gone. It is fed with who is to be watched, with
// advisories and the ends of probes, and says whom to probe and whom to bury.
//
// The rule: gone is who had no listener, whose grace is then over, and who still
// has no listener. The grace is over when it has passed since the first probe,
// or at once when an advisory says so; and in both cases only when the
// tripwire is not there: a tripwire that is there proves that its owner was
// connected within the grace, however often a probe missed it. An answer, or a
// loss of the guard's own connection, clears what was held against somebody.
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
		s.clear()
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
		s.clear()
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
		s.since, s.over = time.Time{}, false
		s.next = now.Add(verdictRetry)
	case nobody:
		if s.since.IsZero() {
			s.since = now
		}
		due := s.since.Add(s.grace)
		switch {
		case s.over && !now.Before(g.frozen):
			s.busy, s.next = true, time.Time{}
			actions = append(actions, action{kind: buryIt, life: l, reason: ReasonCrashed})
		case !s.over && (s.advised || !now.Before(due)):
			s.busy, s.next = true, time.Time{}
			actions = append(actions, action{kind: inspectIt, life: l})
		default:
			// An advisory may come meanwhile, and so may the node.
			s.next = earlier(later(due, g.frozen), now.Add(g.every))
		}
	}
	return actions
}

// inspected takes the end of a look at a tripwire. Whatever it is, the next
// act is a fresh probe.
func (g *guard) inspected(l life, found trace, now time.Time) {
	s := g.suspects[l]
	if s == nil {
		return
	}
	s.busy = false
	if s.since.IsZero() {
		// Cleared meanwhile.
		s.next = now
		return
	}
	waited := now.Sub(s.since)
	switch {
	case found == tripped, found == unsure && waited >= s.grace, waited >= tripwireLimit:
		s.over, s.next = true, now
	default:
		s.advised = false
		s.next = now.Add(recheckWait)
	}
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
		if s.clear(); s.idle() {
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
