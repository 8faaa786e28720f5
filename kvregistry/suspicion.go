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
	// hungAfter is how many seconds of rounds without an answer make somebody
	// suspected of hanging. A round counts only when the prober's own path was
	// proven to work during it.
	hungAfter = 3 * time.Second
	// maxUnheard is how many second opinions may stay out before the own one is
	// enough: several may hang at once.
	maxUnheard = 3
	// serverGrace is how long nobody is declared gone after the watcher found
	// itself on another server, or on one that has restarted, and how long one
	// is spared whose own server is found dead: they come back one by one. One
	// failure of a server is both for many, and then the first of them counts;
	// another failure begins another one.
	serverGrace = 10 * time.Second
	// sameFailure is how many rounds after this node found itself on another server
	// an absence may begin and still be of the same failure. A later one is of
	// another.
	sameFailure = 4
	// verdictRetry is when a verdict that could not be written is tried again,
	// with a fresh probe before it.
	verdictRetry = 250 * time.Millisecond
	// lateLimit is how late the guard's own timers may be. A guard that was
	// itself stopped begins anew.
	lateLimit = time.Second
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
	// silence: somebody listens and did not answer in time, although the
	// prober's own path worked.
	silence
	// muffled: no answer in time, and the prober's own path did not work either.
	muffled
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

// opinion is what another member says of somebody who does not answer.
type opinion int

const (
	// refuted: the other one got an answer.
	refuted opinion = iota + 1
	// confirmed: the other one got none, or there is no other one.
	confirmed
	// unheard: the other one did not say.
	unheard
	// worthless: the store takes no writes of this node at once. It may be the one
	// that is cut off, and then nobody else answers it either.
	worthless
)

// actionKind is what the shell is to do for the guard.
type actionKind int

const (
	// probeIt: ask it whether it is there.
	probeIt actionKind = iota + 1
	// inspectIt: look for its tripwire, and whether its server lives.
	inspectIt
	// askIt: ask another member for its opinion, and look whether its server lives.
	askIt
	// buryIt: write the verdict.
	buryIt
)

// action is one thing for the shell to do. It reports the outcome of each:
// answered for a probe, inspected for a look at the tripwire, asked for an
// opinion (the latter two after blamed), buried for a verdict.
type action struct {
	kind actionKind
	life life
	// turn tells the probes of one life apart.
	turn   uint64
	reason Reason
}

// guard decides who is gone. It is fed with who is to be watched, with
// advisories and the ends of probes, and says whom to probe and whom to bury.
//
// The rule for a crash: gone is who had no listener, whose grace is then over, and who still
// has no listener. The grace is over when it has passed since the first probe,
// or at once when an advisory says so; and in both cases only when the
// tripwire is not there: a tripwire that is there proves that its owner was
// connected within the grace, however often a probe missed it.
//
// The rule for a hang: gone is who did not answer for three seconds of rounds
// in which the prober's own path worked, whom another member does not hear
// either while the store takes the prober's writes, and who still does not answer.
//
// Before either verdict the server is blamed: who is connected to a server that
// is found dead is spared for a time, once. An answer clears what was held
// against somebody; so do a loss of the guard's own connection, its own timers
// being late, and the news that a server held for dead lives.
//
// It is pure: the time is handed in.
type guard struct {
	suspects map[life]*suspect
	// every is the interval between two probes of a ward.
	every time.Duration
	// frozen is until when nobody is declared gone; zero when nothing froze it.
	frozen time.Time
	// begun is when this node began to watch, or to do so through another run of
	// a server; zero is never. A tripwire that is not there proves that its owner
	// was away for its grace only when that has passed since: a server forgets
	// all of them when it restarts, and may just have done so.
	begun time.Time
	down  bool
	// due is when the next probe may be due, not later than it is; zero is never.
	due time.Time
}

func newGuard() *guard {
	return &guard{suspects: map[life]*suspect{}, every: time.Second}
}

