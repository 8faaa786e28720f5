package routing

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/natstest"
	"github.com/catga/catga-go/internal/wire"
)

func TestCallReturnsTheAnswer(t *testing.T) {
	w := newTown(t)
	caller := w.node("a", nil)
	w.node("b", answering(func(_ context.Context, m *Msg[Raw]) (Raw, error) {
		if m.From != "a" || m.Attempt != 1 || m.ID != "" || m.Sent.IsZero() || m.Body.Name != "echo" || m.Header != nil {
			return Raw{}, fmt.Errorf("got %+v", m)
		}
		return Raw{ContentType: m.Body.ContentType, Data: append([]byte("re: "), m.Body.Data...)}, nil
	}, "echo"))
	w.open()
	for _, to := range []One{To("b"), Any()} {
		got, err := caller.Call(t.Context(), to, Raw{Name: "echo", Data: []byte("x")}, CallOptions{})
		if err != nil || string(got.Data) != "re: x" || got.ContentType != jsonType || got.Name != "echo" {
			t.Fatal(got, err)
		}
	}
}

func TestCallCarriesTypeHeaderAndTrace(t *testing.T) {
	w := newTown(t)
	caller := w.node("a", nil)
	seen := make(chan *Msg[Raw], 2)
	w.node("b", answering(func(ctx context.Context, m *Msg[Raw]) (Raw, error) {
		seen <- m
		if m.Body.Name == "outer" {
			return w.nodes[1].Call(ctx, To("b"), Raw{Name: "inner"}, CallOptions{})
		}
		return Raw{ContentType: bytesType, Data: []byte{1}}, nil
	}, "outer", "inner"))
	w.open()
	got, err := caller.Call(t.Context(), To("b"), Raw{Name: "outer", ContentType: bytesType, Data: []byte{2}},
		CallOptions{Header: nats.Header{"traceparent": {"00-1-2-01"}, "X-Tenant": {"t1"}}})
	if err != nil || got.ContentType != bytesType || len(got.Data) != 1 {
		t.Fatal(got, err)
	}
	outer, inner := <-seen, <-seen
	if outer.Body.ContentType != bytesType || outer.Header.Get("X-Tenant") != "t1" {
		t.Errorf("%+v", outer)
	}
	if inner.Header.Get("traceparent") != "00-1-2-01" {
		t.Errorf("the trace did not travel on: %+v", inner)
	}
	if _, err := caller.Call(t.Context(), To("b"), Raw{Name: "outer"}, CallOptions{Header: nats.Header{"Nats-Msg-Id": {"1"}}}); !errors.Is(err, ErrNotDelivered) {
		t.Error("a header of the protocol was let through:", err)
	}
}

func TestCallsGoRoundTheHandlersLocalLast(t *testing.T) {
	w := newTown(t)
	for _, id := range []string{"a", "b", "c"} {
		w.node(id, answering(named(id), "who", "other"))
	}
	a := w.open()
	count := map[string]int{}
	for range 20 {
		for _, kind := range []string{"who", "other"} { // kinds in turn do not meet the same node each time
			got, err := a.Call(t.Context(), Any(), Raw{Name: kind}, CallOptions{})
			if err != nil {
				t.Fatal(err)
			}
			count[kind+" "+string(got.Data)]++
		}
	}
	if fmt.Sprint(count) != "map[other b:10 other c:10 who b:10 who c:10]" {
		t.Error(count)
	}
	w.tell(left(up("b", 2)), left(up("c", 3)))
	if got, err := a.Call(t.Context(), Any(), Raw{Name: "who"}, CallOptions{}); err != nil || string(got.Data) != "a" {
		t.Error("alone:", got, err)
	}
}

