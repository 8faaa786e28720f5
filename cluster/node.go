package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/kvregistry"
	"github.com/catga/catga-go/routing"
)

// maxReconnectWait is the longest pause before a reconnect that passes without
// a warning: it goes into the grace of the failure detector three times.
const maxReconnectWait = 250 * time.Millisecond

// Node is one member of a cluster, or with Observe one who only looks on and
// sends. It is made by New and ends for good with Leave, Close, or what Err says.
type Node struct {
	nc     *nats.Conn
	id     string
	cfg    Config
	router *routing.Router

	// registry is there from the start of Join or Observe, which closes opened.
	registry atomic.Pointer[kvregistry.Registry]
	opened   chan struct{}

	// claims carries the incarnations under which the registry knows this node:
	// the latest one that run has not started yet.
	claims chan uint64

	discovery *discovery // of a member; written before phaseJoined

	// working is the incarnation as which the router was last started.
	working atomic.Uint64

	mu    sync.Mutex
	phase phase
	stop  context.CancelFunc // ends run
	wg    sync.WaitGroup     // run

	done chan struct{}
	err  error // written before done is closed
}

// phase is how far a node is in its life. It only grows, but that a Join that
// failed leads back to phaseNew.
type phase int

const (
	phaseNew phase = iota
	phaseJoining
	phaseJoined
	phaseLeaving
	phaseClosed
)

// New returns a node that is not yet a member: register its handlers, then call
// Join or Observe. It checks cfg, reports all its problems together, and does
// no I/O. nc stays the caller's: the node uses it, sets no callback on it and
// never closes it. One connection may serve several nodes.
func New(nc *nats.Conn, cfg Config) (*Node, error) {
	cfg, err := cfg.check()
	if nc == nil {
		err = errors.Join(errors.New("the connection is nil"), err)
	}
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	cfg.Metadata = maps.Clone(cfg.Metadata)
	n := &Node{
		nc: nc, id: cfg.Node, cfg: cfg,
		opened: make(chan struct{}),
		claims: make(chan uint64, 1),
		done:   make(chan struct{}),
	}
	if n.router, err = routing.New(nc, routing.Config{
		Cluster: cfg.Cluster, Node: cfg.Node, Anonymous: cfg.anonymous,
		Replicas: cfg.Replicas, NoProvision: cfg.NoProvision,
		Codec: cfg.Codec, Middleware: cfg.Middleware,
		Mail: string(cfg.Mail), Forget: cfg.Forget, Standing: n.standing, Log: cfg.Log,
	}); err != nil {
		return nil, err
	}
	// What only the registry can judge is judged now, not at Join.
	if _, err := n.newRegistry(); err != nil {
		return nil, err
	}
	return n, nil
}

func (n *Node) newRegistry() (*kvregistry.Registry, error) {
	return kvregistry.New(n.nc, kvregistry.Config{
		Cluster: n.cfg.Cluster, Node: n.id, Anonymous: n.cfg.anonymous,
		Endpoint: n.cfg.Endpoint, Metadata: n.cfg.Metadata, Kinds: n.router.Kinds(),
		Mail: n.cfg.Mail, Forget: n.cfg.Forget,
		Replicas: n.cfg.Replicas, NoProvision: n.cfg.NoProvision, Log: n.cfg.Log,
		BeforeClaim: n.router.Prepare,
		Changed:     n.changed,
	})
}

// Join makes the node a member: its streams and consumers are there, then its
// record is, and every other node sees it. Handlers run from then on, maybe
// before Join has returned. ctx bounds the joining, not the life; a Join that
// fails leaves nothing behind and may be called again.
//
// Errors: ErrNodeTaken (a live process has the id), ErrServerTooOld,
// ErrNoJetStream, ErrDenied, ErrMissing, ErrDiffers, ErrClosed, or ctx's.
func (n *Node) Join(ctx context.Context) error {
	return n.open(ctx, (*kvregistry.Registry).Join, n.startDiscovery)
}

// Observe makes the node see the cluster, send, call and gather without being a
// member: for command-line tools, cron jobs and gateways. Its handlers are not
// run. Errors are those of Join but ErrNodeTaken.
func (n *Node) Observe(ctx context.Context) error {
	return n.open(ctx, (*kvregistry.Registry).Observe, func() {})
}

