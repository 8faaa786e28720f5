package kvregistry

import "time"

// suspect is one watched incarnation.
type suspect struct {
	life
	grace time.Duration
	// inherited means that this node has just become its watcher: perhaps those
	// that were it died together with it. When nobody is there, its tripwire is
	// looked for at once.
	inherited bool
	// ward means that this node is one of its watchers and probes it at every
	// interval; otherwise it is only looked at for a cause, once.
	ward bool
	// next is when it is to be probed; zero while a probe or a verdict is under way.
	next time.Time
	busy bool
	// turn is that of the latest probe, sent when it was asked for, and probing
	// is true until it ends.
	turn    uint64
	sent    time.Time
	probing bool

	// since is when a probe first found nobody, of those found in a row.
	since time.Time
	// quiet is how long it has not answered, counted in rounds.
	quiet time.Duration
	// unheard is how many opinions were asked for and not given.
	unheard int
	// advised means that its absence is said to have outlasted its grace
	// already: the server took a tripwire away, or its beat ran out.
	advised bool
	// over means that all is settled but the last probe: who is absent has
	// outlasted its grace and has no tripwire; who is quiet was not heard by
	// others either.
	over bool
	// spared is until when it is not declared gone because its server was found
	// dead; it is set once per suspicion. dead means that the server was last
	// found so.
	spared time.Time
	dead   bool
}

// clear drops what is held against s.
func (s *suspect) clear() {
	s.since, s.quiet, s.unheard, s.advised, s.over = time.Time{}, 0, 0, false, false
}

// breakRow ends a row of rounds without an answer. Who has no listener is not
// quiet: that stands.
func (s *suspect) breakRow() {
	if s.since.IsZero() {
		s.quiet, s.unheard, s.over = 0, 0, false
	}
}

// idle tells whether nothing is held against s.
func (s *suspect) idle() bool {
	return s.since.IsZero() && s.quiet == 0 && !s.advised && !s.busy && !s.ward
}
