package kvregistry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/catga/catga-go/internal/provision"
	"github.com/catga/catga-go/internal/wire"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// session is one membership or observation from its start to its end: the loop
// that owns the table, the presence that owns this node's record, the beats,
// and every subscription. What it starts it waits for.
type session struct {
	cfg     Config
	nc      *nats.Conn
	store   *store
	hub     *hub
	log     *slog.Logger
	cluster wire.Cluster
	// own is this node's presence; nil for an observer.
	own        *presence
	advisories *advisories

	ctx  context.Context // ends with the session; its cause says why
	stop context.CancelCauseFunc
	wg   sync.WaitGroup
	subs subscriptions
	done chan struct{}

	in   chan func()    // what the loop is to run
	feed chan *nats.Msg // nil while there is no view
	// wanted asks a light node to hold a view; view is how far it is.
	wanted chan struct{}
	view   atomic.Int32
	// size is the number of members, for the interval of beats.
	size atomic.Int64
	// stale is since when the view may be behind, as nanoseconds; 0 when it is not.
	stale atomic.Int64
	// untaken is how many heartbeats in a row the store did not take.
	untaken atomic.Int32
	// agreed is when the store last took a write at once, as nanoseconds.
	agreed atomic.Int64

	loopState
}

func newSession(nc *nats.Conn, cfg Config, h *hub, observer, view bool) (*session, error) {
	st, err := newStore(nc, cfg.Cluster, cfg.Log)
	if err != nil {
		return nil, err
	}
	s := &session{
		cfg: cfg, nc: nc, store: st, hub: h, cluster: wire.Cluster(cfg.Cluster),
		log:    cfg.Log.With("cluster", cfg.Cluster),
		done:   make(chan struct{}),
		in:     make(chan func(), 256),
		wanted: make(chan struct{}, 1),
	}
	if view {
		s.view.Store(viewHeld)
	}
	s.loopState = newLoopState()
	s.advisories = newAdvisories(s)
	// The node's own lifetime: it outlives the call that starts it.
	s.ctx, s.stop = context.WithCancelCause(context.Background())
	if !observer {
		s.own = newPresence(s)
	}
	// For start, which begins now: the session is not over before it.
	s.wg.Add(1)
	return s, nil
}

// start makes the buckets, follows the registry until this node's view is
// true, and, unless it observes, takes the node's name and shows itself.
func (s *session) start(ctx context.Context) error {
	defer s.wg.Done()
	if !s.nc.IsConnected() {
		if s.nc.IsClosed() {
			return ErrConnectionClosed
		}
		if err := s.connected(ctx); err != nil {
			return err
		}
	}
	if err := provision.CheckServer(s.nc); err != nil {
		return fmt.Errorf("kvregistry: %w", err)
	}
	if err := s.permitted(ctx); err != nil {
		return fmt.Errorf("kvregistry: %w", err)
	}
	if err := s.store.provision(ctx, s.cfg.Replicas, s.cfg.NoProvision, 0); err != nil {
		return err
	}
	if err := s.follow(ctx); err != nil {
		return err
	}
	if s.own == nil {
		return nil
	}
	s.own.begun.Store(true)
	s.wg.Go(s.own.run)
	err := s.own.do(ctx, func(ctx context.Context) error {
		if err := s.own.answers.speak(ctx); err != nil {
			return err
		}
		if err := s.own.claim(ctx); err != nil {
			return err
		}
		s.own.trip.arm(ctx, s.own.life())
		return nil
	})
	if err != nil {
		return err
	}
	s.wg.Go(s.beats)
	if !s.holding() {
		return nil
	}
	mine := s.own.stored.Load()
	if err := s.wait(ctx, mine); err != nil {
		return err
	}
	if !s.cfg.Light {
		s.post(s.joined)
	}
	return nil
}

// connected waits for the connection of a client that connects in the background.
func (s *session) connected(ctx context.Context) error {
	status := s.nc.StatusChanged(nats.CONNECTED, nats.CLOSED)
	defer s.nc.RemoveStatusListener(status)
	for !s.nc.IsConnected() {
		select {
		case <-status:
			if s.nc.IsClosed() {
				return ErrConnectionClosed
			}
		case <-ctx.Done():
			return fmt.Errorf("kvregistry: not connected to NATS: %w", context.Cause(ctx))
		case <-s.ctx.Done():
			return s.ended()
		}
	}
	return nil
}

// follow subscribes to the feed and then takes the first snapshot: what is
// subscribed is in force before anything is read.
func (s *session) follow(ctx context.Context) error {
	if !s.holding() {
		s.hub.without()
		if s.own != nil {
			if err := s.followSelf(ctx); err != nil {
				return err
			}
		}
	} else if err := s.followAll(ctx); err != nil {
		return err
	}
	if s.own != nil && !s.cfg.Light {
		// Without it crashes are noticed by probes alone.
		if err := s.advisories.try(ctx); err != nil {
			return err
		}
		s.wg.Go(s.advisories.run)
		if err := s.subscribeNow(ctx, s.cluster.Ask(s.cfg.Node), s.onAsk); err != nil {
			return err
		}
	}
	s.status = s.nc.StatusChanged()
	s.store.relink()
	s.link.epoch, s.link.up, s.link.server = s.nc.Stats().Reconnects, true, s.nc.ConnectedServerId()
	s.wg.Go(s.loop)
	s.post(func() { s.resync(true) })
	if !s.holding() {
		return nil
	}
	return s.wait(ctx, 0)
}

