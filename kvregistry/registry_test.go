package kvregistry

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/catga/catga-go/internal/natstest"
	"github.com/nats-io/nats.go"
)

// testLog prints what the registry logs when CATGA_TEST_LOG is set.
func testLog(node string) *slog.Logger {
	if os.Getenv("CATGA_TEST_LOG") == "" {
		return nil
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("at", node)
}

// join makes a member that ends with the test.
func join(t testing.TB, nc *nats.Conn, cfg Config) *Registry {
	t.Helper()
	if cfg.Cluster == "" {
		cfg.Cluster = "test"
	}
	cfg.Log = testLog(cfg.Node)
	r, err := New(nc, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := r.Join(context.Background()); err != nil {
		t.Fatalf("join %s: %v", cfg.Node, err)
	}
	return r
}

func ids(members []Member) []string {
	var ids []string
	for _, m := range members {
		ids = append(ids, m.ID)
	}
	return ids
}

// waitFor waits until the members are exactly those.
func waitFor(t testing.TB, r *Registry, want ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	err := r.Wait(ctx, func(v View) bool { return slices.Equal(ids(v.Members), want) })
	if err != nil {
		t.Fatalf("%s waits for members %v, has %v: %v", r.ID(), want, ids(r.Members()), err)
	}
}

func TestJoinIsSeenByAll(t *testing.T) {
	mem := natstest.Memory(t)
	a := join(t, mem.Dial(t), Config{Node: "a", Metadata: map[string]string{"zone": "x"}, Kinds: []string{"order.place"}, Endpoint: "10.0.0.1:80"})
	if got := ids(a.Members()); !slices.Equal(got, []string{"a"}) {
		t.Fatalf("after Join a sees %v", got)
	}
	b := join(t, mem.Dial(t), Config{Node: "b"})
	waitFor(t, a, "a", "b")
	waitFor(t, b, "a", "b")
	m, ok := b.View().Member("a")
	if !ok || m.Metadata["zone"] != "x" || !m.Handles("order.place") || m.Endpoint != "10.0.0.1:80" || m.State != Online || m.Mail != MailKeep {
		t.Fatalf("b sees a as %+v", m)
	}
	if m.Incarnation != a.Self().Incarnation || m.Incarnation != m.Revision {
		t.Fatalf("incarnation %d, own %d, revision %d", m.Incarnation, a.Self().Incarnation, m.Revision)
	}
	if !a.Status().Ready || !a.Status().Armed || a.Status().Stale {
		t.Fatalf("status %+v", a.Status())
	}
}

func TestLeaveIsSeenByAll(t *testing.T) {
	mem := natstest.Memory(t)
	a := join(t, mem.Dial(t), Config{Node: "a"})
	b := join(t, mem.Dial(t), Config{Node: "b"})
	waitFor(t, a, "a", "b")
	if err := b.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	waitFor(t, a, "a")
	m, ok := a.View().Member("b")
	if !ok || m.State != Offline || m.Reason != ReasonLeft || m.By != "b" || m.LastSeen.IsZero() {
		t.Fatalf("a sees b as %+v", m)
	}
	select {
	case <-b.Done():
	default:
		t.Fatal("not done after Leave")
	}
	if err := b.Err(); err != nil {
		t.Fatal(err)
	}
	if err := b.Join(t.Context()); !errors.Is(err, ErrClosed) {
		t.Fatalf("Join after Leave: %v", err)
	}
}
