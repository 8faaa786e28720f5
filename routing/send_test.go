package routing

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/catga/catga-go/internal/natstest"
)

// inbox collects what handlers get.
type inbox struct {
	t    testing.TB
	msgs chan *Msg[Raw]
}

func newInbox(t testing.TB) *inbox { return &inbox{t: t, msgs: make(chan *Msg[Raw], 100_000)} }

func (b *inbox) handle(_ context.Context, m *Msg[Raw]) (Raw, error) {
	b.msgs <- m
	return Raw{}, nil
}

// next returns the next message, or fails.
func (b *inbox) next() *Msg[Raw] {
	b.t.Helper()
	select {
	case m := <-b.msgs:
		return m
	case <-time.After(20 * time.Second):
		b.t.Fatal("no message within 20 s")
		return nil
	}
}

// nothing fails where another message is there.
func (b *inbox) nothing() {
	b.t.Helper()
	select {
	case m := <-b.msgs:
		b.t.Fatalf("unexpected message %q, attempt %d", m.Body.Data, m.Attempt)
	default:
	}
}

// durable handles kinds with f.
func handling(f Handler, kinds ...string) func(*Router) {
	return func(r *Router) {
		for _, k := range kinds {
			r.Handle(k, f, HandleOptions{})
		}
	}
}

func text(kind, body string) Raw { return Raw{Name: kind, Data: []byte(body)} }

// idle waits until nothing is stored for, or in hand of, anybody.
func (w *town) idle() {
	w.t.Helper()
	r := w.nodes[0]
	natstest.Eventually(w.t, "all work is done", func() bool {
		for _, name := range []string{r.cluster.WorkStream(), r.cluster.MailStream()} {
			s, err := r.js.Stream(context.Background(), name)
			if err != nil || s.CachedInfo().State.Msgs > 0 {
				return false
			}
		}
		return true
	})
}