// followAll subscribes to the feed.
func (s *session) followAll(ctx context.Context) error {
	feed := make(chan *nats.Msg, maxFeed)
	sub, err := s.subs.addChan(s.nc, s.cluster.RegistryAll(), feed)
	if err != nil {
		return fmt.Errorf("kvregistry: %s: %w", s.cluster.RegistryAll(), err)
	}
	slow := sub.StatusChanged(nats.SubscriptionSlowConsumer)
	s.post(func() { s.feed, s.slow = feed, slow })
	if err := s.flush(ctx); err != nil {
		return err
	}
	return provision.SubscribeDenied(s.nc, sub.Subject)
}

// wait returns when there is a view of at least that revision.
func (s *session) wait(ctx context.Context, revision uint64) error {
	for {
		at, changed, synced := s.hub.next()
		if synced && at >= revision {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.ctx.Done():
			return s.ended()
		}
	}
}

// close ends the session, with a goodbye if there is something to say it for,
// and waits for everything that was started.
func (s *session) close(reason Reason, cause error) {
	if s.own != nil && s.own.begun.Load() && s.ctx.Err() == nil && s.nc.IsConnected() {
		ctx, cancel := context.WithTimeout(s.ctx, goodbyeLimit)
		err := s.own.do(ctx, func(ctx context.Context) error { return s.own.goodbye(ctx, reason) })
		cancel()
		if err != nil && !errors.Is(err, ErrClosed) {
			s.log.Warn("goodbye not written: others notice by themselves", "node", s.cfg.Node, "err", err)
		}
	}
	s.stop(cause)
	<-s.done
}

// supervise waits for the end of the session and cleans up behind it.
func (s *session) supervise() {
	defer close(s.done)
	<-s.ctx.Done()
	s.subs.close()
	s.wg.Wait()
	if link := s.store.link.Load(); link != nil {
		link.end()
	}
	if s.status != nil {
		s.nc.RemoveStatusListener(s.status)
	}
}

// ended returns why the session has ended.
func (s *session) ended() error {
	if err := context.Cause(s.ctx); err != nil && !errors.Is(err, errDone) {
		return err
	}
	return ErrClosed
}

// errDone is the cause of a session that was asked to end.
var errDone = errors.New("kvregistry: ended")

// post has the loop run f. It waits while the loop is busy and drops f when
// the loop has ended.
func (s *session) post(f func()) {
	select {
	case s.in <- f:
	case <-s.ctx.Done():
	}
}

// work runs job beside the loop and has the loop run what it returns.
func (s *session) work(job func(ctx context.Context) func()) {
	s.wg.Go(func() {
		if then := job(s.ctx); then != nil {
			s.post(then)
		}
	})
}

// subscribe is nc.Subscribe for the life of the session.
func (s *session) subscribe(subject string, handle nats.MsgHandler) (*nats.Subscription, error) {
	return s.subs.add(s.nc, subject, "", handle)
}

// subscribeNow is subscribe that returns when the server has accepted it, or
// ErrDenied.
func (s *session) subscribeNow(ctx context.Context, subject string, handle nats.MsgHandler) error {
	if _, err := s.subscribe(subject, handle); err != nil {
		return fmt.Errorf("kvregistry: %s: %w", subject, err)
	}
	if err := s.flush(ctx); err != nil {
		return err
	}
	return provision.SubscribeDenied(s.nc, subject)
}

// subscribeQueue is nc.QueueSubscribe for the life of the session.
func (s *session) subscribeQueue(subject, queue string, handle nats.MsgHandler) (*nats.Subscription, error) {
	return s.subs.add(s.nc, subject, queue, handle)
}

// flush returns when the server has processed everything sent before. It lasts
// as long as ctx does: a server to which a thousand come at once is slow, and
// what was asked before a reconnect is not answered after it.
func (s *session) flush(ctx context.Context) error {
	return s.persist(ctx, func(ctx context.Context) error {
		if err := s.nc.FlushWithContext(ctx); err != nil {
			return fmt.Errorf("kvregistry: %w", err)
		}
		return nil
	})
}

// persist runs attempt, for at most putLimit each time, until it succeeds, fails
// for good, or ctx ends.
func (s *session) persist(ctx context.Context, attempt func(context.Context) error) error {
	for {
		limited, cancel := s.store.bounded(ctx, putLimit)
		err := attempt(limited)
		cancel()
		if err == nil || ctx.Err() != nil || s.nc.IsClosed() || errors.Is(err, ErrDenied) {
			return err
		}
		if pause(ctx, claimRetry) != nil {
			return err
		}
	}
}

// retryable tells whether the same request may succeed later.
func retryable(err error) bool {
	for _, final := range []error{ErrTooLarge, ErrClosed, ErrDenied, nats.ErrConnectionClosed, nats.ErrMaxPayload} {
		if errors.Is(err, final) {
			return false
		}
	}
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		return api.Code >= 500
	}
	return true
}

// cause returns why the session ended by itself, nil when it was asked to.
func (s *session) cause() error {
	if err := context.Cause(s.ctx); !errors.Is(err, errDone) {
		return err
	}
	return nil
}
