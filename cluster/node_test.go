package cluster_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/cluster"
	"github.com/catga/catga-go/internal/natstest"
)

// newNode makes a node over its own connection; it is closed with the test.
func newNode(t *testing.T, m *natstest.Mem, cfg cluster.Config, opts ...nats.Option) *cluster.Node {
	t.Helper()
	if cfg.Cluster == "" {
		cfg.Cluster = "test"
	}
	n, err := cluster.New(m.Dial(t, opts...), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	return n
}

func join(t *testing.T, n *cluster.Node) *cluster.Node {
	t.Helper()
	if err := n.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestNewReportsEveryProblem(t *testing.T) {
	_, err := cluster.New(nil, cluster.Config{Cluster: "", Node: "a b", Middleware: []func(cluster.Handler) cluster.Handler{nil}})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"connection is nil", "cluster name is empty", `"a b"`, "middleware 0"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %q", want, err)
		}
	}
	m := natstest.Memory(t)
	for name, cfg := range map[string]cluster.Config{
		"metadata": {Cluster: "c", Metadata: map[string]string{"k": strings.Repeat("x", 100<<10)}},
		"beats":    {Cluster: "c_beats"},
		"replicas": {Cluster: "c", Replicas: 7},
		"mail":     {Cluster: "c", Mail: "burn"},
		"forget":   {Cluster: "c", Forget: -1},
	} {
		if _, err := cluster.New(m.Dial(t), cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestAnonymousNodesDiffer(t *testing.T) {
	m := natstest.Memory(t)
	a, b := join(t, newNode(t, m, cluster.Config{})), join(t, newNode(t, m, cluster.Config{}))
	if a.ID() == b.ID() || !strings.HasPrefix(a.ID(), "cluster_test-") {
		t.Errorf("%s, %s", a.ID(), b.ID())
	}
}

func TestVerbsBeforeJoinSayNotJoined(t *testing.T) {
	n := newNode(t, natstest.Memory(t), cluster.Config{Node: "n"})
	for what, err := range map[string]error{
		"Send":        n.Send(t.Context(), cluster.Any(), greeting{}),
		"cast":        n.Send(t.Context(), cluster.All(), greeting{}, cluster.AtMostOnce()),
		"SetMetadata": n.SetMetadata(t.Context(), nil),
		"Leave":       n.Leave(t.Context()),
		"Check":       n.Check(t.Context()),
		"Call":        func() error { _, err := cluster.Call(t.Context(), n, cluster.Any(), getPrice{}); return err }(),
	} {
		if !errors.Is(err, cluster.ErrNotJoined) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if v := n.View(); v.Revision != 0 || len(v.Members) != 0 || n.Status().Ready {
		t.Errorf("%+v", v)
	}
	if m := n.Self(); m.ID != "" {
		t.Errorf("%+v", m)
	}
}

func TestWatchAndWaitBeforeJoinWaitForIt(t *testing.T) {
	n := newNode(t, natstest.Memory(t), cluster.Config{Node: "n"})
	var wg sync.WaitGroup
	wg.Go(func() {
		for ev := range n.Watch(t.Context()) {
			if ev.Kind == cluster.Joined && ev.Member.ID == "n" {
				return
			}
		}
		t.Error("the watch ended")
	})
	wg.Go(func() {
		if err := n.Wait(t.Context(), func(v cluster.View) bool { return len(v.Members) == 1 }); err != nil {
			t.Error(err)
		}
	})
	join(t, n)
	wg.Wait()
}

func TestCloseAtAnyTime(t *testing.T) {
	m := natstest.Memory(t)
	fresh := newNode(t, m, cluster.Config{Node: "fresh"})
	if err := fresh.Close(); err != nil {
		t.Error("before Join:", err)
	}
	<-fresh.Done()
	if err := fresh.Join(t.Context()); !errors.Is(err, cluster.ErrClosed) {
		t.Error("Join after Close:", err)
	}
	for range 20 {
		n := newNode(t, m, cluster.Config{Node: "n"})
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := n.Join(t.Context()); err != nil && !errors.Is(err, cluster.ErrClosed) {
				t.Error("Join beside Close:", err)
			}
		})
		for range 3 {
			wg.Go(func() {
				if err := n.Close(); err != nil {
					t.Error("Close:", err)
				}
				<-n.Done()
			})
		}
		wg.Wait()
		if n.Err() != nil {
			t.Error(n.Err())
		}
	}
	// Nothing half-joined is left: the name is free and nobody is there.
	last := join(t, newNode(t, m, cluster.Config{Node: "n"}))
	if got := last.Members(); len(got) != 1 {
		t.Errorf("%+v", got)
	}
}

func TestLeaveAndCloseTogether(t *testing.T) {
	m := natstest.Memory(t)
	for range 20 {
		n := join(t, newNode(t, m, cluster.Config{Node: "n"}))
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() { _ = n.Leave(t.Context()) })
			wg.Go(func() { _ = n.Close() })
		}
		wg.Wait()
		<-n.Done()
	}
}

