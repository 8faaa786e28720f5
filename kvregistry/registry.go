package kvregistry

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// Registry is one node's part in the registry of a cluster. New makes it, Join
// (or Observe) starts it, Leave or Close ends it.
type Registry struct {
	cfg  Config
	nc   *nats.Conn
	hub  *hub
	done chan struct{}
	// wanted is true when a light node is to hold a view.
	wanted atomic.Bool

	mu      sync.Mutex // memory only: never held over I/O
	state   lifecycle
	session *session
	err     error
	endOnce sync.Once
}

type lifecycle int

const (
	fresh lifecycle = iota
	joining
	running
	ended
)

// New returns a registry for the cluster and node of cfg over nc, which stays
// the caller's: it is never closed here. New checks cfg, reports all its
// problems together, and does no I/O.
func New(nc *nats.Conn, cfg Config) (*Registry, error) {
	cfg, err := cfg.check()
	if err != nil {
		return nil, err
	}
	if nc == nil {
		return nil, errors.New("kvregistry: no connection")
	}
	return &Registry{cfg: cfg, nc: nc, hub: newHub(), done: make(chan struct{})}, nil
}

// Join makes this node a member: when it returns, the node's record is in the
// store and in its own view, and every other member has been told. ctx bounds
// the call, not the membership. After an error nothing is left behind and Join
// may be called again.
//
// Errors: ErrNodeTaken, ErrServerTooOld, ErrNoJetStream, ErrDenied,
// ErrMissing, ErrDiffers, ErrTooLarge, ErrJoined, ErrClosed, the error of
// BeforeClaim, or ctx's.
func (r *Registry) Join(ctx context.Context) error {
	if r.cfg.Node == "" {
		return errors.New("kvregistry: Join needs Config.Node")
	}
	return r.start(ctx, false)
}

// Observe follows the registry without being a member: it sees everything and
// is seen by nobody. Errors as for Join.
func (r *Registry) Observe(ctx context.Context) error { return r.start(ctx, true) }

