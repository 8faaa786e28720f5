package routing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/catga/catga-go/internal/wire"
)

// Router sends and receives the messages of one node. Its life is New, Handle,
// Prepare, Start, and in the end Drain, Close.
type Router struct {
	nc      *nats.Conn
	js      jetstream.JetStream
	cfg     Config
	cluster wire.Cluster
	id      string
	log     *slog.Logger
	ids     idSource

	// peers is the membership as last told; readers take it without a lock.
	peers atomic.Pointer[peers]
	// self is this node as it was last told; it stays when the node is not in
	// peers for a while.
	self atomic.Pointer[peer]
	// updates serializes writers of peers.
	updates sync.Mutex
	// departures rings when incarnations have ended and peers shows it.
	departures bell

	// ctx is the life of the router: handlers' contexts come from it. It ends
	// in Close with cause ErrClosed.
	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup

	mu    sync.Mutex
	phase phase
	kinds map[string]*kind // not written after Prepare

	// life is the present incarnation; nil before Start.
	life atomic.Pointer[life]
	// evicted says that a life has ended and nobody has looked yet at what it left.
	evicted atomic.Bool

	// status is phase for readers without the lock.
	status atomic.Int32

	// observer is set by a Start without Prepare; left by a finished Drain.
	observer, left atomic.Bool
	// handled is the kinds whose work consumer was seen at the server.
	handled sync.Map

	bundles bundles
	calls   calls
	durable durable
}

// phase is where a router is in its life.
type phase int32

const (
	phaseNew phase = iota
	phasePrepared
	phaseStarted
	phaseDraining
	phaseClosed
)

