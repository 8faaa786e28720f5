package routing

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/wire"
)

// heard is what a plain client hears: the messages of bundles one by one.
func heard(t *testing.T, m *nats.Msg) (bodies []string) {
	t.Helper()
	if _, ok := wire.CutBundleReply(m.Reply); !ok {
		return []string{string(m.Data)}
	}
	for rest := m.Data; len(rest) > 0; {
		data, after, ok := wire.CutBundled(rest)
		if !ok {
			t.Fatalf("%x is no bundle", m.Data)
		}
		bodies, rest = append(bodies, string(data)), after
	}
	if len(bodies) < 2 {
		t.Fatalf("a bundle of %q", bodies)
	}
	return bodies
}

// listens subscribes, and returns when the server knows of it.
func listens(t *testing.T, nc *nats.Conn, subject string) *nats.Subscription {
	t.Helper()
	sub, err := nc.SubscribeSync(subject)
	if err != nil || nc.Flush() != nil {
		t.Fatal(subject, err)
	}
	return sub
}

// TestCastsLeaveInOrder: whatever a node sends on core NATS is on the wire in
// the order in which it was sent, in bundles or not.
func TestCastsLeaveInOrder(t *testing.T) {
	w := newTown(t)
	w.node("a", nil)
	w.node("b", answering(named("b"), "k", "other"))
	a := w.open()
	wiretap := make(chan *nats.Msg, 100_000)
	nc := w.conn()
	if _, err := nc.ChanSubscribe("catga.c.call.>", wiretap); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	const all = 20_000
	for i := range all {
		m := Raw{Name: "k", Data: []byte(strconv.Itoa(i))}
		o := SendOptions{AtMostOnce: true}
		var err error
		switch {
		case i%997 == 3:
			_, err = a.Call(t.Context(), To("b"), m, CallOptions{})
		case i%401 == 3:
			m.Name = "other"
			err = a.Send(t.Context(), To("b"), m, o)
		case i%301 == 3:
			err = a.Send(t.Context(), All(), m, o)
		case i%201 == 3:
			o.ID = "x"
			err = a.Send(t.Context(), To("b"), m, o)
		case i%101 == 3:
			m.Data = fmt.Appendf(m.Data, " %02000d", 0)
			err = a.Send(t.Context(), To("b"), m, o)
		default:
			err = a.Send(t.Context(), Any(), m, o)
		}
		if err != nil {
			t.Fatal(i, err)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := a.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	next, messages := 0, len(wiretap)
	for range messages {
		m := <-wiretap
		if wire.IsCastReply(m.Reply) {
			if from, ok := wire.CasterOf(m.Reply); !ok || from != "a" {
				t.Fatal("sent by", m.Reply)
			}
		}
		for _, body := range heard(t, m) {
			n, _, _ := strings.Cut(body, " ")
			if n == strconv.Itoa(next-1) && wantsAnswer(m.Reply) {
				continue // a call that b was too busy for is made again
			}
			if n != strconv.Itoa(next) {
				t.Fatalf("%s in place of %d", n, next)
			}
			next++
		}
	}
	if next != all {
		t.Errorf("%d of %d are on the wire", next, all)
	}
	if messages > all*9/10 {
		t.Errorf("%d NATS messages for %d: nothing was bundled", messages, all)
	}
}

// TestCastAloneIsPlain: who sends seldom sends what any NATS client reads.
func TestCastAloneIsPlain(t *testing.T) {
	w := newTown(t)
	w.node("a", nil)
	w.node("b", answering(named("b"), "k"))
	a := w.open()
	nc := w.conn()
	sub := listens(t, nc, "catga.c.call.node.b.k")
	for range 10 {
		if err := a.Send(t.Context(), To("b"), Raw{Name: "k", Data: []byte("x")}, SendOptions{AtMostOnce: true}); err != nil {
			t.Fatal(err)
		}
		m, err := sub.NextMsgWithContext(t.Context()) // it waits for longer than bundleWithin
		if err != nil || string(m.Data) != "x" || m.Reply != "_.a" || m.Header != nil {
			t.Fatalf("%+v, %v", m, err)
		}
	}
}

// bundled publishes a bundle as node a sends it to node b.
func (w *town) bundled(nc *nats.Conn, bodies ...string) {
	w.t.Helper()
	var data []byte
	for _, body := range bodies {
		data = wire.AppendBundled(data, []byte(body))
	}
	w.publishBundle(nc, data)
}

func (w *town) publishBundle(nc *nats.Conn, data []byte) {
	w.t.Helper()
	if err := nc.PublishRequest("catga.c.call.node.b.k", wire.BundleReply("a"), data); err != nil {
		w.t.Fatal(err)
	}
}

// TestBundleOutlivesAHandler: a handler that hangs, ends its goroutine or panics
// holds up none of the messages behind it.
func TestBundleOutlivesAHandler(t *testing.T) {
	w := newTown(t)
	g := newGate(t)
	ran := make(chan string, 100)
	logged := new(record)
	w.node("a", nil)
	w.nodeOn(w.conn(), Config{Cluster: "c", Node: "b", Log: logged.logger()}, answering(func(ctx context.Context, m *Msg[Raw]) (Raw, error) {
		body := string(m.Body.Data)
		switch {
		case m.From != "a" || m.Attempt != 1 || m.Sent.IsZero() || m.Body.Name != "k":
			ran <- fmt.Sprintf("%+v", m)
		case strings.HasPrefix(body, "hang"):
			return g.handle(ctx, m)
		case strings.HasPrefix(body, "end"):
			runtime.Goexit()
		case strings.HasPrefix(body, "panic"):
			panic(body)
		}
		ran <- body
		return Raw{}, nil
	}, "k"))
	w.open()
	nc := w.conn()
	w.bundled(nc, "1", "hang", "2", "end", "3", "panic", "4", "hang", "5", "end")
	w.bundled(nc, "6")
	w.bundled(nc)
	w.publishBundle(nc, []byte{200})
	w.publishBundle(nc, append(wire.AppendBundled(nil, []byte("7")), 2, 'x'))
	w.bundled(nc, "8", "9")
	var got []string
	for range 9 {
		got = append(got, <-ran)
	}
	slices.Sort(got)
	if want := strings.Fields("1 2 3 4 5 6 7 8 9"); !slices.Equal(got, want) {
		t.Errorf("ran %v, want %v", got, want)
	}
	for range 2 {
		<-g.entered
	}
	if n := strings.Count(logged.String(), "not a bundle"); n != 2 {
		t.Errorf("%d of 2 that are no bundle were reported:\n%s", n, logged)
	}
}

// TestBundleGoesOnWhenTheLeaderEnds: what is behind a handler that ends the
// goroutine of the dispatcher runs, once.
func TestBundleGoesOnWhenTheLeaderEnds(t *testing.T) {
	w := newTown(t)
	ran := make(chan string, 1000)
	w.node("a", nil)
	w.node("b", answering(func(_ context.Context, m *Msg[Raw]) (Raw, error) {
		if body := string(m.Body.Data); body != "end" {
			ran <- body
			return Raw{}, nil
		}
		runtime.Goexit()
		return Raw{}, nil
	}, "k"))
	w.open()
	nc := w.conn()
	var bodies, want []string
	for i := range 100 {
		body := fmt.Sprintf("%03d", i)
		want = append(want, body)
		if bodies = append(bodies, body); i%10 == 5 {
			bodies = append(bodies, "end")
		}
	}
	w.bundled(nc, bodies...)
	var got []string
	for range want {
		got = append(got, <-ran)
	}
	w.sync("b")
	if slices.Sort(got); !slices.Equal(got, want) || <-ran != "sync" || len(ran) > 0 {
		t.Errorf("ran %v and %d more", got, len(ran))
	}
}

// TestBundleWaitsForPlaces: of a bundle that is larger than a node has places for,
// the rest waits, and is what it was.
func TestBundleWaitsForPlaces(t *testing.T) {
	w := newTown(t)
	g := newGate(t)
	ran := make(chan string, 2*callLimit)
	w.node("a", nil)
	w.node("b", answering(func(ctx context.Context, m *Msg[Raw]) (Raw, error) {
		_, err := g.handle(ctx, m)
		ran <- string(m.Body.Data)
		return Raw{}, err
	}, "k"))
	w.open()
	var want []string
	for i := range callLimit + 100 {
		want = append(want, fmt.Sprintf("%03d", i))
	}
	w.bundled(w.conn(), want...)
	for range callLimit {
		<-g.entered
	}
	g.release()
	var got []string
	for range want {
		got = append(got, <-ran)
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("ran %v", got)
	}
}

// kept makes a bundle of two of r that nobody is about to send.
func kept(t *testing.T, r *Router) {
	t.Helper()
	r.bundles.mu.Lock()
	r.bundles.running = true // says that somebody is
	r.bundles.mu.Unlock()
	for n := 0; n < 2; {
		if err := r.Send(t.Context(), To("b"), Raw{Name: "k", Data: []byte("kept")}, SendOptions{AtMostOnce: true}); err != nil {
			t.Fatal(err)
		}
		r.bundles.mu.Lock()
		n = 0
		for _, a := range r.bundles.open {
			n = a.n
		}
		r.bundles.mu.Unlock()
	}
}

// TestBundleIsNotLeftBehind: whatever ends or follows a bundle sends it.
func TestBundleIsNotLeftBehind(t *testing.T) {
	for name, end := range map[string]func(r *Router, nc *nats.Conn) error{
		"close": func(r *Router, _ *nats.Conn) error { return r.Close() },
		"drain": func(r *Router, _ *nats.Conn) error { return r.Drain(t.Context()) },
		"call": func(r *Router, _ *nats.Conn) error {
			_, err := r.Call(t.Context(), To("b"), Raw{Name: "k"}, CallOptions{})
			return err
		},
		"large": func(r *Router, _ *nats.Conn) error {
			return r.Send(t.Context(), To("c"), Raw{Name: "k", Data: make([]byte, 2*bundleMost)}, SendOptions{AtMostOnce: true})
		},
		"answer": func(_ *Router, nc *nats.Conn) error {
			_, err := nc.RequestWithContext(t.Context(), "catga.c.call.node.a.k", nil)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newTown(t)
			a := w.node("a", answering(named("a"), "k"))
			w.node("b", answering(named("b"), "k"))
			w.node("c", answering(named("c"), "k"))
			w.open()
			nc := w.conn()
			sub := listens(t, nc, "catga.c.call.node.b.k")
			kept(t, a)
			if err := end(a, w.conn()); err != nil {
				t.Fatal(err)
			}
			for {
				m, err := sub.NextMsgWithContext(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if bodies := heard(t, m); len(bodies) > 1 {
					return
				}
			}
		})
	}
}

// TestCastsThatCannotLeave: what was taken and did not leave is reported.
func TestCastsThatCannotLeave(t *testing.T) {
	w := newTown(t)
	logged := new(record)
	w.nodeOn(w.conn(), Config{Cluster: "c", Node: "a", Log: logged.logger()}, nil)
	w.node("b", answering(named("b"), "k"))
	a := w.open()
	kept(t, a)
	a.nc.Close()
	a.bundles.flush()
	if text := logged.String(); !strings.Contains(text, "were not sent") || !strings.Contains(text, "messages=2") {
		t.Error("nothing was said of it:", text)
	}
	err := a.Send(t.Context(), To("b"), Raw{Name: "k"}, SendOptions{AtMostOnce: true})
	if !errors.Is(err, ErrNotDelivered) || !errors.Is(err, nats.ErrDisconnected) {
		t.Error("on a closed connection:", err)
	}
}
