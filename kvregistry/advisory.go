package kvregistry

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/provision"
)

// maxAdvisories is how many advisories may wait. What is dropped is found out
// by probes.
const maxAdvisories = 1024

// advisories hears when the server takes a tripwire away: of the wards of this
// node only, under the exact name of the tripwire. The first name is known, for
// it is that of the incarnation with number 1; later ones are told in pongs.
//
// The loop says what is wanted; one goroutine subscribes and listens.
type advisories struct {
	s     *session
	wake  chan struct{}
	heard chan *nats.Msg
	off   bool // not permitted

	mu sync.Mutex
	// wanted are the numbers of the tripwires that matter from now on, of those
	// for whom it has changed; 0 is none.
	wanted map[life]uint64
}

func newAdvisories(s *session) *advisories {
	return &advisories{s: s, wake: make(chan struct{}, 1), heard: make(chan *nats.Msg, maxAdvisories), wanted: map[life]uint64{}}
}

// try finds out whether advisories may be heard at all.
func (a *advisories) try(ctx context.Context) error {
	subject := a.s.cluster.TripwireDeleted(tripwireName(life{id: a.s.cfg.Node}, 0))
	sub, err := a.s.nc.ChanSubscribe(subject, a.heard)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := a.s.flush(ctx); err != nil {
		return err
	}
	if err := provision.SubscribeDenied(a.s.nc, subject); errors.Is(err, ErrDenied) {
		a.off = true
		a.s.log.Warn("advisories not available: crashes are noticed later", "err", err)
	}
	return nil
}

// want says which tripwire of somebody matters from now on; 0 is none.
func (a *advisories) want(l life, n uint64) {
	a.mu.Lock()
	a.wanted[l] = n
	a.mu.Unlock()
	signal(a.wake)
}

// run subscribes to what is wanted and hears what is said, until the session ends.
func (a *advisories) run() {
	subs := map[life]tripSub{}
	defer func() {
		for _, t := range subs {
			_ = t.sub.Unsubscribe()
		}
	}()
	for {
		select {
		case <-a.s.ctx.Done():
			return
		case <-a.wake:
			a.mu.Lock()
			wanted := a.wanted
			a.wanted = map[life]uint64{}
			a.mu.Unlock()
			if !a.off {
				a.adjust(subs, wanted)
			}
		case msg := <-a.heard:
			name := msg.Subject[strings.LastIndexByte(msg.Subject, '.')+1:]
			if l, n, ok := lifeOfTripwire(name); ok {
				a.s.post(func() { a.s.advised(l, n) })
			}
		}
	}
}

// tripSub is a subscription to the end of tripwire n of somebody.
type tripSub struct {
	n   uint64
	sub *nats.Subscription
}

func (a *advisories) adjust(subs map[life]tripSub, wanted map[life]uint64) {
	for l, n := range wanted {
		old, ok := subs[l]
		if old.n == n {
			continue
		}
		if ok {
			_ = old.sub.Unsubscribe()
			delete(subs, l)
		}
		if n == 0 {
			continue
		}
		sub, err := a.s.nc.ChanSubscribe(a.s.cluster.TripwireDeleted(tripwireName(l, n)), a.heard)
		if err != nil {
			return // the connection is closed
		}
		subs[l] = tripSub{n, sub}
	}
}