func (r *Registry) start(ctx context.Context, observer bool) error {
	r.mu.Lock()
	switch r.state {
	case fresh:
	case ended:
		r.mu.Unlock()
		return ErrClosed
	default:
		r.mu.Unlock()
		return ErrJoined
	}
	s, err := newSession(r.nc, r.cfg, r.hub, observer, !r.cfg.Light || r.wanted.Load())
	if err != nil {
		r.mu.Unlock()
		return err
	}
	r.state, r.session = joining, s
	r.mu.Unlock()

	go s.supervise()
	bounded, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// Close during Join ends Join.
	unhook := context.AfterFunc(s.ctx, func() { cancel(s.ended()) })
	defer unhook()
	if err := s.start(bounded); err != nil {
		if s.ctx.Err() != nil {
			err = s.ended()
		}
		s.close(ReasonClosed, errDone)
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.state == joining {
			r.state, r.session = fresh, nil
			r.hub.reset()
		}
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state != joining {
		return ErrClosed
	}
	r.state = running
	// The session may end by itself: the connection closed, the name taken.
	go func() {
		<-s.done
		r.end(s.cause())
	}()
	return nil
}

// Leave says goodbye and ends the membership: when it returns nil, the goodbye
// is in the store. After an error the node is still a member; Close ends it in
// any case. An observer just ends.
func (r *Registry) Leave(ctx context.Context) error {
	s, err := r.running()
	if err != nil {
		return err
	}
	if s.own != nil {
		if err := s.own.do(ctx, func(ctx context.Context) error { return s.own.goodbye(ctx, ReasonLeft) }); err != nil {
			return err
		}
	}
	return r.Close()
}

// Close ends the membership now, with a goodbye if that takes less than a
// second, and waits until nothing of it runs any more. It may be called at any
// time, also twice; it does not close the connection.
func (r *Registry) Close() error {
	r.mu.Lock()
	before, s := r.state, r.session
	r.state = ended
	r.mu.Unlock()
	if s != nil {
		s.close(ReasonClosed, errDone)
		if before == running {
			<-r.done
			return nil
		}
	}
	r.end(nil)
	return nil
}

// end closes everything that callers wait on.
func (r *Registry) end(err error) {
	r.endOnce.Do(func() {
		r.mu.Lock()
		r.state, r.err = ended, err
		r.mu.Unlock()
		r.hub.close()
		close(r.done)
	})
}

// Done is closed when the membership has ended: by Leave, by Close, or because
// it could not go on; Err tells which.
func (r *Registry) Done() <-chan struct{} { return r.done }

// Err returns why the membership has ended by itself: ErrNodeTaken or
// ErrConnectionClosed. It is nil before, and after Leave or Close.
func (r *Registry) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// ID returns the name of this node.
func (r *Registry) ID() string { return r.cfg.Node }

// Self returns this node as others see it. Before Join and for an observer
// only the fields that Config knows are set.
func (r *Registry) Self() Member {
	r.mu.Lock()
	s := r.session
	r.mu.Unlock()
	if s != nil && s.own != nil {
		if m := s.own.self.Load(); m != nil {
			return *m
		}
	}
	return Member{
		ID: r.cfg.Node, Endpoint: r.cfg.Endpoint, Metadata: maps.Clone(r.cfg.Metadata),
		Kinds: r.cfg.Kinds, Mail: r.cfg.Mail, Anonymous: r.cfg.Anonymous,
	}
}

// want makes a light node hold a view from now on.
func (r *Registry) want() {
	if !r.cfg.Light || r.wanted.Load() || r.wanted.Swap(true) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.session != nil {
		signal(r.session.wanted)
	}
}

// Members returns the online and draining members, sorted by id. The slice is
// shared and must not be modified; see View.
func (r *Registry) Members() []Member { return r.View().Members }

// View returns the membership at its latest known revision. The first call
// after a change merges it, later ones take no lock and copy nothing: the slices
// are shared and must not be modified.
func (r *Registry) View() View {
	r.want()
	return r.hub.read()
}

// Watch iterates over the changes: the current members as Joined, then Synced,
// then whatever happens. It ends when ctx ends or the registry is closed.
// Before Join has a view it waits. A watcher that reads slowly holds up
// nobody: what it has not read is coalesced to the latest state per member.
func (r *Registry) Watch(ctx context.Context) iter.Seq[Event] {
	r.want()
	return r.hub.events(ctx)
}

// Wait returns nil as soon as ok holds for the view; ok is called with each
// new view. It returns ctx's error, or ErrClosed (or Err) when the registry
// ends before.
func (r *Registry) Wait(ctx context.Context, ok func(View) bool) error {
	r.want()
	for {
		_, changed, synced := r.hub.next()
		if synced && ok(r.hub.read()) {
			return nil
		}
		select {
		case <-r.done:
			if err := r.Err(); err != nil {
				return err
			}
			return ErrClosed
		default:
		}
		select {
		case <-changed:
		case <-r.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// SetMetadata replaces this node's metadata, in the store when it returns nil
// and then in its own view. The map is copied.
//
// Errors: ErrNotJoined, ErrClosed, ErrTooLarge, or ctx's; after another one it
// may or may not have been stored.
func (r *Registry) SetMetadata(ctx context.Context, md map[string]string) error {
	if err := checkMetadata(md); err != nil {
		return fmt.Errorf("kvregistry: %w", err)
	}
	md = maps.Clone(md)
	return r.update(ctx, func(rec *record) { rec.Metadata = md })
}

// SetState makes this node Online or Draining for everybody. Errors as for SetMetadata.
func (r *Registry) SetState(ctx context.Context, state State) error {
	if state != Online && state != Draining {
		return fmt.Errorf("kvregistry: state %q: use %q or %q; Leave makes a node offline", state, Online, Draining)
	}
	return r.update(ctx, func(rec *record) { rec.State = state })
}

func (r *Registry) update(ctx context.Context, change func(*record)) error {
	s, err := r.running()
	if err != nil {
		return err
	}
	if s.own == nil {
		return ErrNotJoined
	}
	var revision uint64
	err = s.own.do(ctx, func(ctx context.Context) error {
		err := s.own.update(ctx, change)
		revision = s.own.revision
		return err
	})
	if err != nil {
		return err
	}
	if !s.holding() {
		return nil
	}
	// Stored; that its own view has it too is a convenience, and worth no
	// waiting for a connection.
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_ = s.wait(ctx, revision)
	return nil
}

// Status returns how this node's own membership stands.
func (r *Registry) Status() Status {
	r.mu.Lock()
	s, state := r.session, r.state
	r.mu.Unlock()
	st := Status{Revision: r.hub.revision.Load()}
	if s == nil || state != running {
		return st
	}
	st.Ready = true
	if since := s.stale.Load(); since != 0 {
		st.Stale, st.StaleSince = true, time.Unix(0, since)
	}
	if s.own != nil {
		if m := s.own.self.Load(); m != nil {
			st.State, st.Incarnation = m.State, m.Incarnation
		}
		st.Evicted = s.own.evicted.Load()
		st.Ready = !st.Evicted
		st.Armed = s.own.trip.armed() != ""
	}
	return st
}

func (r *Registry) running() (*session, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch r.state {
	case running:
		return r.session, nil
	case ended:
		return nil, ErrClosed
	default:
		return nil, ErrNotJoined
	}
}