func TestSendReachesItsTarget(t *testing.T) {
	w := newTown(t)
	boxes := map[string]*inbox{}
	for _, id := range []string{"n1", "n2", "n3"} {
		boxes[id] = newInbox(t)
		w.node(id, handling(boxes[id].handle, "greet", "other.kind"))
	}
	n1 := w.open()
	send := func(to Target, body string) {
		t.Helper()
		if err := n1.Send(t.Context(), to, text("greet", body), SendOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(body string, ids ...string) {
		t.Helper()
		for _, id := range ids {
			m := boxes[id].next()
			if string(m.Body.Data) != body || m.From != "n1" || m.Attempt != 1 || m.ID == "" || m.Body.Name != "greet" || m.Sent.IsZero() {
				t.Fatalf("%s got %+v, body %q", id, m, m.Body.Data)
			}
		}
	}
	send(To("n2"), "to")
	expect("to", "n2")
	send(All(), "all")
	expect("all", "n1", "n2", "n3")
	send(Others(), "others")
	expect("others", "n2", "n3")
	send(Nodes("n1", "n3", "n1"), "nodes")
	expect("nodes", "n1", "n3")
	send(Any(), "any")
	select {
	case <-boxes["n1"].msgs:
	case <-boxes["n2"].msgs:
	case <-boxes["n3"].msgs:
	case <-time.After(20 * time.Second):
		t.Fatal("nobody got what was for any")
	}
	w.idle()
	for _, b := range boxes {
		b.nothing()
	}
}

// Kinds whose names become alike where a dot is not allowed stay apart.
func TestKindsThatLookAlikeStayApart(t *testing.T) {
	w := newTown(t)
	kinds := []string{"a.b", "a_b", "a-b", "a.b.c", "a"}
	boxes := map[string]*inbox{}
	r := w.node("n1", func(r *Router) {
		for _, k := range kinds {
			boxes[k] = newInbox(t)
			r.Handle(k, boxes[k].handle, HandleOptions{})
		}
	})
	w.open()
	for _, k := range kinds {
		for _, to := range []Target{Any(), To("n1"), All()} {
			if err := r.Send(t.Context(), to, text(k, k), SendOptions{}); err != nil {
				t.Fatal(err)
			}
			if m := boxes[k].next(); m.Body.Name != k || string(m.Body.Data) != k {
				t.Errorf("%s got %q", k, m.Body.Name)
			}
		}
	}
	w.idle()
	for _, b := range boxes {
		b.nothing()
	}
}

func TestSendRefusesWhatNobodyWouldHandle(t *testing.T) {
	w := newTown(t)
	n1 := w.node("n1", handling(newInbox(t).handle, "greet"))
	w.node("n2", handling(newInbox(t).handle, "other"))
	w.open()
	gone, away := up("gone", 7, "greet"), up("away", 8, "greet")
	w.tell(gone, away)
	w.tell(left(gone), lost(away))
	big := Raw{Name: "greet", Data: make([]byte, n1.nc.MaxPayload())}
	for name, c := range map[string]struct {
		to   Target
		m    Raw
		o    SendOptions
		want error
	}{
		"never seen":            {To("nobody"), text("greet", ""), SendOptions{}, ErrNoMember},
		"left":                  {To("gone"), text("greet", ""), SendOptions{}, ErrNoMember},
		"member without kind":   {To("n2"), text("greet", ""), SendOptions{}, ErrNoHandler},
		"self without kind":     {To("n1"), text("other", ""), SendOptions{}, ErrNoHandler},
		"nobody ever":           {Any(), text("unheard.of", ""), SendOptions{}, ErrNoHandler},
		"one of some":           {Nodes("n1", "nobody"), text("greet", ""), SendOptions{}, ErrNoMember},
		"one of some, kind":     {Nodes("n1", "n2"), text("greet", ""), SendOptions{}, ErrNoHandler},
		"none of some":          {Nodes(), text("greet", ""), SendOptions{}, ErrNoMember},
		"too large":             {To("n1"), big, SendOptions{}, ErrTooLarge},
		"no kind":               {Any(), text("", ""), SendOptions{}, nil},
		"no target":             {nil, text("greet", ""), SendOptions{}, nil},
		"header of protocol":    {Any(), text("greet", ""), SendOptions{Header: map[string][]string{"nats-ttl": {"1"}}}, nil},
		"header with two lines": {Any(), text("greet", ""), SendOptions{Header: map[string][]string{"X": {"a\r\nb"}}}, nil},
		"id with two lines":     {Any(), text("greet", ""), SendOptions{ID: "a\nb"}, nil},
	} {
		err := n1.Send(t.Context(), c.to, c.m, c.o)
		if !errors.Is(err, ErrNotDelivered) || errors.Is(err, ErrUnknown) || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want not delivered and %v", name, err, c.want)
		}
	}
	// Mail to the lost is stored: it waits for its return.
	if err := n1.Send(t.Context(), To("away"), text("greet", ""), SendOptions{}); err != nil {
		t.Error("mail to a lost node:", err)
	}
}

func TestSendBeforeAndAfterItsLife(t *testing.T) {
	w := newTown(t)
	r := w.node("n1", handling(newInbox(t).handle, "greet"))
	if err := r.Send(t.Context(), Any(), text("greet", ""), SendOptions{}); !errors.Is(err, ErrNotJoined) || !errors.Is(err, ErrNotDelivered) {
		t.Errorf("before Start: %v", err)
	}
	w.open()
	if err := r.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.Send(t.Context(), Any(), text("greet", ""), SendOptions{}); !errors.Is(err, ErrLeaving) || !errors.Is(err, ErrNotDelivered) {
		t.Errorf("after Drain: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.Send(t.Context(), Any(), text("greet", ""), SendOptions{}); !errors.Is(err, ErrClosed) || !errors.Is(err, ErrNotDelivered) {
		t.Errorf("after Close: %v", err)
	}
}

func TestSendWithIDIsStoredOncePerKindAndTarget(t *testing.T) {
	w := newTown(t)
	box := newInbox(t)
	n1 := w.node("n1", handling(box.handle, "a", "b"))
	n2 := w.node("n2", handling(box.handle, "a", "b"))
	w.open()
	id := SendOptions{ID: "order-17"}
	for i, c := range []struct {
		from *Router
		to   Target
		kind string
		want error
	}{
		{n1, Any(), "a", nil},
		{n1, Any(), "a", ErrDuplicate},
		{n2, Any(), "a", ErrDuplicate}, // whoever repeats it
		{n1, Any(), "b", nil},
		{n1, To("n1"), "a", nil},
		{n1, To("n2"), "a", nil},
		{n2, To("n2"), "a", ErrDuplicate},
		{n1, All(), "a", nil},
		{n1, Others(), "a", nil},
		{n1, Nodes("n1", "n2"), "a", nil},
		{n1, Nodes("n2", "n1"), "a", ErrDuplicate},
		{n1, Nodes("n2"), "a", nil},
	} {
		err := c.from.Send(t.Context(), c.to, text(c.kind, "x"), id)
		if !errors.Is(err, c.want) || errors.Is(err, ErrNotDelivered) {
			t.Errorf("send %d: %v, want %v", i, err, c.want)
		}
	}
	m := box.next()
	if m.ID != "order-17" || m.From != "n1" {
		t.Errorf("got id %q from %q", m.ID, m.From)
	}
}

func TestSendEndsWithItsContext(t *testing.T) {
	s := natstest.Start(t)
	r, err := New(natstest.Dial(t, s.URL()), Config{Cluster: "c", Node: "n1"})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	r.Handle("greet", newInbox(t).handle, HandleOptions{})
	if err := r.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.Start(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Send(ctx, Any(), text("greet", ""), SendOptions{}); !errors.Is(err, ErrNotDelivered) || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: %v", err)
	}
	// A server that hears nothing more: the message may be on its way.
	s.Pause()
	natstest.Eventually(t, "the server has stopped", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		return r.nc.FlushWithContext(ctx) != nil
	})
	// The best of a few: a machine that is busy may not get to it for as long.
	best := time.Hour
	for range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		cancelled := make(chan time.Time, 1)
		time.AfterFunc(50*time.Millisecond, func() { cancelled <- time.Now(); cancel() })
		err = r.Send(ctx, Any(), text("greet", ""), SendOptions{})
		best = min(best, time.Since(<-cancelled))
		if !errors.Is(err, ErrUnknown) || !errors.Is(err, context.Canceled) || errors.Is(err, ErrNotDelivered) {
			t.Errorf("cancelled in flight: %v", err)
		}
	}
	if best > 100*time.Millisecond {
		t.Errorf("a cancelled Send took %v", best)
	}
	s.Resume()
	// No server at all: it cannot have arrived.
	s.Kill()
	natstest.Eventually(t, "the connection is gone", func() bool { return !r.nc.IsConnected() })
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := r.Send(ctx, Any(), text("greet", ""), SendOptions{}); !errors.Is(err, ErrNotDelivered) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without a server: %v", err)
	}
}

func TestSendOutlastsARestartOfTheServer(t *testing.T) {
	s := natstest.Start(t)
	box := newInbox(t)
	r, err := New(natstest.Dial(t, s.URL()), Config{Cluster: "c", Node: "n1"})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	r.Handle("greet", box.handle, HandleOptions{})
	if err := errors.Join(r.Prepare(t.Context()), r.Start(t.Context(), 1)); err != nil {
		t.Fatal(err)
	}
	const senders, each = 8, 50
	var wg sync.WaitGroup
	begun := make(chan struct{}, senders)
	for i := range senders {
		wg.Go(func() {
			for n := range each {
				if n == 5 {
					begun <- struct{}{}
				}
				if err := r.Send(t.Context(), Any(), text("greet", fmt.Sprint(i, "-", n)), SendOptions{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range senders {
		<-begun
	}
	s.Kill()
	s.Restart(t)
	wg.Wait()
	seen := map[string]bool{}
	for len(seen) < senders*each {
		seen[string(box.next().Body.Data)] = true
	}
}
