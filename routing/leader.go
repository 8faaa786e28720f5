package routing

import (
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/wire"
)

// leader is one goroutine that reads the channel, for as long as it is the leader.
type leader struct {
	// at is even while it waits for a message and odd while it runs a handler,
	// and grows by one with each change; deposed when another took its place.
	at atomic.Uint64
	// kind is what it runs, or ran last.
	kind atomic.Pointer[served]
	// bundle is what it reads, and rest what is left of it. They belong to the
	// leader; at says so.
	bundle *nats.Msg
	rest   []byte
	// part is the message of the bundle in hand: who keeps it makes a copy.
	part nats.Msg
}

const deposed = ^uint64(0)

// promote makes a new goroutine the leader, which goes on where the old one was.
func (d *dispatcher) promote(old *leader) {
	l := &leader{}
	if old != nil {
		l.bundle, l.rest = old.bundle, old.rest
	}
	d.leader.Store(l)
	d.running.Go(func() { d.lead(l) })
}

func (d *dispatcher) lead(l *leader) {
	ended := false
	defer func() {
		// A handler that ends its goroutine (t.FailNow does) ends the leader.
		if at := l.at.Load(); !ended && at != deposed && l.at.CompareAndSwap(at, deposed) {
			d.promote(l)
		}
	}()
	var (
		now  time.Time // zero where it has waited since
		last *caller   // of the last request
	)
	for {
		m := d.next(l)
		if m == nil {
			ends := d.ends.Load() // looked at first: then nothing arrives after the channel was empty
			select {              // one channel alone is cheap to look at, and to wait for
			case m = <-d.in:
			default:
				if ends {
					ended = true
					return
				}
				now = time.Time{}
				m = <-d.in
			}
			if m == nil {
				continue // a word that it ends
			}
			if reply, ok := wire.CutBundleReply(m.Reply); ok {
				m.Reply = reply
				l.bundle, l.rest = m, m.Data
				continue
			}
			if m.Header != nil && !d.r.isFor(m.Header) {
				continue
			}
			if m.Reply != "" {
				last = d.callers.note(m.Reply, last, d.leaving.Load())
			}
		}
		if d.isClosing.Load() {
			d.refuse(m, wire.RefusedLeaving)
			continue
		}
		if !d.take(l, m, &now) {
			ended = true
			return
		}
	}
}

// next takes a message of the bundle in hand; nil is that there is none left.
func (d *dispatcher) next(l *leader) *nats.Msg {
	if len(l.rest) == 0 {
		return nil
	}
	data, rest, ok := wire.CutBundled(l.rest)
	if !ok {
		d.r.log.Warn("not a bundle of at-most-once messages; dropped", "subject", l.bundle.Subject, "from", l.bundle.Reply, "bytes", len(l.rest))
		l.rest = nil
		return nil
	}
	l.rest = rest
	l.part = nats.Msg{Subject: l.bundle.Subject, Reply: l.bundle.Reply, Data: data, Sub: l.bundle.Sub}
	return &l.part
}

// own returns m, or a copy where it is a part of a bundle, which the next one
// takes the place of.
func (l *leader) own(m *nats.Msg) *nats.Msg {
	if m != &l.part {
		return m
	}
	return &nats.Msg{Subject: m.Subject, Reply: m.Reply, Data: m.Data, Sub: m.Sub}
}

// take handles one message; it returns false when l is not the leader any more.
func (d *dispatcher) take(l *leader, m *nats.Msg, now *time.Time) bool {
	s := d.subs[m.Sub]
	if s == nil {
		return true
	}
	switch s.enter(m, l) {
	case full:
		d.refuse(m, wire.RefusedBusy)
		return true
	case queued:
		return true
	}
	if s.mean.Load() > int64(slowKind) {
		m = l.own(m)
		d.running.Go(func() { s.work(m) })
		return true
	}
	l.kind.Store(s)
	at := l.at.Add(1)
	d.watch.begin()
	if next := s.handle(m, now); next != nil {
		d.running.Go(func() { s.work(next) })
	}
	return l.at.CompareAndSwap(at, at+1)
}