// open joins by join; begun is called when that has worked.
func (n *Node) open(ctx context.Context, join func(*kvregistry.Registry, context.Context) error, begun func()) error {
	n.mu.Lock()
	switch n.phase {
	case phaseNew:
	case phaseClosed:
		n.mu.Unlock()
		return ErrClosed
	default:
		n.mu.Unlock()
		return ErrJoined
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	n.phase, n.stop = phaseJoining, cancel // Close ends a Join
	n.mu.Unlock()

	reg, err := n.newRegistry()
	if err == nil {
		n.warnOfConnection()
		err = join(reg, ctx)
	}
	if err == nil {
		return n.start(ctx, reg, begun)
	}
	n.router.Withdraw()
	n.mu.Lock()
	closed := n.phase == phaseClosed
	if !closed {
		n.phase = phaseNew
	}
	n.mu.Unlock()
	if closed {
		return errors.Join(ErrClosed, n.end(nil, nil))
	}
	return err
}

// start brings a node whose registry is up to work.
func (n *Node) start(ctx context.Context, reg *kvregistry.Registry, begun func()) error {
	n.registry.Store(reg)
	close(n.opened) // handlers, which run from Start on, may use the node
	begun()         // before Start, which returns when the server knows of all subscriptions
	incarnation := reg.Self().Incarnation
	err := n.router.Start(ctx, incarnation)
	n.working.Store(incarnation)

	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	n.mu.Lock()
	closed := n.phase == phaseClosed
	if err == nil && !closed {
		n.phase, n.stop = phaseJoined, stop
		n.wg.Go(func() { n.run(life, reg, incarnation) })
		n.mu.Unlock()
		return nil
	}
	n.phase = phaseClosed
	n.mu.Unlock()
	stop()
	if closed {
		err = ErrClosed
	}
	return errors.Join(err, n.end(reg, err))
}

// startRetry is the pause before work as a new incarnation is tried again: until
// it succeeds the others see a member that does nothing.
const startRetry = time.Second

// run follows the registry for as long as the node lives: it starts the router
// anew when the node comes back after an eviction, and ends the node when the
// registry has ended by itself.
func (n *Node) run(ctx context.Context, reg *kvregistry.Registry, incarnation uint64) {
	claimed := incarnation
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case claimed = <-n.claims:
		case <-again:
		case <-reg.Done():
			n.mu.Lock()
			ours := n.phase == phaseJoined
			if ours {
				n.phase = phaseClosed
			}
			n.mu.Unlock()
			if ours {
				// What ended the registry is told by Err; closing the rest adds nothing.
				_ = n.end(reg, reg.Err())
			}
			return
		}
		again = nil
		if claimed == incarnation {
			continue
		}
		if err := n.router.Start(ctx, claimed); err != nil {
			n.cfg.Log.Error("cannot work as a new incarnation; trying again", "cluster", n.cfg.Cluster, "node", n.id, "err", err)
			again = time.After(startRetry)
			continue
		}
		incarnation = claimed
		n.working.Store(incarnation)
	}
}

// end closes what the node is made of and tells that it is done. Whoever moves
// the phase to phaseClosed calls it, once.
func (n *Node) end(reg *kvregistry.Registry, cause error) error {
	n.discovery.stop()
	var err error
	if reg != nil {
		err = reg.Close() // the goodbye first: the others act on it while handlers end
	}
	err = errors.Join(err, n.router.Close())
	n.err = cause
	close(n.done)
	return err
}

// changed feeds the router. The registry calls it before it publishes the view
// that has the changes.
func (n *Node) changed(events []kvregistry.Event) {
	changes := make([]routing.Change, 0, len(events))
	for _, ev := range events {
		if c, ok := change(ev); ok {
			changes = append(changes, c)
		}
		if ev.Member.ID == n.id {
			n.changedSelf(ev)
		}
	}
	n.router.Update(changes)
}

// changedSelf is about this very node: what it does for an incarnation that is
// over ends now, and run begins the next.
func (n *Node) changedSelf(ev kvregistry.Event) {
	if ev.Kind != kvregistry.Evicted && ev.Kind != kvregistry.Joined {
		return
	}
	select {
	case <-n.claims: // an older one that run has not seen
	default:
	}
	if ev.Kind == kvregistry.Evicted {
		n.router.Evict(ErrEvicted)
		return
	}
	n.claims <- ev.Member.Incarnation
}

// standing tells the router how a node stands that is no member to it.
func (n *Node) standing(id string) (routing.Peer, routing.Standing) {
	v := n.View()
	m, ok := v.Member(id)
	switch {
	case v.Revision == 0 || v.Stale:
		return peerOf(m), routing.Unsure
	case !ok:
		return routing.Peer{}, routing.Forgotten
	case m.State == kvregistry.Offline:
		return peerOf(m), routing.Absent
	}
	return peerOf(m), routing.Present
}

// peerOf is a member as the router knows it.
func peerOf(m Member) routing.Peer {
	return routing.Peer{
		ID: m.ID, Incarnation: m.Incarnation, Kinds: m.Kinds, Metadata: m.Metadata,
		Draining: m.State == kvregistry.Draining, Mail: string(m.Mail),
		Left: m.Reason == kvregistry.ReasonLeft || m.Reason == kvregistry.ReasonClosed,
	}
}