// begin tells that this node begins to watch.
func (g *guard) begin(now time.Time) { g.begun = now }

// watch takes a ward. A new one is probed at once.
func (g *guard) watch(w suspect, now time.Time) {
	s := g.suspects[w.life]
	if s == nil {
		s = &suspect{life: w.life, next: now, inherited: !g.begun.IsZero() && !now.Before(g.begun.Add(w.grace))}
		g.suspects[w.life] = s
		g.plan(s)
	}
	s.grace, s.ward = w.grace, true
}

// keep drops all wards but those.
func (g *guard) keep(wards map[life]bool) {
	for l, s := range g.suspects {
		if !wards[l] {
			s.ward = false
			if s.idle() {
				delete(g.suspects, l)
			}
		}
	}
}

// until is until when s is not declared gone.
func (g *guard) until(s *suspect) time.Time { return later(s.spared, g.frozen) }

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
	if s.probing && advised {
		// The probe under way may have reached a process that died with it, and
		// would keep everybody waiting: its answer counts, its silence does not.
		s.probing, s.busy = false, false
	}
	if !s.busy {
		s.next = now
		g.plan(s)
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
			g.plan(s)
		}
	}
	if up && !sameServer {
		g.begun = now
		g.frozen = now.Add(serverGrace)
	}
}

// answered takes the end of the probe of that turn.
func (g *guard) answered(l life, turn uint64, a answer, now time.Time) (actions []action) {
	s := g.suspects[l]
	if s == nil || (turn != s.turn || !s.probing) && a != alive {
		return nil
	}
	if turn != s.turn {
		// The answer to an earlier probe: it did not hang when it gave it. It may
		// be gone since.
		s.breakRow()
		return nil
	}
	if !s.probing && s.busy {
		// A late answer, while something else is under way: that something
		// ends with a fresh probe.
		s.clear()
		return nil
	}
	s.busy, s.probing = false, false
	defer g.plan(s)
	until := g.until(s)
	inherited := s.inherited
	s.inherited = false
	switch a {
	case alive:
		s.clear()
		s.spared, s.dead = time.Time{}, false
		s.next = now.Add(g.every)
		if s.idle() {
			delete(g.suspects, l)
		}
	case void:
		s.since, s.quiet, s.over = time.Time{}, 0, false
		s.next = now.Add(verdictRetry)
	case muffled:
		// Neither for it nor against it. It may have been there meanwhile, unheard, so
		// that the rounds of before and after are not in a row.
		s.breakRow()
		s.next = now
	case silence:
		if s.since.IsZero() {
			s.quiet += now.Sub(s.sent)
		} else {
			// A listener again: not absent any more, and perhaps just back.
			s.since, s.quiet, s.over = time.Time{}, 0, false
		}
		switch {
		case s.over && !now.Before(until):
			s.busy, s.next = true, time.Time{}
			actions = append(actions, action{kind: buryIt, life: l, reason: ReasonHung})
		case s.quiet >= hungAfter && !now.Before(until):
			s.busy, s.next = true, time.Time{}
			actions = append(actions, action{kind: askIt, life: l})
		default:
			s.next = now
		}
	case nobody:
		if s.since.IsZero() {
			s.since, s.quiet, s.over = now, 0, false
		}
		due := s.since.Add(s.grace)
		switch {
		case s.over && !now.Before(until):
			s.busy, s.next = true, time.Time{}
			actions = append(actions, action{kind: buryIt, life: l, reason: ReasonCrashed})
		case !s.over && (s.advised || inherited || !now.Before(due)) && !now.Before(until):
			s.busy, s.next = true, time.Time{}
			actions = append(actions, action{kind: inspectIt, life: l})
		default:
			// An advisory may come meanwhile, and so may the node.
			s.next = earlier(later(due, until), now.Add(g.every))
		}
	}
	return actions
}

