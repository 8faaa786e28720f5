package routing

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/catga/catga-go/internal/natstest"
	"github.com/catga/catga-go/internal/wire"
)

// consumerOf asks the server for the state of a consumer.
func consumerOf(t testing.TB, r *Router, name string) *jetstream.ConsumerInfo {
	t.Helper()
	stream := r.cluster.WorkStream()
	if name == wire.NodeConsumer(r.id) {
		stream = r.cluster.MailStream()
	}
	info, err := r.consumerInfo(t.Context(), stream, name)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func TestPausedWorkGoesToOtherNodes(t *testing.T) {
	w := newTown(t)
	boxes := map[string]*inbox{"n1": newInbox(t), "n2": newInbox(t)}
	for id, box := range boxes {
		w.node(id, handling(box.handle, "work", "other"))
	}
	w.open()
	n1, n2 := w.nodes[0], w.nodes[1]
	if n1.id != "n1" {
		n1, n2 = n2, n1
	}
	send := func(kind string, to Target) {
		t.Helper()
		if err := n2.Send(t.Context(), to, text(kind, ""), SendOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := n1.Pause("work"); err != nil {
		t.Fatal(err)
	}
	const n = 100
	for range n {
		send("work", Any())
	}
	for range n {
		boxes["n2"].next()
	}
	boxes["n1"].nothing()
	// The other kinds of the node go on, by the same mailbox too.
	send("other", To("n1"))
	if m := boxes["n1"].next(); m.Body.Name != "other" {
		t.Error(m.Body.Name)
	}
	if err := n2.Pause("work"); err != nil {
		t.Fatal(err)
	}
	if err := n1.Resume("work"); err != nil {
		t.Fatal(err)
	}
	for range n {
		send("work", Any())
	}
	for range n {
		boxes["n1"].next()
	}
	boxes["n2"].nothing()
}

// Nobody else handles the kind: the work waits at the server, and nothing is
// counted against it. What is addressed to the node is held by it for minutes.
func TestPauseKeepsWorkAndHoldsMail(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		w := newTown(t)
		box := newInbox(t)
		r := w.node("n1", func(r *Router) {
			r.Handle("work", box.handle, HandleOptions{Concurrency: 4})
			r.Handle("other", box.handle, HandleOptions{Concurrency: 4})
		})
		w.open()
		synctest.Wait() // the orders stand
		if err := errors.Join(r.Pause("work"), r.Pause("work")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		const shared = 20
		send := func(kind string, to Target) {
			t.Helper()
			if err := r.Send(t.Context(), to, text(kind, ""), SendOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		for range shared {
			send("work", Any())
		}
		for range 3 {
			send("work", To("n1"))
			send("work", All())
		}
		send("other", To("n1"))
		send("other", Any())
		for range 2 {
			if m := box.next(); m.Body.Name != "other" {
				t.Error(m.Body.Name)
			}
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		box.nothing()
		if info := consumerOf(t, r, "w:work"); info.NumPending != shared || info.NumAckPending != 0 {
			t.Errorf("%d wait and %d are in hand, want %d and none", info.NumPending, info.NumAckPending, shared)
		}
		if info := consumerOf(t, r, "n:n1"); info.NumAckPending != 3 || info.NumRedelivered != 0 {
			t.Errorf("%d of the mailbox in hand, %d delivered again", info.NumAckPending, info.NumRedelivered)
		}
		if s := r.Stats()[1]; s.Kind != "work" || !s.Paused || s.Received != 0 || s.InFlight != 0 {
			t.Errorf("%+v", s)
		}
		if err := r.Resume("work"); err != nil {
			t.Fatal(err)
		}
		for range shared + 6 {
			if m := box.next(); m.Attempt != 1 || m.Body.Name != "work" {
				t.Errorf("%s, attempt %d", m.Body.Name, m.Attempt)
			}
		}
		w.idle()
		if s := r.Stats()[1]; s.Paused || s.Received != shared+6 {
			t.Errorf("%+v", s)
		}
	})
}

// More mail than the places of its kinds waits at the server, that of the other
// kinds too, and comes when the kind is resumed.
func TestHeldMailIsBounded(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		w := newTown(t)
		box := newInbox(t)
		r := w.node("n1", func(r *Router) {
			r.Handle("work", box.handle, HandleOptions{Concurrency: 4})
			r.Handle("other", box.handle, HandleOptions{Concurrency: 4})
		})
		w.open()
		if err := r.Pause("work"); err != nil {
			t.Fatal(err)
		}
		const n = 30
		for range n {
			if err := r.Send(t.Context(), To("n1"), text("work", ""), SendOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		box.nothing()
		if info := consumerOf(t, r, "n:n1"); info.NumAckPending > 2*8 || info.NumAckPending < 4 {
			t.Errorf("%d are held", info.NumAckPending)
		}
		if err := r.Resume("work"); err != nil {
			t.Fatal(err)
		}
		for range n {
			if m := box.next(); m.Attempt != 1 {
				t.Errorf("attempt %d", m.Attempt)
			}
		}
		w.idle()
	})
}

// What waits for a place when the kind is paused is handed back at once.
func TestPauseHandsBackWhatHasNotBegun(t *testing.T) {
	w := newTown(t)
	g := newGate(t)
	n1 := w.node("n1", func(r *Router) { r.Handle("work", g.handle, HandleOptions{Concurrency: 1}) })
	w.open()
	// The place is taken by mail while an order for shared work stands.
	if err := n1.Send(t.Context(), To("n1"), text("work", "mail"), SendOptions{}); err != nil {
		t.Fatal(err)
	}
	<-g.entered
	if err := n1.Send(t.Context(), Any(), text("work", "shared"), SendOptions{}); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, "it is in hand", func() bool { return consumerOf(t, n1, "w:work").NumAckPending == 1 })
	natstest.Eventually(t, "it waits", func() bool { return n1.kinds["work"].lane.load() == 2 })
	if err := n1.Pause("work"); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, "it is handed back", func() bool { return n1.kinds["work"].lane.load() == 1 })
	box := newInbox(t)
	n2 := w.node("n2", handling(box.handle, "work"))
	if err := errors.Join(n2.Prepare(t.Context()), n2.Start(t.Context(), 2)); err != nil {
		t.Fatal(err)
	}
	if m := box.next(); string(m.Body.Data) != "shared" || m.Attempt != 2 {
		t.Errorf("%s, attempt %d", m.Body.Data, m.Attempt)
	}
	g.release() // what had begun ends as ever
	w.idle()
}

func TestPausedKindAnswersBusy(t *testing.T) {
	w := newTown(t)
	a := w.node("a", nil)
	box := newInbox(t)
	b := w.node("b", answering(func(ctx context.Context, m *Msg[Raw]) (Raw, error) {
		return box.handle(ctx, m)
	}, "k"))
	w.node("c", answering(named("c"), "k"))
	w.open()
	if err := b.Pause("k"); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if got, err := a.Call(t.Context(), Any(), Raw{Name: "k"}, CallOptions{}); err != nil || string(got.Data) != "c" {
			t.Error(got, err)
		}
	}
	if err := a.cast(t.Context(), To("b"), Raw{Name: "k"}, SendOptions{}); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := a.Call(ctx, To("b"), Raw{Name: "k"}, CallOptions{}); !errors.Is(err, ErrNotDelivered) || !errors.Is(err, ErrBusy) {
		t.Error(err)
	}
	if err := b.Resume("k"); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Call(t.Context(), To("b"), Raw{Name: "k", Data: []byte("x")}, CallOptions{}); err != nil {
		t.Error(err)
	}
	if m := box.next(); string(m.Body.Data) != "x" {
		t.Error("the at-most-once message was kept")
	}
}

func TestPauseOfAnUnknownKind(t *testing.T) {
	w := newTown(t)
	r := w.node("n1", answering(named("n1"), "k"))
	for what, err := range map[string]error{"pause": r.Pause("nobody.does"), "resume": r.Resume("nobody.does")} {
		if !errors.Is(err, ErrNoHandler) || err.Error() != "routing: "+what+`: this node does not handle "nobody.does": nobody handles the kind` {
			t.Error(err)
		}
	}
	// Before its start and after its end too.
	if err := errors.Join(r.Resume("k"), r.Pause("k"), r.Resume("k"), r.Close(), r.Pause("k"), r.Resume("k")); err != nil {
		t.Error(err)
	}
}

// A pause outlives a dropped connection and an eviction, and a node that is
// paused can leave.
func TestPauseLasts(t *testing.T) {
	w := newTown(t)
	box := newInbox(t)
	r := w.node("n1", handling(box.handle, "work", "other")) // the other kind keeps the mailbox going
	eye := w.node("eye", handling(newInbox(t).handle, "seen"))
	if err := r.Pause("work"); err != nil { // before it has begun
		t.Fatal(err)
	}
	w.open()
	send := func(body string, to Target) {
		t.Helper()
		if err := eye.Send(t.Context(), to, text("work", body), SendOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	send("shared", Any())
	send("mail", To("n1"))
	held := func(n int) {
		t.Helper()
		natstest.Eventually(t, "mail is held", func() bool { return r.kinds["work"].lane.load() == n })
	}
	held(1)
	if err := w.mem.Server.DisconnectClientByID(clientID(t, r.nc)); err != nil {
		t.Fatal(err)
	}
	send("more mail", To("n1"))
	held(2)
	r.Evict(errTakenForDead)
	held(0)
	natstest.Eventually(t, "started again", func() bool { return r.Start(t.Context(), 7) == nil })
	held(2)
	box.nothing()
	if info := consumerOf(t, r, "w:work"); info.NumPending != 1 || info.NumAckPending != 0 {
		t.Errorf("%d wait, %d in hand", info.NumPending, info.NumAckPending)
	}
	if err := r.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	box.nothing()
	// What it held is there for its next process at once, which is not paused.
	start := time.Now()
	next := w.node("n1", handling(box.handle, "work", "other"))
	if err := errors.Join(next.Prepare(t.Context()), next.Start(t.Context(), 8)); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		box.next()
	}
	if d := time.Since(start); d > ackWait/2 {
		t.Error("after", d)
	}
	w.idle()
}

// Whatever is paused and resumed while work comes, all of it is done.
func TestPausesUnderLoadLoseNothing(t *testing.T) {
	w := newTown(t)
	var c counter
	for _, id := range []string{"n1", "n2"} {
		w.node(id, handling(c.handle, "work"))
	}
	w.open()
	const each = 300
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		load(t, w.nodes[0], each, Any(), To("n1"), To("n2"))
	}()
	for i := range 12 {
		r := w.nodes[i%2]
		natstest.Eventually(t, "some progress", func() bool { n, _ := c.distinct(); return n >= i*each/15 })
		if err := r.Pause("work"); err != nil {
			t.Error(err)
		}
		if i%3 == 0 {
			continue // it stays so for a while
		}
		if err := r.Resume("work"); err != nil {
			t.Error(err)
		}
	}
	<-sent
	for _, r := range w.nodes {
		if err := r.Resume("work"); err != nil {
			t.Error(err)
		}
	}
	natstest.Eventually(t, "everything is handled", func() bool { n, _ := c.distinct(); return n == 3*each })
	w.idle()
	if bodies, calls := c.distinct(); calls != bodies {
		t.Errorf("%d messages ran %d times: what a pause hands back has not begun", bodies, calls)
	}
	if all := letters(t, w.nodes[0], ""); len(all) > 0 {
		t.Error("dead letters", fmt.Sprint(all))
	}
}
