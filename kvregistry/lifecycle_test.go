package kvregistry

import (
	"bufio"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/catga/catga-go/internal/natstest"
)

func TestConfigProblemsAreReportedTogether(t *testing.T) {
	_, err := New(nil, Config{Cluster: "a.b", Node: "x y", Kinds: []string{"bad..kind"}, Metadata: map[string]string{"": "v"}, Mail: "burn", Replicas: 9, Forget: time.Millisecond})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, s := range []string{"a.b", "x y", "bad..kind", "empty key", "burn", "9 replicas", "1ms"} {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%v\n does not mention %q", err, s)
		}
	}
	if _, err := New(nil, Config{Cluster: "c"}); err == nil {
		t.Error("accepted without a connection")
	}
}

func TestConfigIsCopied(t *testing.T) {
	mem := natstest.Memory(t)
	md := map[string]string{"k": "v"}
	kinds := []string{"z", "a", "z"}
	r := join(t, mem.Dial(t), Config{Node: "a", Metadata: md, Kinds: kinds})
	md["k"], kinds[1] = "changed", "changed"
	if m := r.Self(); m.Metadata["k"] != "v" || !slices.Equal(m.Kinds, []string{"a", "z"}) {
		t.Fatalf("self is %+v", m)
	}
}

func TestMetadataUpTo64KiB(t *testing.T) {
	mem := natstest.Memory(t)
	a := join(t, mem.Dial(t), Config{Node: "a"})
	b := join(t, mem.Dial(t), Config{Node: "b"})
	full := map[string]string{"k": strings.Repeat("\"", MaxMetadata-1)}
	if err := a.SetMetadata(t.Context(), full); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := b.Wait(ctx, func(v View) bool { m, _ := v.Member("a"); return maps.Equal(m.Metadata, full) }); err != nil {
		t.Fatal(err)
	}
	if err := a.SetMetadata(t.Context(), map[string]string{"k": strings.Repeat("x", MaxMetadata)}); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("a byte too much: %v", err)
	}
	if err := a.SetState(t.Context(), Draining); err != nil {
		t.Fatal(err)
	}
	if m := a.Self(); m.State != Draining || !maps.Equal(m.Metadata, full) {
		t.Fatalf("self is %+v", m.State)
	}
	if err := a.SetState(t.Context(), Offline); err == nil {
		t.Fatal("went offline without leaving")
	}
}