// New checks cfg and makes a router on nc, which stays the caller's. It does no
// I/O and starts no goroutine. All problems of cfg are reported together.
func New(nc *nats.Conn, cfg Config) (*Router, error) {
	if nc == nil {
		return nil, errors.New("routing: no connection")
	}
	cfg, err := cfg.checked()
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("routing: %w", err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	r := &Router{
		nc:      nc,
		js:      js,
		cfg:     cfg,
		cluster: wire.Cluster(cfg.Cluster),
		id:      cfg.Node,
		log:     cfg.Log,
		ids:     newIDSource(cfg.Node),
		ctx:     ctx,
		cancel:  cancel,
		kinds:   map[string]*kind{},
	}
	r.bundles = bundles{nc: nc, reply: wire.CastReply(r.id), whole: wire.BundleReply(r.id), failed: r.castsFailed, born: time.Now()}
	r.peers.Store(newPeers())
	r.departures.init()
	r.durable.init()
	r.calls.drops.init()
	return r, nil
}

// setPhase moves to p; r.mu is held.
func (r *Router) setPhase(p phase) {
	r.phase = p
	r.status.Store(int32(p))
}

// sendable reports why nothing can be sent now, or nil.
func (r *Router) sendable() error {
	switch phase(r.status.Load()) {
	case phaseNew, phasePrepared:
		return ErrNotJoined
	case phaseStarted, phaseDraining: // handlers that finish may still send
		return nil
	default:
		return ErrClosed
	}
}

// admits reports why a durable message of ctx is not taken now, or nil. While
// the router drains, only handlers that are about to finish may still send.
func (r *Router) admits(ctx context.Context) error {
	if phase(r.status.Load()) == phaseDraining && ctx.Value(handlerKey{}) == nil {
		return ErrLeaving
	}
	return r.sendable()
}

// Prepare makes everything that must exist before the node is seen: streams,
// consumers, subscriptions. Nothing is consumed and no call is answered yet.
// Call it again before a rejoin: it makes what has gone missing and leaves the
// rest alone.
func (r *Router) Prepare(ctx context.Context) error {
	r.mu.Lock()
	switch r.phase {
	case phaseNew:
		r.setPhase(phasePrepared) // from here on the kinds are settled
	case phaseDraining, phaseClosed:
		r.mu.Unlock()
		return fmt.Errorf("routing: prepare: %w", ErrClosed)
	}
	r.mu.Unlock()
	if err := r.permitted(ctx); err != nil {
		return fmt.Errorf("routing: prepare: %w", err)
	}
	if err := r.provision(ctx); err != nil {
		return fmt.Errorf("routing: prepare: %w", err)
	}
	if err := r.subscribeHeld(); err != nil {
		return fmt.Errorf("routing: prepare: %w", err)
	}
	if err := r.subscribeCalls(ctx); err != nil {
		return fmt.Errorf("routing: prepare: %w", err)
	}
	return nil
}

// Start begins to consume, to answer and to send as the given incarnation of
// the node. After an eviction it is called again with the new incarnation; an
// earlier one that is still at work is evicted by it. A Start that failed may be
// repeated. A
// router that is started without Prepare only observes: it sends and calls, and
// its handlers are never run.
func (r *Router) Start(ctx context.Context, incarnation uint64) error {
	r.mu.Lock()
	if r.phase >= phaseDraining {
		r.mu.Unlock()
		return fmt.Errorf("routing: start: %w", ErrClosed)
	}
	again := r.phase == phaseStarted
	if r.phase == phaseNew {
		r.observer.Store(true)
	}
	r.mu.Unlock()
	r.begin(incarnation)
	if err := r.startCalls(ctx, incarnation); err != nil {
		return fmt.Errorf("routing: start: %w", err)
	}
	r.mu.Lock()
	if r.phase < phaseStarted {
		r.setPhase(phaseStarted)
	}
	r.mu.Unlock()
	if again {
		r.startAgain()
		return nil
	}
	if err := r.startDurable(ctx); err != nil {
		return fmt.Errorf("routing: start: %w", err)
	}
	return nil
}

// Update tells what changed among the members. It is called by the registry's
// loop, in order, and never blocks. Calls in flight to a member that is gone
// end at once, and its unfinished work is handed to others.
func (r *Router) Update(changes []Change) {
	r.updates.Lock()
	next, ended := r.peers.Load().with(changes)
	r.peers.Store(next)
	r.updates.Unlock()
	if self := next.byID[r.id]; self != nil && !self.lost {
		r.self.Store(self)
		r.durable.releases.once.Do(func() { close(r.durable.releases.seen) })
	}
	for _, p := range ended {
		close(p.gone)
	}
	if len(ended) > 0 {
		r.departures.ring()
	}
	r.releaseOf(ended, next)
	if len(ended) > 0 {
		r.durable.sweeps.ring()
	}
}

// Drain is the soft stop: nothing new is taken, what has not begun goes back to
// the server for others, running handlers finish, their acks are flushed. When
// ctx ends first, the rest is left to Close.
func (r *Router) Drain(ctx context.Context) error {
	r.mu.Lock()
	started := r.phase == phaseStarted
	if started {
		r.setPhase(phaseDraining)
	}
	r.mu.Unlock()
	if !started {
		return nil
	}
	var wg sync.WaitGroup
	var calls error
	wg.Go(func() { calls = r.drainCalls(ctx) })
	durable := r.drainDurable(ctx)
	wg.Wait()
	r.bundles.flush() // of the last handlers
	if err := errors.Join(durable, calls); err != nil {
		return fmt.Errorf("routing: drain: %w", err)
	}
	return nil
}

// Close ends everything at once: the ctx of running handlers ends with cause
// ErrClosed, and Close waits for them. What they have not acked is delivered
// elsewhere. It is safe to call twice and at any time; it leaves the connection
// open.
func (r *Router) Close() error {
	r.mu.Lock()
	r.setPhase(phaseClosed)
	r.mu.Unlock()
	r.cancel(ErrClosed)
	r.bundles.close()
	r.closeDurable()
	r.closeCalls()
	r.wg.Wait()
	return nil
}
