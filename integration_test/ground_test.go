package integration_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/cluster"
	"github.com/catga/catga-go/embedded"
	"github.com/catga/catga-go/internal/natstest"
)

// ground is a NATS that scenarios run on.
type ground struct {
	name string
	url  string
	// restart stops the NATS for a while and starts it again; keeps tells
	// whether what was stored is still there.
	restart func(t *testing.T)
	keeps   bool
}

// onAllGrounds runs a scenario on each ground, with -short only in memory.
func onAllGrounds(t *testing.T, scenario func(t *testing.T, w *world)) {
	t.Helper()
	for _, name := range []string{"memory", "server", "cluster"} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && name != "memory" {
				t.Skip("-short")
			}
			if name == "memory" { // made in milliseconds: each scenario has its own
				scenario(t, newWorld(t, startMemory(t)))
				return
			}
			scenario(t, newWorld(t, suite.ground(t, name)))
		})
	}
}

// onOwnGrounds is onAllGrounds with a NATS for the scenario alone, because it
// harms it.
func onOwnGrounds(t *testing.T, scenario func(t *testing.T, w *world)) {
	t.Helper()
	for _, name := range []string{"memory", "server", "cluster"} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && name != "memory" {
				t.Skip("-short")
			}
			scenario(t, newWorld(t, startGround(t, name)))
		})
	}
}

func startGround(t testing.TB, name string) *ground {
	switch name {
	case "memory":
		return startMemory(t)
	case "server":
		s := natstest.Start(t)
		return &ground{name: name, url: s.URL(), keeps: true, restart: func(t *testing.T) { s.Kill(); s.Restart(t) }}
	default:
		c := natstest.StartCluster(t, 3)
		return &ground{name: name, url: c.URL(), keeps: true, restart: func(t *testing.T) {
			for _, s := range c.Servers {
				s.Kill()
			}
			for _, s := range c.Servers {
				s.RestartNoWait(t)
			}
			for _, s := range c.Servers {
				s.WaitReady(t)
			}
		}}
	}
}

// startMemory embeds NATS in this process, listening, without a directory.
func startMemory(t testing.TB) *ground {
	t.Helper()
	start := func(addr string) *embedded.Server {
		srv, err := embedded.Start(context.Background(), embedded.Config{Addr: addr})
		if err != nil {
			t.Fatal(err)
		}
		return srv
	}
	srv := start("127.0.0.1:0")
	t.Cleanup(func() { _ = srv.Close() })
	g := &ground{name: "memory", url: srv.ClientURL()}
	g.restart = func(t *testing.T) {
		if err := srv.Close(); err != nil {
			t.Fatal(err)
		}
		srv = start(strings.TrimPrefix(g.url, "nats://"))
	}
	return g
}

// world is one scenario's cluster on a ground.
type world struct {
	*ground
	cluster string
}

var notInNames = regexp.MustCompile(`[^A-Za-z0-9_-]+`)

func newWorld(t *testing.T, g *ground) *world {
	name := notInNames.ReplaceAllString(t.Name(), "-")
	return &world{ground: g, cluster: name[:min(len(name), 50)] + fmt.Sprintf("-%d", suite.next())}
}

// limit bounds every wait of a scenario.
const limit = 60 * time.Second

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

// dial connects as a service would; the connection ends with the test.
func (w *world) dial(t *testing.T, opts ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := cluster.Dial(bounded(t), w.url, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// node makes a node in this process, not joined yet.
func (w *world) node(t *testing.T, id string, register func(*cluster.Node)) *cluster.Node {
	t.Helper()
	return w.nodeOver(t, w.dial(t), id, register)
}

func (w *world) nodeOver(t *testing.T, nc *nats.Conn, id string, register func(*cluster.Node)) *cluster.Node {
	t.Helper()
	n, err := cluster.New(nc, cluster.Config{Cluster: w.cluster, Node: id, Log: logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	if register != nil {
		register(n)
	}
	t.Cleanup(func() { _ = n.Close() })
	return n
}

// logger writes to the log of the test, which is shown where it fails.
func logger(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.String("at", a.Value.Time().Format("05.000"))
			}
			return a
		},
	}))
}

// join is node and Join.
func (w *world) join(t *testing.T, id string, register func(*cluster.Node)) *cluster.Node {
	t.Helper()
	n := w.node(t, id, register)
	if err := n.Join(bounded(t)); err != nil {
		t.Fatal(err)
	}
	return n
}

// sees waits until n's view holds.
func sees(t *testing.T, n *cluster.Node, what string, ok func(cluster.View) bool) {
	t.Helper()
	if err := n.Wait(bounded(t), ok); err != nil {
		t.Fatalf("%s does not see %s: %v; it sees %+v", n.ID(), what, err, n.View())
	}
}

func online(ids ...string) func(cluster.View) bool {
	return func(v cluster.View) bool {
		for _, id := range ids {
			if m, ok := v.Member(id); !ok || m.State == cluster.Offline {
				return false
			}
		}
		return true
	}
}

func offline(id string, reason cluster.Reason) func(cluster.View) bool {
	return func(v cluster.View) bool {
		m, ok := v.Member(id)
		return ok && m.State == cluster.Offline && m.Reason == reason
	}
}

// receive takes one value from ch.
func receive[T any](t *testing.T, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-bounded(t).Done():
		t.Fatalf("not within %v: %s", limit, what)
		panic("unreachable")
	}
}

// suite holds the grounds that scenarios share; they end after the last test.
var suite = &shared{grounds: map[string]*ground{}}

type shared struct {
	testing.TB // nil: what natstest uses of it is below

	mu       sync.Mutex
	n        int
	grounds  map[string]*ground
	cleanups []func()
	failed   bool
}

func (s *shared) ground(t *testing.T, name string) *ground {
	t.Helper()
	s.mu.Lock()
	g := s.grounds[name]
	s.mu.Unlock()
	if g != nil {
		return g
	}
	g = startGround(s, name)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grounds[name] = g
	return g
}

func (s *shared) next() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	return s.n
}

func (s *shared) end() {
	for i := len(s.cleanups) - 1; i >= 0; i-- {
		s.cleanups[i]()
	}
}

func (s *shared) Helper() {}

func (s *shared) Cleanup(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cleanups = append(s.cleanups, f)
}

func (s *shared) TempDir() string {
	dir, err := os.MkdirTemp("", "integration-")
	if err != nil {
		panic(err)
	}
	s.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (s *shared) Failed() bool              { return s.failed }
func (s *shared) Logf(f string, a ...any)   { fmt.Printf(f+"\n", a...) }
func (s *shared) Fatal(a ...any)            { panic(fmt.Sprint(a...)) }
func (s *shared) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }
