package kvregistry

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// watchersPerMember is by how many others each member is watched.
	watchersPerMember = 3
	// pingsPerSecond is the most that the watchers of a whole cluster ask.
	pingsPerSecond = 500
	// maxBatch is how many messages become one step of the view.
	maxBatch = 256
	// youngMarker is how fresh the mark of a beat that ran out may be to be no
	// proof of anything: a server that was down lets all beats run out at once
	// when it is back.
	youngMarker = 10 * time.Second
)

// loopState is what only the loop touches.
type loopState struct {
	table *table
	guard *guard
	ring  *ring
	// member is true from the moment that this node watches others, and moved
	// when anybody may have become its ward, or no longer be it.
	member, moved bool
	// arrived are who has become a ward without moving anybody else: members
	// that watch nobody. In a large cluster nearly all are.
	arrived []string
	// wards are whom this node watches, with the number of the tripwire whose end
	// it wants to hear of.
	wards map[life]uint64
	// pongs are the latest answers, and trip the numbers of the newest tripwires
	// that they told: the end of an earlier one says nothing.
	pongs map[life]pong
	trip  map[life]uint64
	// seen is when each ward last answered.
	seen map[life]time.Time

	// survey is until when a ward that is not there makes this node look for
	// others that have no beat.
	survey time.Time

	// What the step at hand has changed.
	events []Event
	dirty  bool
	synced bool
	// shown is when the next view may be made.
	shown time.Time

	status chan nats.Status
	slow   <-chan nats.SubStatus
	link   struct {
		up     bool
		epoch  uint64
		server string
	}
	sync syncState
}

func newLoopState() loopState {
	return loopState{
		table: newTable(), guard: newGuard(), ring: newRing(),
		wards: map[life]uint64{}, pongs: map[life]pong{}, trip: map[life]uint64{}, seen: map[life]time.Time{},
	}
}

// loop owns the table and everything else in loopState. It does no I/O and
// calls nobody that waits; what takes time runs beside it and comes back as a
// function for it to run.
func (s *session) loop() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		s.step(time.Now())
		s.schedule(timer)
		select {
		case <-s.ctx.Done():
			return
		case f := <-s.in:
			f()
			s.batch()
		case msg := <-s.feed:
			s.onFeed(msg)
			s.batch()
		case <-s.status:
			s.checkLink()
		case _, open := <-s.slow:
			if !open {
				s.slow = nil
				continue
			}
			// More came than this process could take: some of the feed was lost.
			s.resync(false)
		case <-s.wanted:
			s.beginView()
		case <-timer.C:
		}
	}
}

// batch runs what else is waiting, so that a burst becomes one step.
func (s *session) batch() {
	for range maxBatch {
		select {
		case f := <-s.in:
			f()
		case msg := <-s.feed:
			s.onFeed(msg)
		default:
			return
		}
	}
}

// step publishes what has changed and does what is due.
func (s *session) step(now time.Time) {
	s.publish(now)
	if !s.sync.due.IsZero() && !now.Before(s.sync.due) {
		s.sync.due = time.Time{}
		s.resync(false)
	}
	s.lagging(now)
	if s.member {
		s.do(s.guard.tick(now))
	}
}

// schedule sets the timer to what is due next.
func (s *session) schedule(timer *time.Timer) {
	at := s.sync.due
	if !s.sync.lag.IsZero() && (at.IsZero() || s.sync.lag.Before(at)) {
		at = s.sync.lag
	}
	if s.dirty && s.synced && (at.IsZero() || s.shown.Before(at)) {
		at = s.shown
	}
	if s.member {
		if next, ok := s.guard.nextTick(); ok && (at.IsZero() || next.Before(at)) {
			at = next
		}
	}
	if at.IsZero() {
		timer.Stop()
		return
	}
	timer.Reset(max(time.Until(at), 0))
}

// delta takes one message of the feed.
func (s *session) delta(c change) {
	if s.sync.running {
		s.sync.held = append(s.sync.held, c)
		return
	}
	events, gap := s.table.delta(c)
	s.changed(events)
	if s.own != nil && c.id == s.cfg.Node && c.revision != s.own.stored.Load() {
		s.own.wantLook()
	}
	if gap {
		s.resync(false)
	}
}

// changed notes the events of a step and keeps ring and guard up to date.
func (s *session) changed(events []Event) {
	s.dirty = true
	for _, e := range events {
		l := life{e.Member.ID, e.Member.Incarnation}
		s.moved = s.moved || l.id == s.cfg.Node
		switch e.Kind {
		case Joined:
			s.ring.add(l.id, !e.Member.Light)
			switch {
			case !s.ring.watches(s.cfg.Node, l.id, watchersPerMember):
			case e.Member.Light:
				s.arrived = append(s.arrived, l.id)
			default:
				s.moved = true
			}
		case Left, Lost:
			s.moved = s.moved || s.ring.guarding(l.id) && s.ring.watches(s.cfg.Node, l.id, watchersPerMember)
			s.ring.remove(l.id)
			s.guard.forget(l)
			s.listen(l, 0)
			delete(s.pongs, l)
			delete(s.trip, l)
			delete(s.seen, l)
		case Updated, Synced, Evicted:
		}
	}
	if len(s.events) == 0 {
		s.events = events
	} else {
		s.events = append(s.events, events...)
	}
}

// tell adds an event that is not of the table.
func (s *session) tell(e Event) {
	if !s.holding() {
		// Without a view there is no watcher either.
		if s.cfg.Changed != nil {
			s.cfg.Changed([]Event{e})
		}
		return
	}
	s.events = append(s.events, e)
	s.dirty = true
}

// publish shows the table to readers and watchers, after the Changed callback
// was told. What has changed soon after a view waits for the next one.
func (s *session) publish(now time.Time) {
	if !s.dirty || !s.synced {
		return
	}
	s.watch(now)
	if now.Before(s.shown) {
		return
	}
	events := s.events
	s.events, s.dirty = nil, false
	s.size.Store(int64(s.ring.len()))
	if len(events) > 0 && s.cfg.Changed != nil {
		s.cfg.Changed(events)
	}
	cost := s.hub.publish(s.table.complete, s.stale.Load() != 0, s.table.take(), events)
	s.shown = now.Add(viewPause(cost))
}

// watch sets the wards of the guard: those members that this node watches.
func (s *session) watch(now time.Time) {
	if !s.member {
		return
	}
	s.guard.every = max(time.Second, time.Duration(watchersPerMember*s.ring.len())*time.Second/pingsPerSecond)
	ids := s.arrived
	if s.moved {
		ids = s.ring.wards(s.cfg.Node, watchersPerMember)
	}
	wards := make([]suspect, 0, len(ids))
	for _, id := range ids {
		if e := s.table.entries[id]; e != nil && e.rec.State != Offline {
			wards = append(wards, suspect{life: life{id, e.rec.Incarnation}, grace: e.rec.grace()})
		}
	}
	if s.moved {
		keep := make(map[life]bool, len(wards))
		for _, w := range wards {
			keep[w.life] = true
		}
		for l := range s.wards {
			if !keep[l] {
				s.listen(l, 0)
			}
		}
		s.guard.keep(keep)
	}
	for _, w := range wards {
		s.listen(w.life, max(s.trip[w.life], 1))
		s.guard.watch(w, now)
	}
	s.arrived, s.moved = s.arrived[:0], false
}

// listen hears of the end of a ward's tripwire n; 0 is for who is no ward any more.
func (s *session) listen(l life, n uint64) {
	if s.wards[l] == n {
		return
	}
	if n == 0 {
		delete(s.wards, l)
	} else {
		s.wards[l] = n
	}
	s.advisories.want(l, n)
}

// answeredBy notes what a pong of l told.
func (s *session) answeredBy(l life, p pong, now time.Time) {
	s.seen[l] = now
	if p.ID == l.id {
		s.pongs[l] = p
	}
	if of, n, ok := lifeOfTripwire(p.Tripwire); ok && of == l && n > s.trip[l] {
		s.trip[l] = n
		if s.wards[l] != 0 {
			s.listen(l, n)
		}
	}
	s.peerAt(p.Revision)
}

// joined begins to watch others. Among them may be the dead of an earlier time,
// and nobody else may be left who watches them.
func (s *session) joined() {
	s.member, s.moved = true, true
	now := time.Now()
	s.survey = now.Add(serverGrace)
	s.guard.begin(now)
	s.watch(now)
}

// surveyBeats looks for more of the dead of an earlier time, once, when one of
// the first wards of a member that has just joined is not there.
func (s *session) surveyBeats() {
	s.survey = time.Time{}
	s.work(func(ctx context.Context) func() {
		beats, err := s.store.allBeats(ctx)
		if err != nil {
			return nil
		}
		return func() { s.accuseSilent(beats) }
	})
}