func TestJoinThatFailsMayBeRepeated(t *testing.T) {
	m := natstest.Memory(t)
	holder := join(t, newNode(t, m, cluster.Config{Node: "n"}))
	n := newNode(t, m, cluster.Config{Node: "n"})
	cluster.HandleCall(n, func(context.Context, *cluster.Msg[getPrice]) (price, error) { return price{7}, nil })
	for range 2 {
		if err := n.Join(t.Context()); !errors.Is(err, cluster.ErrNodeTaken) {
			t.Fatal(err)
		}
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.Join(cancelled); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := holder.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	join(t, n)
	if err := n.Join(t.Context()); err == nil {
		t.Error("joined twice")
	}
	if p, err := cluster.Call(t.Context(), n, cluster.To("n"), getPrice{}); err != nil || p.Cents != 7 {
		t.Error(p, err)
	}
}

func TestClosedConnectionEndsTheNode(t *testing.T) {
	m := natstest.Memory(t)
	nc := m.Dial(t)
	n, err := cluster.New(nc, cluster.Config{Cluster: "test", Node: "n"})
	if err != nil {
		t.Fatal(err)
	}
	join(t, n)
	nc.Close()
	<-n.Done()
	if n.Err() == nil {
		t.Error("no reason")
	}
	if err := n.Send(t.Context(), cluster.Any(), greeting{}); !errors.Is(err, cluster.ErrNotDelivered) {
		t.Error(err)
	}
}

func TestConnectionThatMakesANodeLookDeadIsWarnedOf(t *testing.T) {
	m := natstest.Memory(t)
	for want, opts := range map[string][]nats.Option{
		"ReconnectWait": {nats.ReconnectWait(2 * time.Second)},
		"MaxReconnects": {nats.MaxReconnects(60)},
		"":              nil,
	} {
		var log syncBuffer
		n := newNode(t, m, cluster.Config{Log: slog.New(slog.NewTextHandler(&log, nil))}, opts...)
		join(t, n)
		warnings := 0
		for line := range strings.Lines(log.String()) {
			if strings.Contains(line, "level=WARN") {
				warnings++
				if want == "" || !strings.Contains(line, want) {
					t.Errorf("%s: %s", want, line)
				}
			}
		}
		if expect := min(len(want), 1); warnings != expect {
			t.Errorf("%q: %d warnings", want, warnings)
		}
	}
}

// With several servers, nats.go's own dialer waits 2 s for one that stands still.
func TestDialerThatWaitsIsWarnedOf(t *testing.T) {
	url := natstest.Start(t).URL()
	for name, tc := range map[string]struct {
		dial func(urls string) (*nats.Conn, error)
		urls string
		want int
	}{
		"cluster.Dial": {func(urls string) (*nats.Conn, error) { return cluster.Dial(t.Context(), urls) }, url + "," + "nats://127.0.0.1:1", 0},
		"one server":   {dialPlainly, url, 0},
		"two servers":  {dialPlainly, url + "," + "nats://127.0.0.1:1", 1},
	} {
		nc, err := tc.dial(tc.urls)
		if err != nil {
			t.Fatal(err)
		}
		var log syncBuffer
		n, err := cluster.New(nc, cluster.Config{Cluster: "test", Node: "n", Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		join(t, n)
		if warnings := strings.Count(log.String(), "waits long for a server that stands still"); warnings != tc.want {
			t.Errorf("%s: %d warnings, want %d: %s", name, warnings, tc.want, log.String())
		}
		if err := n.Leave(t.Context()); err != nil {
			t.Error(err)
		}
		closed := nc.StatusChanged(nats.CLOSED)
		nc.Close()
		<-closed
	}
}

func dialPlainly(urls string) (*nats.Conn, error) {
	return nats.Connect(urls, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
}

type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

type (
	pointed struct{ N int }
	broken  struct{ F func() }
	anyBody interface{ cluster.Message }
)

func (*pointed) Kind() string { return "pointed" }
func (broken) Kind() string   { return "broken" }

func TestPointersAreMessagesToo(t *testing.T) {
	n := newNode(t, natstest.Memory(t), cluster.Config{Node: "n"})
	got := make(chan int, 1)
	cluster.Handle(n, func(_ context.Context, m *cluster.Msg[*pointed]) error {
		got <- m.Body.N
		return nil
	})
	join(t, n)
	if err := n.Send(t.Context(), cluster.Any(), &pointed{7}); err != nil {
		t.Fatal(err)
	}
	if v := <-got; v != 7 {
		t.Error(v)
	}
}

func TestMistakesOfTheProgramPanic(t *testing.T) {
	m := natstest.Memory(t)
	n := newNode(t, m, cluster.Config{Node: "n"})
	nop := func(context.Context, *cluster.Msg[greeting]) error { return nil }
	cluster.Handle(n, nop)
	joined := join(t, newNode(t, m, cluster.Config{Node: "joined"}))
	for what, f := range map[string]func(){
		"twice":     func() { cluster.Handle(n, nop) },
		"nil":       func() { cluster.Handle[broken](n, nil) },
		"nil call":  func() { cluster.HandleCall[getPrice, price](n, nil) },
		"Raw":       func() { cluster.Handle(n, func(context.Context, *cluster.Msg[cluster.Raw]) error { return nil }) },
		"interface": func() { cluster.Handle(n, func(context.Context, *cluster.Msg[anyBody]) error { return nil }) },
		"bad kind": func() {
			n.HandleRaw("a b", func(context.Context, *cluster.Msg[cluster.Raw]) (cluster.Raw, error) { return cluster.Raw{}, nil })
		},
		"after Join": func() { cluster.Handle(joined, nop) },
		"concurrency": func() {
			cluster.Handle(n, func(context.Context, *cluster.Msg[*pointed]) error { return nil }, cluster.Concurrency(-1))
		},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", what)
				}
			}()
			f()
		}()
	}
}

func TestWhatCannotBeEncodedIsNotDelivered(t *testing.T) {
	n := join(t, newNode(t, natstest.Memory(t), cluster.Config{Node: "n"}))
	for what, m := range map[string]cluster.Message{"func": broken{func() {}}, "nil": nil} {
		if err := n.Send(t.Context(), cluster.To("n"), m); !errors.Is(err, cluster.ErrNotDelivered) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestMiddlewareWrapsInOrder(t *testing.T) {
	var mu sync.Mutex
	var order []string
	say := func(s string) {
		mu.Lock()
		defer mu.Unlock()
		order = append(order, s)
	}
	layer := func(name string) func(cluster.Handler) cluster.Handler {
		return func(next cluster.Handler) cluster.Handler {
			return func(ctx context.Context, m *cluster.Msg[cluster.Raw]) (cluster.Raw, error) {
				say(name + " " + m.Body.Name)
				return next(ctx, m)
			}
		}
	}
	n := newNode(t, natstest.Memory(t), cluster.Config{
		Node: "n", Middleware: []func(cluster.Handler) cluster.Handler{layer("outer"), layer("inner")},
	})
	pricer(n)
	join(t, n)
	if p, err := cluster.Call(t.Context(), n, cluster.Any(), getPrice{"pen"}); err != nil || p.Cents != 300 {
		t.Fatal(p, err)
	}
	if got := strings.Join(order, ", "); got != "outer price.get, inner price.get" {
		t.Error(got)
	}
}

// upper is a codec of somebody's own.
type upper struct{}

func (upper) ContentType() string                { return "text/x-upper" }
func (upper) Marshal(v any) ([]byte, error)      { return []byte(strings.ToUpper(v.(greeting).Text)), nil }
func (upper) Unmarshal(data []byte, v any) error { v.(*greeting).Text = string(data); return nil }

func TestCodecsMayDifferBetweenNodes(t *testing.T) {
	m := natstest.Memory(t)
	got := make(chan string, 2)
	own := newNode(t, m, cluster.Config{Node: "own", Codec: upper{}})
	cluster.Handle(own, func(_ context.Context, m *cluster.Msg[greeting]) error {
		got <- m.Body.Text
		return nil
	})
	join(t, own)
	plain := join(t, newNode(t, m, cluster.Config{Node: "plain"}))
	for _, n := range []*cluster.Node{own, plain} {
		if err := n.Send(t.Context(), cluster.To("own"), greeting{"hello"}); err != nil {
			t.Fatal(err)
		}
	}
	if a, b := <-got, <-got; a+b != "HELLOhello" && a+b != "helloHELLO" {
		t.Error(a, b)
	}
}

func TestCloseEndsTheCtxOfHandlers(t *testing.T) {
	m := natstest.Memory(t)
	n := newNode(t, m, cluster.Config{Node: "n"})
	begun, cause := make(chan struct{}), make(chan error, 1)
	cluster.Handle(n, func(ctx context.Context, _ *cluster.Msg[greeting]) error {
		close(begun)
		<-ctx.Done()
		cause <- context.Cause(ctx)
		return context.Cause(ctx)
	})
	join(t, n)
	if err := n.Send(t.Context(), cluster.To("n"), greeting{}); err != nil {
		t.Fatal(err)
	}
	<-begun
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-cause; !errors.Is(err, cluster.ErrClosed) {
		t.Error(err)
	}
}

func TestLeaveReturnsWhenItsCtxEndsThoughAHandlerDoesNot(t *testing.T) {
	n := newNode(t, natstest.Memory(t), cluster.Config{Node: "n"})
	begun, release := make(chan struct{}), make(chan struct{})
	cluster.Handle(n, func(context.Context, *cluster.Msg[greeting]) error {
		close(begun)
		<-release // whatever its ctx says
		return nil
	})
	join(t, n)
	if err := n.Send(t.Context(), cluster.To("n"), greeting{}); err != nil {
		t.Fatal(err)
	}
	<-begun
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() { left <- n.Leave(ctx) }()
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	select {
	case <-n.Done():
		t.Error("done, with a handler running")
	default:
	}
	close(release)
	<-n.Done()
}
