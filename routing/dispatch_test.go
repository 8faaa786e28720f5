package routing

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/natstest"
	"github.com/catga/catga-go/internal/wire"
)

func TestRequestsBeforeStartAreAnsweredAfterIt(t *testing.T) {
	w := newTown(t)
	w.node("a", answering(named("a"), "k"))
	client := w.conn()
	if err := w.nodes[0].Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	inbox := nats.NewInbox()
	sub, err := client.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if err := client.PublishRequest("catga.c.call.any.k", inbox, nil); err != nil {
			t.Fatal(err)
		}
	}
	d := w.nodes[0].calls.dispatcher
	natstest.Eventually(t, "all are buffered", func() bool { return len(d.in) == 10 })
	if n, _, err := sub.Pending(); n != 0 || err != nil {
		t.Fatal(n, "were answered before Start", err)
	}
	if err := w.nodes[0].Prepare(t.Context()); err != nil { // again, as before a rejoin
		t.Fatal(err)
	}
	if err := w.nodes[0].Start(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if m, err := sub.NextMsgWithContext(t.Context()); err != nil || string(m.Data) != "a" {
			t.Fatal(m, err)
		}
	}
	if n, _, _ := sub.Pending(); n != 0 {
		t.Fatal(n, "answers too many: the second Prepare subscribed again")
	}
}

func TestRequestsThatNeverBeganAreRefusedOnClose(t *testing.T) {
	w := newTown(t)
	w.node("a", answering(named("a"), "k"))
	if err := w.nodes[0].Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	client := w.conn()
	sub, err := client.SubscribeSync("answers")
	if err != nil {
		t.Fatal(err)
	}
	if err := client.PublishRequest("catga.c.call.any.k", "answers", nil); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, "it is buffered", func() bool { return len(w.nodes[0].calls.dispatcher.in) == 1 })
	if err := w.nodes[0].Close(); err != nil {
		t.Fatal(err)
	}
	m, err := sub.NextMsgWithContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decodeAnswer(m, "a", "k"); !errors.Is(err, ErrNotDelivered) || !errors.Is(err, ErrLeaving) {
		t.Fatal(err)
	}
}

func TestPlainNATSClientCallsAnyHandler(t *testing.T) {
	w := newTown(t)
	w.node("a", func(r *Router) {
		r.Handle("echo", func(_ context.Context, m *Msg[Raw]) (Raw, error) {
			if m.From != "" {
				return Raw{}, errors.New("a plain client has no node id, got " + m.From)
			}
			return m.Body, nil
		}, HandleOptions{Reply: true})
		r.Handle("event", func(context.Context, *Msg[Raw]) (Raw, error) { return Raw{Data: []byte("dropped")}, nil }, HandleOptions{})
		r.Handle("fails", func(context.Context, *Msg[Raw]) (Raw, error) { return Raw{}, errors.New("no") }, HandleOptions{})
	})
	w.node("b", answering(named("b"), "other"))
	w.open()
	client := w.conn()
	for _, c := range []struct {
		subject string
		header  nats.Header
		want    string
		err     string
	}{
		{"catga.c.call.any.echo", nil, "x", ""},
		{"catga.c.call.node.a.echo", nil, "x", ""},
		{"catga.c.call.all.echo", nil, "x", ""},
		{"catga.c.call.any.event", nil, "", ""}, // an empty success
		{"catga.c.call.any.fails", nil, "", "500 no"},
		{"catga.c.call.any.echo", nats.Header{"Catga-Version": {"1"}}, "x", ""},
		{"catga.c.call.any.echo", nats.Header{"Catga-Version": {"2"}}, "", "503 not delivered: version"},
		{"catga.c.call.any.echo", nats.Header{"Catga-Timeout": {"1m"}}, "x", ""},
		{"catga.c.call.any.echo", nats.Header{"Catga-Timeout": {"soon"}}, "", `400 bad request: Catga-Timeout "soon" is not a positive duration such as 1.5s`},
	} {
		m, err := client.RequestMsgWithContext(t.Context(), &nats.Msg{Subject: c.subject, Header: c.header, Data: []byte("x")})
		if err != nil {
			t.Fatal(c.subject, err)
		}
		failed := strings.TrimSpace(m.Header.Get("Nats-Service-Error-Code") + " " + m.Header.Get("Nats-Service-Error"))
		if string(m.Data) != c.want || failed != c.err {
			t.Errorf("%s %v: %q, %q", c.subject, c.header, m.Data, failed)
		}
		want := "map[]"
		if strings.HasPrefix(c.subject, "catga.c.call.all.") {
			want = "map[Catga-From:[a]]" // one of many says who it is
		}
		if c.err == "" && fmt.Sprint(m.Header) != want {
			t.Errorf("%s: a plain answer carries %v, want %s", c.subject, m.Header, want)
		}
	}
}