// accuseSilent probes every member whose beat has run out.
func (s *session) accuseSilent(beats map[string]liveBeat) {
	// The server's clock, as this node's own beat has it.
	clock := beats[s.cfg.Node].at
	now := time.Now()
	for id, e := range s.table.entries {
		if id == s.cfg.Node || e.rec.State == Offline {
			continue
		}
		b, ok := beats[id]
		if ok && !b.gone {
			continue
		}
		s.guard.accuse(life{id, e.rec.Incarnation}, e.rec.grace(), !ok || clock.Sub(b.at) > youngMarker, now)
	}
}

// advised takes the news that tripwire n of an incarnation is gone.
func (s *session) advised(l life, n uint64) {
	e := s.table.entries[l.id]
	if n < s.trip[l] || e == nil || e.rec.State == Offline || e.rec.Incarnation != l.incarnation || l.id == s.cfg.Node {
		return
	}
	s.log.Debug("tripwire gone", "node", l.id, "incarnation", l.incarnation, "number", n)
	s.trip[l] = n
	if s.member {
		if suspect := s.guard.suspects[l]; suspect != nil && suspect.ward {
			s.guard.accuse(l, e.rec.grace(), true, time.Now())
		}
	}
}

// do carries out what the guard wants.
func (s *session) do(actions []action) {
	for _, a := range actions {
		switch a.kind {
		case probeIt:
			s.work(func(ctx context.Context) func() {
				result, p := s.probe(ctx, a.life, func(p pong) { s.post(func() { s.probed(a, alive, p) }) })
				return func() { s.probed(a, result, p) }
			})
		case inspectIt:
			known, last := s.trip[a.life], s.pongs[a.life]
			s.work(func(ctx context.Context) func() {
				dead := s.blame(ctx, a.life, last)
				found := s.inspect(ctx, a.life, known)
				return func() {
					s.log.Debug("inspected", "node", a.life.id, "found", int(found), "server_dead", dead)
					s.checkLink()
					now := time.Now()
					s.guard.blamed(a.life, dead, now)
					s.guard.inspected(a.life, found, now)
				}
			})
		case askIt:
			other, last := s.second(a.life), s.pongs[a.life]
			s.work(func(ctx context.Context) func() {
				dead := make(chan bool, 1)
				go func() { dead <- s.blame(ctx, a.life, last) }()
				said := confirmed // of two, the own evidence is enough
				if !s.storeAgrees(ctx) {
					said = worthless
				} else if other != "" {
					said = s.ask(ctx, other, a.life)
				}
				isDead := <-dead
				return func() {
					s.log.Debug("asked", "node", a.life.id, "other", other, "said", int(said), "server_dead", isDead)
					s.checkLink()
					now := time.Now()
					s.guard.blamed(a.life, isDead, now)
					s.guard.asked(a.life, said, now)
				}
			})
		case buryIt:
			s.verdict(a)
		}
	}
}

func (s *session) probed(a action, result answer, p pong) {
	l := a.life
	// A connection that was lost and is back voids what was seen through it.
	s.checkLink()
	now := time.Now()
	switch result {
	case silence, muffled:
		// Whoever hears nothing may be the one that is cut off. The store tells:
		// without it the view is stale, long before the connection is given up.
		s.resync(false)
	case nobody:
		if now.Before(s.survey) {
			s.surveyBeats()
		}
	case void:
	case alive:
		s.answeredBy(l, p, now)
	}
	s.do(s.guard.answered(l, a.turn, result, now))
}

func (s *session) verdict(a action) {
	e := s.table.entries[a.life.id]
	if e == nil || e.rec.State == Offline || e.rec.Incarnation != a.life.incarnation {
		s.guard.forget(a.life)
		return
	}
	rec, expected, seen := e.rec, e.revision, s.seen[a.life]
	if seen.IsZero() {
		seen = rec.Started
	}
	if e.forgotten {
		a.reason = ReasonUnknown // perhaps it left
	}
	ended := func(over bool) {
		s.guard.buried(a.life, over, time.Now())
		if !over {
			s.resync(false)
		}
	}
	s.work(func(ctx context.Context) func() {
		agrees := s.storeAgrees(ctx)
		return func() {
			switch {
			case s.guard.suspects[a.life] == nil:
				return // its end came meanwhile
			case !agrees, !s.guard.stands(a.life):
				// What held up the writing may have held up the probes before it.
				if !agrees {
					s.guard.doubt(a.life)
				}
				ended(false)
				return
			}
			s.work(func(ctx context.Context) func() {
				over := s.bury(ctx, rec, expected, a.reason, seen)
				return func() { ended(over) }
			})
		}
	})
}