func TestHandlersErrorIsTheCallersAndNotRetried(t *testing.T) {
	w := newTown(t)
	caller := w.node("a", nil)
	log := &record{}
	runs := make(chan string, 100)
	long := strings.Repeat("long ", 300)
	w.nodeOn(w.conn(), Config{Cluster: "c", Node: "b", Log: log.logger()}, answering(func(_ context.Context, m *Msg[Raw]) (Raw, error) {
		runs <- string(m.Body.Data)
		switch string(m.Body.Data) {
		case "own":
			return Raw{}, fmt.Errorf("wrapped: %w", &HandlerError{Code: 404, Message: "no such account"})
		case "plain":
			return Raw{}, errors.New("disk full")
		case "two lines":
			return Raw{}, errors.New("first\r\nsecond")
		case "long":
			return Raw{}, errors.New(long)
		case "empty":
			return Raw{}, &HandlerError{}
		case "body":
			return Raw{}, decode(nil, Raw{Name: "k", Data: []byte("{")}, new(int))
		case "type":
			return Raw{}, decode(nil, Raw{Name: "k", ContentType: "a/b"}, new(int))
		case "undelivered": // of a call of the handler's own: it must not be taken for the outcome of this one
			return Raw{}, notDelivered(ErrBusy)
		case "panic":
			panic("at the disco")
		default:
			return Raw{Data: make([]byte, 2<<20)}, nil
		}
	}, "k"))
	w.open()
	for _, c := range []struct {
		body string
		code int
		text string
	}{
		{"own", 404, "no such account"},
		{"plain", 500, "disk full"},
		{"two lines", 500, "first\r\nsecond"},
		{"long", 500, long},
		{"empty", 500, "error"},
		{"body", 400, "routing: broken body: k is not the application/json of a *int: unexpected end of JSON input"},
		{"type", 415, `routing: unknown content type: k: no codec for content type "a/b": this node reads application/json, application/octet-stream`},
		{"undelivered", 500, "routing: not delivered: node is busy"},
		{"panic", 500, "handler panicked: at the disco"},
		{"too large", 413, "the answer of 2097152 bytes is larger than the server takes"},
	} {
		_, err := caller.Call(t.Context(), Any(), Raw{Name: "k", Data: []byte(c.body)}, CallOptions{Idempotent: true})
		he, ok := errors.AsType[*HandlerError](err)
		if !ok || he.Code != c.code || he.Message != c.text || he.Node != "b" || he.Kind != "k" {
			t.Errorf("%s: %#v", c.body, err)
		}
		if errors.Is(err, ErrNotDelivered) || errors.Is(err, ErrUnknown) {
			t.Errorf("%s: more than one outcome: %v", c.body, err)
		}
		if len(runs) != 1 {
			t.Errorf("%s: ran %d times", c.body, len(runs))
		}
		<-runs
	}
	if s := log.String(); !strings.Contains(s, "at the disco") || !strings.Contains(s, "call_test.go") {
		t.Error("the stack is not in the log:", s)
	}
}

func TestCallsThatCannotBeDelivered(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		w := newTown(t)
		a := w.node("a", nil)
		w.node("b", answering(named("b"), "k"))
		idle := w.node("idle", nil)
		if _, err := a.Call(t.Context(), Any(), Raw{Name: "k"}, CallOptions{}); !errors.Is(err, ErrNotDelivered) || !errors.Is(err, ErrNotJoined) {
			t.Error("before Start:", err)
		}
		w.open()
		w.tell(lost(up("gone", 9, "k")))
		for _, c := range []struct {
			name string
			to   One
			m    Raw
			is   error
		}{
			{"nobody of that name", To("nobody"), Raw{Name: "k"}, ErrNoMember},
			{"a lost one", To("gone"), Raw{Name: "k"}, ErrNoMember},
			{"a name that cannot be", To("a.b"), Raw{Name: "k"}, ErrNoMember},
			{"a member without the kind", To("idle"), Raw{Name: "k"}, ErrNoHandler},
			{"no handler anywhere", Any(), Raw{Name: "other"}, ErrNoHandler},
			{"no kind", Any(), Raw{}, ErrNoHandler},
			{"too large", Any(), Raw{Name: "k", Data: make([]byte, 2<<20)}, ErrTooLarge},
			{"no target", nil, Raw{Name: "k"}, errNoTarget},
		} {
			start := time.Now()
			_, err := a.Call(t.Context(), c.to, c.m, CallOptions{})
			if !errors.Is(err, ErrNotDelivered) || !errors.Is(err, c.is) || errors.Is(err, ErrUnknown) {
				t.Errorf("%s: %v", c.name, err)
			}
			if d := time.Since(start); d != 0 {
				t.Errorf("%s: took %v, waiting is of no use", c.name, d)
			}
		}
		if err := idle.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := idle.Call(t.Context(), Any(), Raw{Name: "k"}, CallOptions{}); !errors.Is(err, ErrNotDelivered) || !errors.Is(err, ErrClosed) {
			t.Error("after Close:", err)
		}
	})
}