// blamed takes whether the server that l is connected to was found dead. Once
// per suspicion that spares l for a time. What was held against l while its
// server was dead is void when the server lives.
func (g *guard) blamed(l life, dead bool, now time.Time) {
	s := g.suspects[l]
	switch {
	case s == nil:
	case dead && s.spared.IsZero():
		s.dead, s.spared = true, now.Add(serverGrace)
		begin := s.since
		if begin.IsZero() {
			begin = now.Add(-s.quiet)
		}
		switch {
		case !begin.Before(g.frozen):
		case begin.Before(g.begun.Add(sameFailure * g.every)):
			// What moved this node made l absent, too, and counts from then.
			s.spared = g.frozen
		default:
			s.spared = begin.Add(serverGrace)
		}
	case !dead && s.dead:
		s.dead = false
		s.clear()
	}
}

// inspected takes the end of a look at a tripwire. Whatever it is, the next
// act is a fresh probe.
func (g *guard) inspected(l life, found trace, now time.Time) {
	s := g.suspects[l]
	if s == nil {
		return
	}
	s.busy = false
	defer g.plan(s)
	waited := now.Sub(s.since)
	switch {
	case s.since.IsZero():
		s.next = now // cleared meanwhile
	case now.Before(g.until(s)):
		s.next = earlier(g.until(s), now.Add(g.every))
	case found == tripped, found == unsure && waited >= s.grace, waited >= tripwireLimit:
		s.over, s.next = true, now
	default:
		s.advised = false
		s.next = now.Add(recheckWait)
	}
}

// asked takes the opinion of another member. Whatever it is, the next act is a
// fresh probe.
func (g *guard) asked(l life, o opinion, now time.Time) {
	s := g.suspects[l]
	if s == nil {
		return
	}
	s.busy = false
	s.next = now
	defer g.plan(s)
	if o == unheard {
		s.unheard++
	}
	switch {
	case s.quiet == 0: // cleared meanwhile
	case o == worthless:
		s.breakRow()
	case now.Before(g.until(s)):
		s.next = earlier(g.until(s), now.Add(g.every))
	case o == refuted:
		s.clear()
		s.next = now.Add(g.every)
	case o == confirmed, s.unheard >= maxUnheard:
		s.over = true
	}
}

// doubt voids the rounds without an answer of l: this node has learned that it may
// be the one that is cut off.
func (g *guard) doubt(l life) {
	if s := g.suspects[l]; s != nil {
		s.breakRow()
	}
}

// stands tells whether a verdict that was asked for is still to be written: an
// answer that came late meanwhile lifts it.
func (g *guard) stands(l life) bool {
	s := g.suspects[l]
	return s != nil && s.over
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
	defer g.plan(s)
	if written {
		s.clear()
		if s.idle() {
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
	if at, ok := g.nextTick(); !ok || now.Before(at) {
		return nil
	}
	g.due = time.Time{}
	for l, s := range g.suspects {
		if s.busy || now.Before(s.next) {
			g.plan(s)
			continue
		}
		if now.Sub(s.next) > lateLimit {
			// This process itself was stopped: what it did not hear is its own fault.
			s.clear()
		}
		s.turn++
		s.busy, s.probing, s.sent = true, true, now
		actions = append(actions, action{kind: probeIt, life: l, turn: s.turn})
	}
	slices.SortFunc(actions, func(a, b action) int {
		return cmp.Or(cmp.Compare(a.life.id, b.life.id), cmp.Compare(a.life.incarnation, b.life.incarnation))
	})
	return actions
}

// nextTick is when tick may be due; false when nothing is waiting for time to pass.
func (g *guard) nextTick() (at time.Time, ok bool) {
	return g.due, !g.down && !g.due.IsZero()
}

// plan notes when s is to be probed.
func (g *guard) plan(s *suspect) {
	if !s.busy && !s.next.IsZero() && (g.due.IsZero() || s.next.Before(g.due)) {
		g.due = s.next
	}
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