func TestNoHeaderOnTheCommonPath(t *testing.T) {
	w := newTown(t)
	a := w.node("a", nil)
	w.node("b", answering(named("b"), "k"))
	w.open()
	nc := w.conn()
	tap, err := nc.SubscribeSync("catga.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := flush(t.Context(), nc); err != nil {
		t.Fatal(err)
	}
	if err := tap.SetPendingLimits(-1, -1); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Call(t.Context(), Any(), Raw{Name: "k"}, CallOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := a.cast(t.Context(), To("b"), Raw{Name: "k"}, SendOptions{}); err != nil {
		t.Fatal(err)
	}
	for range 3 { // request, answer, at-most-once
		m, err := tap.NextMsgWithContext(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if m.Header != nil {
			t.Errorf("%s carries %v", m.Subject, m.Header)
		}
	}
}

// full fills all places of kind k at b and returns the callers' results.
func fill(t *testing.T, a *Router, g *gate, to One) *sync.WaitGroup {
	var wg sync.WaitGroup
	for range callLimit {
		wg.Go(func() {
			if _, err := a.Call(context.Background(), to, Raw{Name: "k"}, CallOptions{}); err != nil {
				t.Error("one of those that had a place:", err)
			}
		})
	}
	for range callLimit {
		<-g.entered
	}
	return &wg
}

func TestFullNodeIsBusyAndTheCallGoesElsewhere(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		w := newTown(t)
		a := w.node("a", nil)
		g := newGate(t)
		w.node("b", func(r *Router) {
			answering(g.handle, "k")(r)
			answering(named("b"), "other")(r)
		})
		w.open()
		wg := fill(t, a, g, To("b"))
		_, err := a.Call(t.Context(), To("b"), Raw{Name: "k"}, CallOptions{})
		if !errors.Is(err, ErrNotDelivered) || !errors.Is(err, ErrBusy) {
			t.Error("a call too many:", err)
		}
		if _, err := a.Call(t.Context(), To("b"), Raw{Name: "other"}, CallOptions{}); err != nil {
			t.Error("the other kind is not full:", err)
		}
		c := w.node("c", answering(named("c"), "k"))
		if err := errors.Join(c.Prepare(t.Context()), c.Start(t.Context(), 3)); err != nil {
			t.Fatal(err)
		}
		w.tell(up("c", 3, "k"))
		for range 4 {
			start := time.Now()
			got, err := a.Call(t.Context(), Any(), Raw{Name: "k"}, CallOptions{})
			if err != nil || string(got.Data) != "c" || time.Since(start) != 0 {
				t.Error(got, err, time.Since(start))
			}
		}
		// A place comes free while the call pauses.
		time.AfterFunc(10*time.Millisecond, g.release)
		if _, err := a.Call(t.Context(), To("b"), Raw{Name: "k"}, CallOptions{}); err != nil {
			t.Error(err)
		}
		wg.Wait()
		<-g.entered
	})
}