func TestCallGoesElsewhereWhenNobodyIsThere(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		w := newTown(t)
		a := w.node("a", nil)
		w.node("z", answering(named("z"), "k"))
		w.open()
		w.tell(ghost("g1", "k"), ghost("g2", "k"), ghost("g3", "k"))
		for range 40 {
			start := time.Now()
			got, err := a.Call(t.Context(), Any(), Raw{Name: "k"}, CallOptions{})
			if err != nil || string(got.Data) != "z" {
				t.Fatal(got, err)
			}
			if d := time.Since(start); d != 0 {
				t.Errorf("took %v: it paused though there was another node to ask", d)
			}
		}
		w.tell(ghost("g4", "k"), ghost("g5", "k"), ghost("g6", "k"), ghost("g7", "k"))
		failed := 0
		for range 40 {
			if _, err := a.Call(t.Context(), Any(), Raw{Name: "k"}, CallOptions{}); err != nil {
				failed++
				if !errors.Is(err, ErrNotDelivered) || !errors.Is(err, nats.ErrNoResponders) {
					t.Fatal(err)
				}
			}
		}
		if failed == 0 || failed == 40 {
			t.Error("of 40 calls with 7 dead nodes of 8 failed", failed, "- three retries must be the end")
		}
	})
}

func TestCallPausesBeforeItAsksANodeAgain(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		w := newTown(t)
		a := w.node("a", nil)
		w.open()
		w.tell(ghost("g", "k"))
		for _, to := range []One{To("g"), Any()} {
			start := time.Now()
			_, err := a.Call(t.Context(), to, Raw{Name: "k"}, CallOptions{})
			if !errors.Is(err, ErrNotDelivered) || !errors.Is(err, nats.ErrNoResponders) {
				t.Fatal(err)
			}
			// 100 + 300 + 900 ms, each give or take 30 %.
			if d := time.Since(start); d < 900*time.Millisecond || d > 1700*time.Millisecond {
				t.Errorf("%v: gave up after %v", to, d)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			start = time.Now()
			_, err = a.Call(ctx, to, Raw{Name: "k"}, CallOptions{})
			if !errors.Is(err, ErrNotDelivered) || time.Since(start) > 20*time.Millisecond {
				t.Errorf("no time for a retry: %v after %v", err, time.Since(start))
			}
			cancel()
			ctx, cancel = context.WithCancel(t.Context())
			time.AfterFunc(10*time.Millisecond, cancel)
			start = time.Now()
			_, err = a.Call(ctx, to, Raw{Name: "k"}, CallOptions{})
			if !errors.Is(err, ErrNotDelivered) || !errors.Is(err, context.Canceled) || time.Since(start) > 10*time.Millisecond {
				t.Errorf("cancelled in a pause: %v after %v", err, time.Since(start))
			}
		}
		// It comes back under a new incarnation during the pause.
		time.AfterFunc(150*time.Millisecond, func() {
			b := w.node("g", answering(named("g"), "k"))
			if err := errors.Join(b.Prepare(t.Context()), b.Start(t.Context(), 100)); err != nil {
				t.Error(err)
			}
			w.tell(up("g", 100, "k"))
		})
		if got, err := a.Call(t.Context(), To("g"), Raw{Name: "k"}, CallOptions{}); err != nil || string(got.Data) != "g" {
			t.Error(got, err)
		}
		// Lost during the pause: no use to wait on.
		w.tell(ghost("h", "k"))
		time.AfterFunc(10*time.Millisecond, func() { w.tell(lost(ghost("h", "k"))) })
		start := time.Now()
		if _, err := a.Call(t.Context(), To("h"), Raw{Name: "k"}, CallOptions{}); !errors.Is(err, ErrNotDelivered) || !errors.Is(err, ErrNoMember) || time.Since(start) > 10*time.Millisecond {
			t.Error(err, time.Since(start))
		}
	})
}