func TestJoinFailsCleanly(t *testing.T) {
	mem := natstest.Memory(t)
	seer := join(t, mem.Dial(t), Config{Node: "seer"})
	boom := errors.New("boom")
	fail := true
	nc := mem.Dial(t)
	r, err := New(nc, Config{Cluster: "test", Node: "a", BeforeClaim: func(context.Context) error {
		if fail {
			return boom
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	before := nc.NumSubscriptions()
	if err := r.Join(t.Context()); !errors.Is(err, boom) {
		t.Fatalf("got %v", err)
	}
	// The inbox of requests stays with the connection.
	if n := nc.NumSubscriptions(); n > before+1 {
		t.Errorf("%d subscriptions are left, were %d", n, before)
	}
	if _, ok := seer.View().Member("a"); ok {
		t.Error("it was seen")
	}
	if err := r.SetMetadata(t.Context(), nil); !errors.Is(err, ErrNotJoined) {
		t.Errorf("SetMetadata: %v", err)
	}
	if err := r.Leave(t.Context()); !errors.Is(err, ErrNotJoined) {
		t.Errorf("Leave: %v", err)
	}
	fail = false
	if err := r.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.Join(t.Context()); !errors.Is(err, ErrJoined) {
		t.Errorf("a second Join: %v", err)
	}
	waitFor(t, seer, "a", "seer")
}

func TestJoinHonoursItsContext(t *testing.T) {
	mem := natstest.Memory(t)
	ctx, cancel := context.WithCancel(t.Context())
	r, err := New(mem.Dial(t), Config{Cluster: "test", Node: "a", BeforeClaim: func(ctx context.Context) error {
		cancel()
		<-ctx.Done()
		return context.Cause(ctx)
	}})
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := r.Join(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("returned after %v", took)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestCloseEndsJoin(t *testing.T) {
	mem := natstest.Memory(t)
	inside := make(chan struct{})
	r, err := New(mem.Dial(t), Config{Cluster: "test", Node: "a", BeforeClaim: func(ctx context.Context) error {
		close(inside)
		<-ctx.Done()
		return context.Cause(ctx)
	}})
	if err != nil {
		t.Fatal(err)
	}
	result := make(chan error, 1)
	go func() { result <- r.Join(context.Background()) }()
	<-inside
	for range 2 {
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-result; !errors.Is(err, ErrClosed) {
		t.Fatalf("Join returned %v", err)
	}
	<-r.Done()
	if err := r.Join(t.Context()); !errors.Is(err, ErrClosed) {
		t.Fatalf("Join after Close: %v", err)
	}
}

func TestVerbsHonourTheirContext(t *testing.T) {
	server := natstest.Start(t)
	a := join(t, natstest.Dial(t, server.URL()), Config{Node: "a"})
	server.Kill()
	natstest.Eventually(t, "stale", func() bool { return a.Status().Stale })
	if st := a.Status(); !st.Ready || st.StaleSince.IsZero() || st.Evicted {
		t.Errorf("status in an outage: %+v", st)
	}
	for name, verb := range map[string]func(context.Context) error{
		"SetMetadata": func(ctx context.Context) error { return a.SetMetadata(ctx, map[string]string{"x": "y"}) },
		"SetState":    func(ctx context.Context) error { return a.SetState(ctx, Draining) },
		"Wait":        func(ctx context.Context) error { return a.Wait(ctx, func(View) bool { return false }) },
		"Leave":       a.Leave,
	} {
		ctx, cancel := context.WithCancel(t.Context())
		timer := time.AfterFunc(50*time.Millisecond, cancel)
		begin := time.Now()
		if err := verb(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(begin); took > 500*time.Millisecond {
			t.Errorf("%s returned after %v", name, took)
		}
		timer.Stop()
		cancel()
	}
	begin := time.Now()
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("Close took %v", took)
	}
}

func TestObserverSeesAndIsNotSeen(t *testing.T) {
	mem := natstest.Memory(t)
	a := join(t, mem.Dial(t), Config{Node: "a"})
	o, err := New(mem.Dial(t), Config{Cluster: "test"})
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Join(t.Context()); err == nil {
		t.Fatal("joined without a name")
	}
	if err := o.Observe(t.Context()); err != nil {
		t.Fatal(err)
	}
	waitFor(t, o, "a")
	b := join(t, mem.Dial(t), Config{Node: "b"})
	waitFor(t, o, "a", "b")
	waitFor(t, a, "a", "b")
	if err := o.SetMetadata(t.Context(), nil); !errors.Is(err, ErrNotJoined) {
		t.Errorf("SetMetadata of an observer: %v", err)
	}
	if err := b.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	waitFor(t, o, "a")
	if err := o.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	// b has left and the observer was never there.
	waitFor(t, a, "a")
	if _, ok := a.View().Member(""); ok || len(a.View().Offline) != 1 {
		t.Errorf("a sees %+v", a.View())
	}
}

// A server of the version before delete markers greets; it is never asked more.
func TestServerTooOldIsSaidSo(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { _ = lis.Close(); wg.Wait() })
	asked := make(chan string, 100)
	wg.Go(func() {
		conn, err := lis.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, `INFO {"server_id":"OLD","version":"2.10.29","proto":1,"headers":true,"max_payload":1048576,"jetstream":true}`+"\r\n")
		lines := bufio.NewScanner(conn)
		for lines.Scan() {
			switch verb, _, _ := strings.Cut(lines.Text(), " "); verb {
			case "PING":
				_, _ = io.WriteString(conn, "PONG\r\n")
			case "PUB", "HPUB", "SUB":
				asked <- lines.Text()
			}
		}
	})
	nc := natstest.Dial(t, "nats://"+lis.Addr().String())
	r, err := New(nc, Config{Cluster: "test", Node: "a"})
	if err != nil {
		t.Fatal(err)
	}
	err = r.Join(t.Context())
	if !errors.Is(err, ErrServerTooOld) || !strings.Contains(err.Error(), "2.10.29") || !strings.Contains(err.Error(), "2.11.0") {
		t.Errorf("got %v", err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if n := len(asked); n > 0 {
		t.Errorf("it was asked: %q", <-asked)
	}
	if n := nc.NumSubscriptions(); n > 0 {
		t.Errorf("%d subscriptions are left", n)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

func TestJoinExplainsWhatIsWrong(t *testing.T) {
	server := natstest.Start(t, natstest.ConfigText(`
accounts {
  a { jetstream: enabled, users: [
    {user: all, password: p}
    {user: unread, password: p, permissions: {publish: ["$JS.API.INFO"], subscribe: ">"}}
    {user: deaf, password: p, permissions: {publish: ">", subscribe: ["_INBOX.>"]}}
  ] }
  plain { users: [{user: plain, password: p}] }
  sys { users: [{user: sys, password: p}] }
}
system_account: sys`))
	dial := func(user string) *nats.Conn {
		return natstest.Dial(t, server.URL(), nats.UserInfo(user, "p"))
	}
	try := func(nc *nats.Conn, cfg Config) error {
		r, err := New(nc, cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = r.Close() }()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		return r.Join(ctx)
	}
	if err := try(dial("plain"), Config{Cluster: "c", Node: "a"}); !errors.Is(err, ErrNoJetStream) {
		t.Errorf("no JetStream: %v", err)
	}
	if err := try(dial("unread"), Config{Cluster: "c", Node: "a"}); !errors.Is(err, ErrDenied) || !strings.Contains(err.Error(), "$JS.API.STREAM.INFO.KV_catga_c") {
		t.Errorf("no permission to publish: %v", err)
	}
	if err := try(dial("all"), Config{Cluster: "c", Node: "a", NoProvision: true}); !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), "KV_catga_c") {
		t.Errorf("no bucket: %v", err)
	}
	if err := try(dial("all"), Config{Cluster: "made", Node: "a"}); err != nil {
		t.Errorf("all is well: %v", err)
	}
	if err := try(dial("deaf"), Config{Cluster: "made", Node: "a"}); err == nil || !strings.Contains(err.Error(), "catga.made.reg.node.*") {
		t.Errorf("no permission to subscribe: %v", err)
	}
	js, err := jetstream.New(dial("all"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "KV_catga_odd", Subjects: []string{"$KV.catga_odd.>"}, MaxMsgsPerSubject: 10}); err != nil {
		t.Fatal(err)
	}
	if err := try(dial("all"), Config{Cluster: "odd", Node: "a"}); !errors.Is(err, ErrDiffers) || !strings.Contains(err.Error(), "max messages per subject is 10, must be 1") {
		t.Errorf("another bucket of that name: %v", err)
	}
}
