package kvregistry

import (
	"context"
	"iter"

	"github.com/nats-io/nats.go"
)

// Registry is one node's part in the registry of a cluster.
type Registry struct{ cfg Config }

// New returns a registry for the cluster and node of cfg over nc. It checks
// cfg and reports all its problems together; it does no I/O.
func New(nc *nats.Conn, cfg Config) (*Registry, error) {
	cfg, err := cfg.check()
	if err != nil {
		return nil, err
	}
	return &Registry{cfg: cfg}, nil
}

func (r *Registry) Join(ctx context.Context) error                              { return ErrNotJoined }
func (r *Registry) Observe(ctx context.Context) error                           { return ErrNotJoined }
func (r *Registry) Leave(ctx context.Context) error                             { return nil }
func (r *Registry) Close() error                                                { return nil }
func (r *Registry) Done() <-chan struct{}                                       { return nil }
func (r *Registry) Err() error                                                  { return nil }
func (r *Registry) ID() string                                                  { return r.cfg.Node }
func (r *Registry) Self() Member                                                { return Member{} }
func (r *Registry) Members() []Member                                           { return nil }
func (r *Registry) View() View                                                  { return View{} }
func (r *Registry) Watch(ctx context.Context) iter.Seq[Event]                   { return func(func(Event) bool) {} }
func (r *Registry) Wait(ctx context.Context, ok func(View) bool) error          { return ErrNotJoined }
func (r *Registry) SetMetadata(ctx context.Context, md map[string]string) error { return ErrNotJoined }
func (r *Registry) SetState(ctx context.Context, s State) error                 { return ErrNotJoined }
func (r *Registry) Status() Status                                              { return Status{} }