func TestCallEndsAfter30SecondsOrWithItsDeadline(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		w := newTown(t)
		a := w.node("a", nil)
		// The handler does not look at its ctx: in a bubble that ends in the very
		// moment in which the caller's does, and its answer would race with it.
		end := make(chan struct{})
		defer close(end)
		w.node("b", answering(func(context.Context, *Msg[Raw]) (Raw, error) {
			<-end
			return Raw{}, nil
		}, "k"))
		w.open()
		start := time.Now()
		_, err := a.Call(t.Context(), Any(), Raw{Name: "k"}, CallOptions{Idempotent: true})
		if !errors.Is(err, ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 30*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start = time.Now()
		_, err = a.Call(ctx, Any(), Raw{Name: "k"}, CallOptions{})
		if !errors.Is(err, ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 3*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

func TestHandlerGetsTheCallersDeadlineOrItsTimeLimit(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		w := newTown(t)
		a := w.node("a", nil)
		left := func(ctx context.Context, m *Msg[Raw]) (Raw, error) {
			d, ok := ctx.Deadline()
			if !ok {
				return Raw{Data: []byte("none")}, nil
			}
			return Raw{Data: []byte(time.Until(d).String())}, nil
		}
		w.node("b", func(r *Router) {
			r.Handle("free", left, HandleOptions{Reply: true})
			r.Handle("limited", left, HandleOptions{Reply: true, TimeLimit: 2 * time.Second})
			r.Handle("endless", left, HandleOptions{Reply: true, TimeLimit: -1})
		})
		w.open()
		for _, c := range []struct {
			kind    string
			timeout time.Duration
			want    string
		}{
			{"free", 0, "none"},
			{"free", 5 * time.Second, "5s"},
			{"free", time.Hour, "30s"}, // the call takes no longer
			{"limited", 0, "2s"},
			{"limited", time.Second, "1s"},
			{"limited", 5 * time.Second, "2s"},
			{"endless", time.Second, "1s"},
		} {
			ctx, cancel := t.Context(), context.CancelFunc(func() {})
			if c.timeout > 0 {
				ctx, cancel = context.WithTimeout(ctx, c.timeout)
			}
			got, err := a.Call(ctx, To("b"), Raw{Name: c.kind}, CallOptions{})
			if err != nil || string(got.Data) != c.want {
				t.Errorf("%s, caller waits %v: %s, %v; want %s", c.kind, c.timeout, got.Data, err, c.want)
			}
			cancel()
		}
	})
}

func TestCancelledCallReturnsAtOnce(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		w := newTown(t)
		a := w.node("a", nil)
		g := newGate(t)
		w.node("b", answering(g.handle, "k"))
		w.open()
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(0, func() { <-g.entered; cancel(errors.New("the user left")) })
		_, err := a.Call(ctx, Any(), Raw{Name: "k"}, CallOptions{Idempotent: true})
		cancelled := time.Now()
		if !errors.Is(err, ErrUnknown) || !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "the user left") {
			t.Error("in flight:", err)
		}
		_, err = a.Call(ctx, Any(), Raw{Name: "k"}, CallOptions{})
		if !errors.Is(err, ErrNotDelivered) || !errors.Is(err, context.Canceled) {
			t.Error("before it was sent:", err)
		}
		if d := time.Since(cancelled); d != 0 {
			t.Error("took", d)
		}
		if n := a.calls.replies.Load().waiting(); n != 0 {
			t.Error(n, "calls are left in the table")
		}
	})
}