func TestAtMostOnceMessagesWaitForAPlace(t *testing.T) {
	w := newTown(t)
	a := w.node("a", nil)
	var running, most atomic.Int32
	done := make(chan struct{}, 2*callLimit)
	open := make(chan struct{})
	w.node("b", answering(func(context.Context, *Msg[Raw]) (Raw, error) {
		n := running.Add(1)
		for {
			m := most.Load()
			if n <= m || most.CompareAndSwap(m, n) {
				break
			}
		}
		<-open
		running.Add(-1)
		done <- struct{}{}
		return Raw{}, nil
	}, "k"))
	w.open()
	for range 2 * callLimit {
		if err := a.cast(t.Context(), To("b"), Raw{Name: "k"}, SendOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	var s *served
	for _, s = range w.nodes[1].calls.dispatcher.subs {
	}
	natstest.Eventually(t, "all have arrived", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.running == callLimit && len(s.waiting) == callLimit
	})
	close(open)
	for range 2 * callLimit {
		<-done
	}
	if n := most.Load(); n > callLimit {
		t.Error(n, "ran at once")
	}
}

// TestHangingHandlersDoNotHoldUpOthers hangs the leader again and again.
func TestHangingHandlersDoNotHoldUpOthers(t *testing.T) {
	w := newTown(t)
	a := w.node("a", nil)
	g := newGate(t)
	w.node("b", func(r *Router) {
		answering(g.handle, "k")(r)
		answering(named("b"), "other")(r)
	})
	w.open()
	hung := sync.WaitGroup{}
	for range 20 {
		hung.Go(func() {
			if _, err := a.Call(context.Background(), To("b"), Raw{Name: "k"}, CallOptions{}); err != nil {
				t.Error(err)
			}
		})
		<-g.entered
		start := time.Now()
		if _, err := a.Call(t.Context(), To("b"), Raw{Name: "other"}, CallOptions{}); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d > time.Second {
			t.Error("held up for", d)
		}
	}
	g.release()
	hung.Wait()
}

func TestHandlerThatCallsItsOwnNode(t *testing.T) {
	w := newTown(t)
	w.node("a", func(r *Router) {
		r.Handle("down", func(ctx context.Context, m *Msg[Raw]) (Raw, error) {
			if m.Body.Data[0] == 0 {
				return m.Body, nil
			}
			return r.Call(ctx, To("a"), Raw{Name: "down", Data: []byte{m.Body.Data[0] - 1}}, CallOptions{})
		}, HandleOptions{Reply: true})
	})
	a := w.open()
	if got, err := a.Call(t.Context(), Any(), Raw{Name: "down", Data: []byte{50}}, CallOptions{}); err != nil || got.Data[0] != 0 {
		t.Fatal(got, err)
	}
}

func TestHandlerThatEndsItsGoroutine(t *testing.T) {
	w := newTown(t)
	a := w.node("a", nil)
	w.node("b", answering(func(_ context.Context, m *Msg[Raw]) (Raw, error) {
		if len(m.Body.Data) > 0 {
			runtime.Goexit()
		}
		return Raw{}, nil
	}, "k"))
	w.open()
	for range 10 {
		_, err := a.Call(t.Context(), To("b"), Raw{Name: "k", Data: []byte("x")}, CallOptions{})
		if he, ok := errors.AsType[*HandlerError](err); !ok || he.Message != errGoexit.Error() {
			t.Fatal(err)
		}
		if _, err := a.Call(t.Context(), To("b"), Raw{Name: "k"}, CallOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDispatchUnderStress mixes handlers that return at once, that hang the
// leader for a while, and that panic: every call is answered once, with its own answer.
func TestDispatchUnderStress(t *testing.T) {
	w := newTown(t)
	a := w.node("a", nil)
	var runs atomic.Int64
	handler := func(ctx context.Context, m *Msg[Raw]) (Raw, error) {
		runs.Add(1)
		switch m.Body.Data[0] {
		case 0:
			timer := time.NewTimer(time.Duration(m.Body.Data[1]) * 20 * time.Microsecond)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
		case 1:
			panic("stress")
		}
		return m.Body, nil
	}
	w.node("b", answering(handler, "k", "k2"))
	w.open()
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(g)))
			for i := range 300 {
				body := []byte{byte(rnd.IntN(8)), byte(rnd.IntN(256)), byte(g), byte(i), byte(i >> 8)}
				got, err := a.Call(context.Background(), To("b"), Raw{Name: []string{"k", "k2"}[i%2], Data: body}, CallOptions{})
				_, failed := errors.AsType[*HandlerError](err)
				if failed != (body[0] == 1) || !failed && string(got.Data) != string(body) {
					t.Errorf("%v: %v, %v", body, got, err)
				}
			}
		})
	}
	wg.Wait()
	if n := runs.Load(); n != 16*300 {
		t.Error(n, "runs")
	}
}

func TestDrainFailsNoCall(t *testing.T) {
	w := newTown(t)
	a := w.node("a", nil)
	slow := func(_ context.Context, m *Msg[Raw]) (Raw, error) {
		if m.Body.Data[0]%16 == 0 {
			timer := time.NewTimer(2 * time.Millisecond)
			<-timer.C
		}
		return m.Body, nil
	}
	w.node("b", answering(slow, "k"))
	w.node("c", answering(slow, "k"))
	w.open()
	var wg sync.WaitGroup
	var calls atomic.Int64
	stop := make(chan struct{})
	half := make(chan struct{})
	for range 8 {
		wg.Go(func() {
			for i := byte(0); ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if got, err := a.Call(context.Background(), Any(), Raw{Name: "k", Data: []byte{i}}, CallOptions{}); err != nil || got.Data[0] != i {
					t.Error(got, err)
				}
				if calls.Add(1) == 1000 {
					close(half)
				}
			}
		})
	}
	<-half
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	b := w.nodes[1]
	if err := b.Drain(ctx); err != nil {
		t.Error(err)
	}
	if err := b.Drain(ctx); err != nil {
		t.Error("twice:", err)
	}
	w.tell(left(up("b", 2, "k"))) // later than its end, as in real life
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	n := calls.Load()
	natstest.Eventually(t, "calls go on", func() bool { return calls.Load() > n+1000 })
	close(stop)
	wg.Wait()
}

func TestDrainWaitsForHandlersAndCloseEndsThem(t *testing.T) {
	w := newTown(t)
	a := w.node("a", nil)
	g := newGate(t)
	w.node("b", answering(g.handle, "k"))
	w.open()
	answer := make(chan error, 1)
	go func() {
		_, err := a.Call(context.Background(), To("b"), Raw{Name: "k"}, CallOptions{})
		answer <- err
	}()
	<-g.entered
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if err := w.nodes[1].Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error("a handler runs:", err)
	}
	if err := w.nodes[1].Close(); err != nil {
		t.Error(err)
	}
	// The handler returned the cause of its ctx.
	if he, ok := errors.AsType[*HandlerError](<-answer); !ok || he.Message != ErrClosed.Error() {
		t.Error(he)
	}
}

func TestCloseDoesNotWaitForEverForAHandler(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		w := newTown(t)
		a := w.node("a", nil)
		entered, open := make(chan struct{}), make(chan struct{})
		log := &record{}
		w.nodeOn(w.conn(), Config{Cluster: "c", Node: "b", Log: log.logger()}, answering(func(context.Context, *Msg[Raw]) (Raw, error) {
			close(entered)
			<-open // ignores its ctx
			return Raw{}, nil
		}, "k"))
		w.open()
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-entered
			start := time.Now()
			if err := w.nodes[1].Close(); err != nil || time.Since(start) != closeWait {
				t.Error(err, time.Since(start))
			}
			cancel()
		}()
		if _, err := a.Call(ctx, To("b"), Raw{Name: "k"}, CallOptions{}); !errors.Is(err, ErrUnknown) {
			t.Error(err)
		}
		if !strings.Contains(log.String(), "left running") {
			t.Error("not in the log:", log)
		}
		close(open)
	})
}

func TestCloseDoesNotWaitForAStartThatHangs(t *testing.T) {
	w := newTown(t)
	nc := w.conn(nats.ReconnectWait(time.Hour), nats.ReconnectJitter(0, 0))
	r := w.nodeOn(nc, Config{Cluster: "c", Node: "a"}, nil)
	if err := w.mem.Server.DisconnectClientByID(clientID(t, nc)); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, "disconnected", func() bool { return !nc.IsConnected() })
	ctx, cancel := context.WithCancel(t.Context())
	started := make(chan error, 1)
	go func() { started <- r.Start(ctx, 1) }()
	closed := make(chan error, 1)
	go func() { closed <- r.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Error("Close waits for Start")
	}
	cancel()
	if err := <-started; err == nil {
		t.Error("started without a connection")
	}
}

