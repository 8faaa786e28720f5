package routing

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/natstest"
)

// town is a few routers on one server that know each other, as if a registry
// had told them.
type town struct {
	t     testing.TB
	mem   *natstest.Mem
	nodes []*Router
}

func newTown(t testing.TB) *town { return &town{t: t, mem: natstest.Memory(t)} }

// conn returns a connection of its own.
func (w *town) conn(opts ...nats.Option) *nats.Conn { return w.mem.Dial(w.t, opts...) }

// node makes a router with a connection of its own; handlers are registered by setup.
func (w *town) node(id string, setup func(*Router)) *Router {
	w.t.Helper()
	return w.nodeOn(w.conn(), Config{Cluster: "c", Node: id}, setup)
}

func (w *town) nodeOn(nc *nats.Conn, cfg Config, setup func(*Router)) *Router {
	w.t.Helper()
	r, err := New(nc, cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	if setup != nil {
		setup(r)
	}
	w.t.Cleanup(func() {
		if err := r.Close(); err != nil {
			w.t.Error("close:", err)
		}
		if in := r.calls.replies.Load(); in != nil && in.waiting() != 0 {
			w.t.Errorf("%d calls of %s are left in the table", in.waiting(), r.id)
		}
	})
	w.nodes = append(w.nodes, r)
	return r
}

// open prepares and starts all nodes, tells each of all, and returns the first.
func (w *town) open() *Router {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for i, r := range w.nodes {
		if err := r.Prepare(ctx); err != nil {
			w.t.Fatal(err)
		}
		if err := r.Start(ctx, uint64(i+1)); err != nil {
			w.t.Fatal(err)
		}
	}
	for i, r := range w.nodes {
		w.tell(Change{Kind: Up, Peer: Peer{ID: r.id, Incarnation: uint64(i + 1), Kinds: r.Kinds()}})
	}
	return w.nodes[0]
}

// tell tells every node of changes.
func (w *town) tell(changes ...Change) {
	for _, r := range w.nodes {
		r.Update(changes)
	}
}

// ghost is a member that nobody is: its node has died and nobody has seen it.
func ghost(id string, kinds ...string) Change {
	return Change{Kind: Up, Peer: Peer{ID: id, Incarnation: 99, Kinds: kinds}}
}

func lost(c Change) Change {
	c.Kind = Lost
	return c
}

func left(c Change) Change {
	c.Kind = Left
	return c
}

func up(id string, incarnation uint64, kinds ...string) Change {
	return Change{Kind: Up, Peer: Peer{ID: id, Incarnation: incarnation, Kinds: kinds}}
}

// answering handles kinds with f.
func answering(f Handler, kinds ...string) func(*Router) {
	return func(r *Router) {
		for _, k := range kinds {
			r.Handle(k, f, HandleOptions{Reply: true})
		}
	}
}

// named answers with the name of its node.
func named(id string) Handler {
	return func(context.Context, *Msg[Raw]) (Raw, error) { return Raw{Data: []byte(id)}, nil }
}

// gate is a handler that says when it begins and waits to be let through.
type gate struct {
	entered chan string // the sender
	open    chan struct{}
	once    sync.Once
}

func newGate(t testing.TB) *gate {
	g := &gate{entered: make(chan string, 1000), open: make(chan struct{})}
	t.Cleanup(g.release)
	return g
}

func (g *gate) release() { g.once.Do(func() { close(g.open) }) }

func (g *gate) handle(ctx context.Context, m *Msg[Raw]) (Raw, error) {
	g.entered <- m.From
	select {
	case <-g.open:
		return m.Body, nil
	case <-ctx.Done():
		return Raw{}, context.Cause(ctx)
	}
}

// record keeps what is logged.
type record struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *record) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *record) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *record) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }
