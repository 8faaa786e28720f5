package kvregistry

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A light node keeps no view until somebody wants to read it. Until then it
// hears of its own record only, and asks the store for nothing but that.

// The ways of a session to a view.
const (
	noView     = iota
	viewWanted // subscribing to the feed
	viewHeld
)

// holding tells whether this node keeps a view.
func (s *session) holding() bool { return s.view.Load() == viewHeld }

// followSelf subscribes to what happens to this node's own record.
func (s *session) followSelf(ctx context.Context) error {
	subject := s.cluster.RegistrySubject(s.cfg.Node)
	return s.subscribeNow(ctx, subject, func(msg *nats.Msg) {
		c, err := s.decodeFeed(msg)
		if err != nil || s.holding() {
			return
		}
		if stored := s.own.stored.Load(); stored != 0 && c.revision != stored {
			s.own.wantLook()
		}
	})
}

// beginView makes this node hold a view: the feed first, then the snapshot.
func (s *session) beginView() {
	if s.view.Load() == viewHeld || !s.view.CompareAndSwap(noView, viewWanted) {
		return
	}
	s.work(func(ctx context.Context) func() {
		err := s.followAll(ctx)
		return func() {
			if err != nil {
				s.log.Warn("no view yet, trying again", "node", s.cfg.Node, "err", err)
				s.view.Store(noView)
				s.later(func() { s.beginView() })
				return
			}
			s.view.Store(viewHeld)
			s.resync(true)
		}
	})
}

// later has the loop run f after a pause.
func (s *session) later(f func()) {
	s.work(func(ctx context.Context) func() {
		if pause(ctx, maxRetry/2+rand.N(maxRetry/2)) != nil {
			return nil
		}
		return f
	})
}

// lookAtStore stands in for a reading of the store where there is no view: it
// makes sure that the store is there, and that it has this node's record.
func (s *session) lookAtStore() {
	if s.sync.running {
		return
	}
	s.sync.running, s.sync.due = true, time.Time{}
	after := uint64(0)
	if s.own != nil {
		after = s.own.stored.Load()
	}
	s.work(func(ctx context.Context) func() {
		id, err := s.identifyOrMake(ctx, after)
		return func() { s.looked(id, err) }
	})
}

// identifyOrMake asks what the store is, and makes it again when it is gone.
func (s *session) identifyOrMake(ctx context.Context, after uint64) (identity, error) {
	id, err := s.store.identify(ctx)
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return id, err
	}
	s.log.Warn("the registry's bucket is gone, making it again")
	if err := s.store.provision(ctx, s.cfg.Replicas, s.cfg.NoProvision, after); err != nil {
		return id, err
	}
	return s.store.identify(ctx)
}

func (s *session) looked(id identity, err error) {
	now := time.Now()
	s.sync.running = false
	if err != nil {
		s.unread(now, err)
		return
	}
	s.sync.retry = 0
	if anew := !s.sync.known.created.IsZero() && !s.sync.known.created.Equal(id.created); anew && s.own != nil {
		s.own.wantLook()
	}
	s.sync.known = id
	if !s.holding() && s.size.Load() == 0 {
		// Until a ping tells how many are alive.
		s.size.Store(int64(id.records))
	}
	s.setFresh()
	if s.holding() {
		s.resync(true)
	}
}