func TestWatchdogSleepsWhileNothingHappens(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		w := newTown(t)
		a := w.node("a", nil)
		w.node("b", answering(named("b"), "k"))
		w.open()
		d := w.nodes[1].calls.dispatcher
		for range 3 {
			time.Sleep(time.Second) // fake time: nothing happens for a second
			if !d.watch.asleep.Load() {
				t.Fatal("awake after a second of silence")
			}
			if _, err := a.Call(t.Context(), To("b"), Raw{Name: "k"}, CallOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestSlowKindsGetGoroutinesAndFastOnesGetNone(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		w := newTown(t)
		a := w.node("a", nil)
		w.node("b", answering(func(_ context.Context, m *Msg[Raw]) (Raw, error) {
			time.Sleep(time.Duration(m.Body.Data[0]) * time.Millisecond)
			return Raw{}, nil
		}, "k"))
		w.open()
		var s *served
		for _, s = range w.nodes[1].calls.dispatcher.subs {
		}
		for i, c := range []struct {
			ms   byte
			slow bool
		}{{0, false}, {5, true}, {0, true}} {
			if _, err := a.Call(t.Context(), To("b"), Raw{Name: "k", Data: []byte{c.ms}}, CallOptions{}); err != nil {
				t.Fatal(err)
			}
			if slow := s.mean.Load() > int64(slowKind); slow != c.slow {
				t.Errorf("%d: mean %v", i, time.Duration(s.mean.Load()))
			}
		}
		for range 40 {
			if _, err := a.Call(t.Context(), To("b"), Raw{Name: "k", Data: []byte{0}}, CallOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		if s.mean.Load() > int64(slowKind) {
			t.Error("fast again, but the mean is", time.Duration(s.mean.Load()))
		}
	})
}

func FuzzDecodeRequest(f *testing.F) {
	f.Add("catga.c.inbox.n1.7.x", "Catga-Timeout", "1s", []byte("x"))
	f.Add("", "Catga-Version", "2", []byte(nil))
	f.Add("catga.c.inbox.", "Catga-From", "a b", []byte("{}"))
	f.Add("_INBOX.x", "Content-Type", "application/octet-stream", []byte("{}"))
	f.Fuzz(func(t *testing.T, reply, name, value string, data []byte) {
		var req request
		err := decodeRequest(&req, "catga.c.inbox.", &nats.Msg{Reply: reply, Header: nats.Header{name: {value}}, Data: data})
		if err != nil {
			if !errors.Is(err, errVersion) && !errors.Is(err, errRequest) {
				t.Fatal(err)
			}
			return
		}
		if req.timeout < 0 || req.msg.Body.ContentType == "" || string(req.msg.Body.Data) != string(data) {
			t.Fatalf("%+v", req)
		}
		if req.msg.From != "" && wire.CheckNode(req.msg.From) != nil {
			t.Fatalf("sender %q", req.msg.From)
		}
	})
}

func FuzzDecodeAnswer(f *testing.F) {
	f.Add("Status", "503", "", "", []byte(nil))
	f.Add("Nats-Service-Error", "no", "Nats-Service-Error-Code", "4x4", []byte("x"))
	f.Add("Catga-Refused", "busy", "", "", []byte(nil))
	f.Add("Content-Type", "a/b", "", "", []byte("x"))
	f.Fuzz(func(t *testing.T, n1, v1, n2, v2 string, data []byte) {
		a, err := decodeAnswer(&nats.Msg{Header: nats.Header{n1: {v1}, n2: {v2}}, Data: data}, "b", "k")
		_, failed := errors.AsType[*HandlerError](err)
		switch {
		case err == nil && (a.ContentType == "" || string(a.Data) != string(data)):
			t.Fatalf("%+v", a)
		case err != nil && failed == errors.Is(err, ErrNotDelivered):
			t.Fatalf("not exactly one outcome: %v", err)
		}
	})
}

func FuzzErrorAnswer(f *testing.F) {
	f.Add(500, "plain")
	f.Add(0, "two\nlines")
	f.Add(-1, strings.Repeat("é", 600))
	f.Add(404, " \x00 ")
	f.Add(500, strings.Repeat("\xff", 300)) // once grew beyond the limit as replacement runes
	f.Fuzz(func(t *testing.T, code int, text string) {
		m := failureAnswer("r", &HandlerError{Code: code, Message: text})
		line := m.Header.Get(wire.HeaderError)
		if line == "" || len(line) > maxErrorHeader || strings.ContainsAny(line, "\r\n\x00") {
			t.Fatalf("header %q", line)
		}
		_, err := decodeAnswer(m, "b", "k")
		he, ok := errors.AsType[*HandlerError](err)
		if code == 0 {
			code = codeInternal
		}
		if !ok || he.Code != code || he.Message != text && (text != "" || he.Message != "error") {
			t.Fatal(fmt.Sprintf("%#v", he), text)
		}
	})
}