func TestLostNodeEndsTheAttemptInFlight(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		w := newTown(t)
		a := w.node("a", nil)
		g := newGate(t)
		w.node("b", answering(g.handle, "k", "other"))
		w.node("c", answering(named("c"), "other"))
		w.open()
		b := up("b", 2, "k", "other")
		call := func(to One, kind string, idempotent bool) (string, error) {
			got, err := a.Call(t.Context(), to, Raw{Name: kind}, CallOptions{Idempotent: idempotent})
			return string(got.Data), err
		}
		lose := func() {
			<-g.entered
			w.tell(lost(b))
		}
		var wg sync.WaitGroup
		for _, c := range []struct {
			name       string
			to         One
			kind       string
			idempotent bool
		}{
			{"not idempotent", Any(), "k", false},
			{"to that node", To("b"), "k", false},
			{"idempotent to that node", To("b"), "k", true},
			{"idempotent but nobody else", Any(), "k", true},
		} {
			wg.Go(lose)
			start := time.Now()
			_, err := call(c.to, c.kind, c.idempotent)
			if !errors.Is(err, ErrUnknown) || errors.Is(err, ErrNotDelivered) {
				t.Errorf("%s: %v", c.name, err)
			}
			if d := time.Since(start); d > 2*watchSeldom { // the watchdog finds the handlers before hanging
				t.Errorf("%s: took %v", c.name, d)
			}
			wg.Wait()
			b.Peer.Incarnation++ // it joins again
			w.tell(b)
		}
		// Idempotent and somebody else: answered there.
		for range 4 {
			a.calls.turns.Clear() // b is the first
			wg.Go(lose)
			if got, err := call(Any(), "other", true); err != nil || got != "c" {
				t.Error(got, err)
			}
			wg.Wait()
			b.Peer.Incarnation++
			w.tell(b)
		}
		// Replaced by a new incarnation is lost as well.
		wg.Go(func() {
			<-g.entered
			b.Peer.Incarnation++
			w.tell(b)
		})
		if _, err := call(To("b"), "k", false); !errors.Is(err, ErrUnknown) {
			t.Error(err)
		}
		wg.Wait()
	})
}

func TestUnknownStaysUnknown(t *testing.T) {
	w := newTown(t)
	a := w.node("a", nil)
	g := newGate(t)
	w.node("b", answering(g.handle, "k"))
	w.open()
	w.tell(ghost("g", "k"))
	a.calls.turns.Clear() // b first, then g, where nobody answers
	go func() {
		<-g.entered
		w.tell(lost(up("b", 2, "k")))
	}()
	_, err := a.Call(t.Context(), Any(), Raw{Name: "k"}, CallOptions{Idempotent: true})
	if !errors.Is(err, ErrUnknown) || errors.Is(err, ErrNotDelivered) {
		t.Fatal("b may have run it, whatever g says:", err)
	}
}

func TestAnswerOfANodeThatLeavesIsWaitedFor(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		w := newTown(t)
		a := w.node("a", nil)
		g := newGate(t)
		w.node("b", answering(g.handle, "k"))
		w.open()
		b := up("b", 2, "k")
		time.AfterFunc(time.Second, func() { w.tell(left(b)) })
		time.AfterFunc(time.Second+leaveGrace/2, g.release) // the news overtook the answer
		if got, err := a.Call(t.Context(), To("b"), Raw{Name: "k", Data: []byte("x")}, CallOptions{}); err != nil || string(got.Data) != "x" {
			t.Fatal(got, err)
		}
		w.tell(up("b", 3, "k"))
		stuck := newGate(t)
		w.node("d", answering(stuck.handle, "stuck"))
		d := w.nodes[2]
		if err := errors.Join(d.Prepare(t.Context()), d.Start(t.Context(), 4)); err != nil {
			t.Fatal(err)
		}
		w.tell(up("d", 4, "stuck"))
		time.AfterFunc(time.Second, func() { w.tell(left(up("d", 4))) })
		start := time.Now()
		_, err := a.Call(t.Context(), To("d"), Raw{Name: "stuck"}, CallOptions{})
		if !errors.Is(err, ErrUnknown) || time.Since(start) != time.Second+leaveGrace {
			t.Fatal(err, time.Since(start))
		}
	})
}

