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
	if cfg.Log == nil {
		cfg.Log = testLog(cfg.Node)
	}
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

func TestNameOfALiveNodeIsRefused(t *testing.T) {
	mem := natstest.Memory(t)
	a := join(t, mem.Dial(t), Config{Node: "a"})
	second, err := New(mem.Dial(t), Config{Cluster: "test", Node: "a"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = second.Close() }()
	if err := second.Join(t.Context()); !errors.Is(err, ErrNodeTaken) {
		t.Fatalf("second process with the name: %v", err)
	}
	if m, _ := a.View().Member("a"); m.Incarnation != a.Self().Incarnation || m.State != Online {
		t.Fatalf("the holder was disturbed: %+v", m)
	}
	if err := a.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Nothing is left of the refused Join; the name is free now.
	if err := second.Join(t.Context()); err != nil {
		t.Fatalf("after the holder has left: %v", err)
	}
}

func TestOneOfManyGetsTheName(t *testing.T) {
	mem := natstest.Memory(t)
	const racers = 8
	results := make(chan error, racers)
	for range racers {
		r, err := New(mem.Dial(t), Config{Cluster: "test", Node: "a"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close() })
		go func() { results <- r.Join(t.Context()) }()
	}
	won := 0
	for range racers {
		switch err := <-results; {
		case err == nil:
			won++
		case !errors.Is(err, ErrNodeTaken):
			t.Errorf("lost with %v", err)
		}
	}
	if won != 1 {
		t.Fatalf("%d of %d got the name", won, racers)
	}
}

func TestNameOfACrashedNodeIsTakenOverAtOnce(t *testing.T) {
	mem := natstest.Memory(t)
	b := join(t, mem.Dial(t), Config{Node: "b"})
	nc := mem.Dial(t)
	a := join(t, nc, Config{Node: "a"})
	waitFor(t, b, "a", "b")
	first := a.Self().Incarnation
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events := watch(ctx, b)
	nextIs(t, events, Joined, "a")
	nextIs(t, events, Joined, "b")
	nextIs(t, events, Synced, "")
	nc.Close() // as a crash does
	<-a.Done()
	if !errors.Is(a.Err(), ErrConnectionClosed) {
		t.Fatalf("ended with %v", a.Err())
	}
	begin := time.Now()
	again := join(t, mem.Dial(t), Config{Node: "a"})
	lost := nextIs(t, events, Lost, "a")
	if lost.Reason != ReasonReplaced || lost.Incarnation != first {
		t.Fatalf("lost %+v", lost)
	}
	joined := nextIs(t, events, Joined, "a")
	t.Logf("taken over after %v", time.Since(begin))
	if joined.Incarnation <= first || joined.Incarnation != again.Self().Incarnation {
		t.Fatalf("joined again as %d after %d, says %d", joined.Incarnation, first, again.Self().Incarnation)
	}
}

func TestCrashIsSeenByAll(t *testing.T) {
	mem := natstest.Memory(t)
	a := join(t, mem.Dial(t), Config{Node: "a"})
	b := join(t, mem.Dial(t), Config{Node: "b"})
	nc := mem.Dial(t)
	join(t, nc, Config{Node: "c"})
	waitFor(t, a, "a", "b", "c")
	waitFor(t, b, "a", "b", "c")
	begin := time.Now()
	nc.Close()
	waitFor(t, a, "a", "b")
	waitFor(t, b, "a", "b")
	t.Logf("seen by all after %v", time.Since(begin))
	if m, _ := a.View().Member("c"); m.Reason != ReasonCrashed || m.By == "" || m.By == "c" {
		t.Fatalf("a sees c as %+v", m)
	}
}

func TestDroppedConnectionLosesNobody(t *testing.T) {
	mem := natstest.Memory(t)
	a := join(t, mem.Dial(t), Config{Node: "a"})
	nc := mem.Dial(t)
	b := join(t, nc, Config{Node: "b"})
	waitFor(t, a, "a", "b")
	incarnation := b.Self().Incarnation
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events := watch(ctx, a)
	nextIs(t, events, Joined, "a")
	nextIs(t, events, Joined, "b")
	nextIs(t, events, Synced, "")
	for range 5 {
		status := nc.StatusChanged(nats.CONNECTED)
		cid, err := nc.GetClientID()
		if err != nil {
			t.Fatal(err)
		}
		if err := mem.Server.DisconnectClientByID(cid); err != nil {
			t.Fatal(err)
		}
		<-status
		nc.RemoveStatusListener(status)
		// A metadata change shows that everything works, and that nothing else happened before.
		if err := b.SetMetadata(t.Context(), map[string]string{"x": nc.Opts.Name + time.Now().String()}); err != nil {
			t.Fatal(err)
		}
		if m := nextIs(t, events, Updated, "b"); m.Incarnation != incarnation {
			t.Fatalf("incarnation %d, was %d", m.Incarnation, incarnation)
		}
	}
	natstest.Eventually(t, "b is armed and fresh", func() bool { s := b.Status(); return s.Armed && !s.Stale })
}

func TestEvictedNodeRejoins(t *testing.T) {
	mem := natstest.Memory(t)
	a := join(t, mem.Dial(t), Config{Node: "a"})
	prepared := make(chan struct{}, 8)
	nc := mem.Dial(t)
	b := join(t, nc, Config{Node: "b", BeforeClaim: func(context.Context) error { prepared <- struct{}{}; return nil }})
	<-prepared
	waitFor(t, a, "a", "b")
	old := b.Self().Incarnation
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events := watch(ctx, b)
	for range 3 {
		<-events
	}
	buryByHand(t, b, ReasonHung)
	if m := nextIs(t, events, Lost, "b"); m.Incarnation != old || m.Reason != ReasonHung {
		t.Fatalf("lost %+v", m)
	}
	if m := nextIs(t, events, Evicted, "b"); m.Incarnation != old || m.Reason != ReasonHung || m.By != "a" {
		t.Fatalf("evicted %+v", m)
	}
	if m := nextIs(t, events, Joined, "b"); m.Incarnation <= old {
		t.Fatalf("joined %+v", m)
	}
	<-prepared
	natstest.Eventually(t, "b is ready and armed", func() bool { s := b.Status(); return s.Ready && s.Armed && !s.Evicted })
}

// watch passes the events of a watch on.
func watch(ctx context.Context, r *Registry) <-chan Event {
	events := make(chan Event, 256)
	go func() {
		defer close(events)
		for e := range r.Watch(ctx) {
			events <- e
		}
	}()
	return events
}

// nextIs takes the next event, which must be that.
func nextIs(t testing.TB, events <-chan Event, kind EventKind, id string) Member {
	t.Helper()
	select {
	case e := <-events:
		if e.Kind != kind || e.Member.ID != id {
			t.Fatalf("event %v %s, want %v %s (%+v)", e.Kind, e.Member.ID, kind, id, e.Member)
		}
		return e.Member
	case <-time.After(30 * time.Second):
		t.Fatalf("no event, want %v %s", kind, id)
	}
	return Member{}
}

func waitFresh(t testing.TB, r *Registry) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := r.Wait(ctx, func(v View) bool { return !v.Stale }); err != nil {
		t.Fatalf("%s stays stale: %v", r.ID(), err)
	}
}