func change(ev kvregistry.Event) (routing.Change, bool) {
	c := routing.Change{Peer: peerOf(ev.Member)}
	switch ev.Kind {
	case kvregistry.Joined, kvregistry.Updated:
		c.Kind = routing.Up
	case kvregistry.Left:
		c.Kind = routing.Left
	case kvregistry.Lost:
		c.Kind = routing.Lost
	default:
		return c, false
	}
	return c, true
}

// Leave is the soft stop: the node takes no new work, running handlers finish,
// what has not begun is handed back, and the others hear a goodbye; it returns
// when the goodbye is stored. When ctx ends first, Leave returns its error at
// once and the node is closed behind it, as Close does; Done tells when that is
// over. After Leave the node is closed in any case.
func (n *Node) Leave(ctx context.Context) error {
	n.mu.Lock()
	switch n.phase {
	case phaseJoined:
	case phaseClosed:
		n.mu.Unlock()
		return nil
	case phaseLeaving:
		n.mu.Unlock()
		select {
		case <-n.done:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("cluster: leave: %w", context.Cause(ctx))
		}
	default:
		n.mu.Unlock()
		return ErrNotJoined
	}
	n.phase = phaseLeaving
	n.mu.Unlock()

	reg := n.registry.Load()
	n.stop()
	n.wg.Wait()
	// Others stop choosing this node for calls; who has not heard is refused.
	err := reg.SetState(ctx, kvregistry.Draining)
	err = errors.Join(err, n.router.Drain(ctx))
	n.discovery.stop()
	err = errors.Join(err, reg.Leave(ctx))
	n.mu.Lock()
	ours := n.phase == phaseLeaving
	n.phase = phaseClosed
	n.mu.Unlock()
	if !ours { // Close was faster
		select {
		case <-n.done:
		case <-ctx.Done():
		}
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- n.end(reg, nil) }() // Close and Done wait for it
	select {
	case closing := <-ended:
		return errors.Join(err, closing)
	case <-ctx.Done():
		return errors.Join(err, fmt.Errorf("cluster: leave: %w", context.Cause(ctx)))
	}
}

// Close ends the node now: a goodbye, for which it takes a second at most, the
// ctx of handlers ends with cause ErrClosed, and Close waits for them to
// return. Work that they do not finish is done by others. Close may be called
// twice, at any time, but not from a handler; it never closes the connection.
func (n *Node) Close() error {
	n.mu.Lock()
	was := n.phase
	n.phase = phaseClosed
	n.mu.Unlock()
	switch was {
	case phaseNew:
		return n.end(nil, nil)
	case phaseJoining: // open sees the phase and ends the node
		n.stop()
		<-n.done
		return nil
	case phaseClosed:
		<-n.done
		return nil
	}
	n.stop()
	n.wg.Wait()
	return n.end(n.registry.Load(), nil)
}

// Done is closed when the node has ended for good: after Leave or Close, when
// its connection was closed, or when a live process took its id.
func (n *Node) Done() <-chan struct{} { return n.done }

// Err is why the node ended: nil while it lives, and after Leave and Close.
func (n *Node) Err() error {
	select {
	case <-n.done:
		return n.err
	default:
		return nil
	}
}

// ID is the node's id, made up by New if the Config had none.
func (n *Node) ID() string { return n.id }

// warnOfConnection says once what in the connection's options makes a live node
// look dead, or ends it after a while.
func (n *Node) warnOfConnection() {
	log := n.cfg.Log.With("cluster", n.cfg.Cluster, "node", n.id)
	if wait := n.nc.Opts.ReconnectWait; wait > maxReconnectWait {
		log.Warn("the connection waits long before it reconnects: a crash of this node is seen that much later; set nats.ReconnectWait or use cluster.Dial",
			"ReconnectWait", wait, "want", maxReconnectWait)
	}
	if _, brisk := n.nc.Opts.CustomDialer.(interface{ AttemptLimit() time.Duration }); !brisk && len(n.nc.Servers()) > 1 && n.nc.Opts.Timeout > maxReconnectWait {
		log.Warn("the connection waits long for a server that stands still: a crash of this node is seen that much later; use cluster.Dial",
			"Timeout", n.nc.Opts.Timeout)
	}
	if limit := n.nc.Opts.MaxReconnect; limit >= 0 {
		log.Warn("the connection gives up reconnecting: the node then ends; set nats.MaxReconnects(-1) or use cluster.Dial",
			"MaxReconnects", limit)
	}
}