func TestCallWithoutConnectionIsNotDeliveredAndNotSentLater(t *testing.T) {
	w := newTown(t)
	g := newGate(t)
	w.node("b", answering(g.handle, "k"))
	// A user's own connection, with a reconnect buffer and a long way back.
	nc := w.conn(nats.ReconnectBufSize(8<<20), nats.ReconnectWait(time.Hour), nats.ReconnectJitter(0, 0))
	a := w.nodeOn(nc, Config{Cluster: "c", Node: "a"}, nil)
	w.open()
	if err := w.mem.Server.DisconnectClientByID(clientID(t, nc)); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, "disconnected", func() bool { return !nc.IsConnected() })
	_, err := a.Call(t.Context(), Any(), Raw{Name: "k"}, CallOptions{})
	if !errors.Is(err, ErrNotDelivered) || !errors.Is(err, nats.ErrDisconnected) {
		t.Error("call:", err)
	}
	for _, to := range []Target{To("b"), Any(), All(), Others(), Nodes("b")} {
		err := a.cast(t.Context(), to, Raw{Name: "k"}, SendOptions{})
		if !errors.Is(err, ErrNotDelivered) || !errors.Is(err, nats.ErrDisconnected) {
			t.Error("cast:", err)
		}
	}
	if n, err := nc.Buffered(); n > 0 && err == nil {
		t.Error(n, "bytes wait for the connection")
	}
}

func clientID(t testing.TB, nc *nats.Conn) uint64 {
	t.Helper()
	id, err := nc.GetClientID()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestCallSurvivesADroppedConnection(t *testing.T) {
	w := newTown(t)
	a := w.node("a", nil)
	w.node("b", answering(named("b"), "k"))
	w.open()
	for _, r := range w.nodes {
		dropped := r.nc.StatusChanged(nats.RECONNECTING)
		if err := w.mem.Server.DisconnectClientByID(clientID(t, r.nc)); err != nil {
			t.Fatal(err)
		}
		<-dropped
		r.nc.RemoveStatusListener(dropped)
		if got, err := a.Call(t.Context(), To("b"), Raw{Name: "k"}, CallOptions{}); err != nil || string(got.Data) != "b" {
			t.Errorf("%s was dropped: %v", r.id, err)
		}
	}
}

func TestInboxOfTheNextIncarnation(t *testing.T) {
	w := newTown(t)
	a := w.node("a", nil)
	g := newGate(t)
	w.node("b", answering(g.handle, "k"))
	w.open()
	answered := make(chan error, 1)
	go func() {
		_, err := a.Call(t.Context(), To("b"), Raw{Name: "k"}, CallOptions{})
		answered <- err
	}()
	<-g.entered
	first := a.calls.replies.Load()
	if err := a.Start(t.Context(), 50); err != nil {
		t.Fatal(err)
	}
	if in := a.calls.replies.Load(); in == first || in.base != wire.Cluster("c").InboxPrefix("a", 50) {
		t.Fatal("still the inbox of", in.base)
	}
	g.release()
	if err := <-answered; err != nil {
		t.Error("the call that was in flight:", err)
	}
	if err := a.Start(t.Context(), 51); err != nil {
		t.Fatal(err)
	}
	if first.sub.IsValid() {
		t.Error("the first inbox is still open")
	}
	if _, err := a.Call(t.Context(), To("b"), Raw{Name: "k"}, CallOptions{}); err != nil {
		t.Error(err)
	}
}

func TestCloseEndsCallsInFlight(t *testing.T) {
	w := newTown(t)
	a := w.node("a", nil)
	g := newGate(t)
	w.node("b", answering(g.handle, "k"))
	w.open()
	go func() {
		<-g.entered
		_ = a.Close()
	}()
	_, err := a.Call(t.Context(), Any(), Raw{Name: "k"}, CallOptions{Idempotent: true})
	if !errors.Is(err, ErrUnknown) || !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}
