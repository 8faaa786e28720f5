package kvregistry

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync/atomic"

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
	s      *session
	wanted atomic.Pointer[map[string]bool] // names of tripwires, never modified
	wake   chan struct{}
	heard  chan *nats.Msg
	off    bool // not permitted
}

func newAdvisories(s *session) *advisories {
	return &advisories{s: s, wake: make(chan struct{}, 1), heard: make(chan *nats.Msg, maxAdvisories)}
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

// want says which tripwires matter from now on.
func (a *advisories) want(names map[string]bool) {
	a.wanted.Store(&names)
	signal(a.wake)
}

// run subscribes to what is wanted and hears what is said, until the session ends.
func (a *advisories) run() {
	subs := map[string]*nats.Subscription{}
	defer func() {
		for _, sub := range subs {
			_ = sub.Unsubscribe()
		}
	}()
	for {
		select {
		case <-a.s.ctx.Done():
			return
		case <-a.wake:
			if !a.off {
				a.adjust(subs, *a.wanted.Load())
			}
		case msg := <-a.heard:
			name := msg.Subject[strings.LastIndexByte(msg.Subject, '.')+1:]
			if l, n, ok := lifeOfTripwire(name); ok {
				a.s.post(func() { a.s.advised(l, n) })
			}
		}
	}
}

func (a *advisories) adjust(subs map[string]*nats.Subscription, wanted map[string]bool) {
	for name := range wanted {
		if subs[name] != nil {
			continue
		}
		sub, err := a.s.nc.ChanSubscribe(a.s.cluster.TripwireDeleted(name), a.heard)
		if err != nil {
			return // the connection is closed
		}
		subs[name] = sub
	}
	maps.DeleteFunc(subs, func(name string, sub *nats.Subscription) bool {
		if wanted[name] {
			return false
		}
		_ = sub.Unsubscribe()
		return true
	})
}
