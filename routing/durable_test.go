package routing

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/catga/catga-go/internal/natstest"
	"github.com/catga/catga-go/internal/wire"
)

func TestStreamsAndConsumersHaveTheirFinalShape(t *testing.T) {
	w := newTown(t)
	r := w.node("n1", handling(newInbox(t).handle, "order.place", "greet"))
	w.node("talker", nil)
	w.open()
	if err := r.Prepare(t.Context()); err != nil {
		t.Fatal("a second Prepare:", err)
	}
	names := map[string]bool{}
	for _, stream := range []string{"CATGA_c_WORK", "CATGA_c_MAIL", "CATGA_c_FANOUT", "CATGA_c_DEAD"} {
		s, err := r.js.Stream(t.Context(), stream)
		if err != nil {
			t.Fatal(err)
		}
		for c := range s.ListConsumers(t.Context()).Info() {
			names[stream+" "+c.Name] = true
			if c.Config.AckWait != ackWait || c.Config.MaxDeliver != -1 || c.Config.MaxAckPending != 10_000 || len(c.Config.BackOff) != 0 || c.Config.AckPolicy != jetstream.AckExplicitPolicy {
				t.Errorf("%s %s: %+v", stream, c.Name, c.Config)
			}
		}
		if stream == "CATGA_c_WORK" || stream == "CATGA_c_MAIL" {
			c := s.CachedInfo().Config
			if c.Retention != jetstream.WorkQueuePolicy || c.Discard != jetstream.DiscardOld || c.MaxMsgs > 0 || c.MaxBytes > 0 || c.MaxAge != 0 || !c.AllowMsgSchedules || c.MaxConsumers != 100_000 {
				t.Errorf("%+v", c)
			}
		}
	}
	want := map[string]bool{
		"CATGA_c_MAIL n:n1": true, "CATGA_c_WORK w:greet": true, "CATGA_c_WORK w:order:place": true, "CATGA_c_FANOUT n:n1": true,
	}
	if fmt.Sprint(names) != fmt.Sprint(want) {
		t.Errorf("consumers %v, want %v", names, want)
	}
}

// What is sent to all is heard by those whose consumer exists by then: also by
// one that is about to join, and by one that is away for a while.
func TestFanoutReachesWhoIsPreparedOrAway(t *testing.T) {
	w := newTown(t)
	box := newInbox(t)
	n1 := w.node("n1", handling(newInbox(t).handle, "greet"))
	w.open()
	n2, err := New(w.conn(), Config{Cluster: "c", Node: "n2"})
	if err != nil {
		t.Fatal(err)
	}
	n2.Handle("greet", box.handle, HandleOptions{})
	if err := n1.Send(t.Context(), All(), text("greet", "too early"), SendOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := n2.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := n1.Send(t.Context(), All(), text("greet", "prepared"), SendOptions{}); err != nil {
		t.Fatal(err)
	}
	box.nothing()
	if err := n2.Start(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	if m := box.next(); string(m.Body.Data) != "prepared" {
		t.Errorf("got %q", m.Body.Data)
	}
	if err := n2.Close(); err != nil { // without a goodbye
		t.Fatal(err)
	}
	if err := n1.Send(t.Context(), All(), text("greet", "away"), SendOptions{}); err != nil {
		t.Fatal(err)
	}
	w.node("n2", handling(box.handle, "greet", "more"))
	w.nodes = w.nodes[1:]
	w.open()
	if m := box.next(); string(m.Body.Data) != "away" {
		t.Errorf("got %q", m.Body.Data)
	}
	if err := n1.Send(t.Context(), To("n2"), text("more", "a new kind"), SendOptions{}); !errors.Is(err, ErrNoMember) {
		t.Errorf("n1 has not been told of n2: %v", err)
	}
	n1.Update([]Change{up("n2", 3, "greet", "more")})
	if err := n1.Send(t.Context(), To("n2"), text("more", "a new kind"), SendOptions{}); err != nil {
		t.Error(err)
	}
	if m := box.next(); m.Body.Name != "more" {
		t.Errorf("got %q", m.Body.Name)
	}
}

func TestMailWaitsForItsNode(t *testing.T) {
	w := newTown(t)
	sender := w.node("sender", nil)
	w.open()
	n1 := up("n1", 4, "greet")
	w.tell(n1, lost(n1))
	if err := sender.Send(t.Context(), To("n1"), text("greet", "hello"), SendOptions{}); err != nil {
		t.Fatal(err)
	}
	box := newInbox(t)
	w.nodes = nil
	w.node("n1", handling(box.handle, "greet"))
	w.open()
	if m := box.next(); string(m.Body.Data) != "hello" || m.From != "sender" {
		t.Errorf("got %+v", m)
	}
}

func TestObserverSendsAndHandlesNothing(t *testing.T) {
	w := newTown(t)
	box, never := newInbox(t), newInbox(t)
	w.node("n1", handling(box.handle, "greet"))
	w.open()
	eye := w.node("eye", handling(never.handle, "greet", "seen"))
	if err := eye.Start(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	eye.Update([]Change{up("n1", 1, "greet")})
	for _, to := range []Target{Any(), To("n1"), All(), Nodes("n1")} {
		if err := eye.Send(t.Context(), to, text("greet", "x"), SendOptions{}); err != nil {
			t.Fatal(err)
		}
		if m := box.next(); m.From != "eye" {
			t.Errorf("from %q", m.From)
		}
	}
	for name, to := range map[string]Target{"itself": To("eye"), "its kind": Any()} {
		if err := eye.Send(t.Context(), to, text("seen", "x"), SendOptions{}); !errors.Is(err, ErrNotDelivered) {
			t.Errorf("to %s: %v", name, err)
		}
	}
	eye.Update([]Change{lost(up("n1", 1, "greet"))})
	if err := eye.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	never.nothing()
}

func TestDeletedConsumersAreMadeAgain(t *testing.T) {
	w := newTown(t)
	box := newInbox(t)
	r := w.node("n1", handling(box.handle, "greet"))
	w.open()
	for _, c := range []struct {
		stream, consumer string
		to               Target
	}{
		{"CATGA_c_MAIL", "n:n1", To("n1")},
		{"CATGA_c_WORK", "w:greet", Any()},
		{"CATGA_c_FANOUT", "n:n1", All()},
	} {
		if err := r.js.DeleteConsumer(t.Context(), c.stream, c.consumer); err != nil {
			t.Fatal(err)
		}
		if err := r.Send(t.Context(), c.to, text("greet", c.consumer), SendOptions{}); err != nil {
			t.Fatal(err)
		}
		if m := box.next(); string(m.Body.Data) != c.consumer {
			t.Errorf("got %q", m.Body.Data)
		}
	}
}

func TestDrainKeepsWhatANamedNodeHasNotRead(t *testing.T) {
	w := newTown(t)
	named := w.node("named", handling(newInbox(t).handle, "greet"))
	nameless := w.nodeOn(w.conn(), Config{Cluster: "c", Node: "nameless", Anonymous: true}, handling(newInbox(t).handle, "greet"))
	w.open()
	for _, r := range []*Router{named, nameless} {
		if err := r.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	has := func(stream, node string) bool {
		_, err := named.consumerInfo(t.Context(), stream, wire.NodeConsumer(node))
		if err != nil && !isNotFound(err) {
			t.Fatal(err)
		}
		return err == nil
	}
	if !has("CATGA_c_FANOUT", "named") || has("CATGA_c_FANOUT", "nameless") || has("CATGA_c_MAIL", "nameless") || !has("CATGA_c_MAIL", "named") {
		t.Error("wrong consumers are left")
	}
}

func TestPrepareExplains(t *testing.T) {
	m := natstest.Memory(t)
	r, err := New(m.Dial(t), Config{Cluster: "c", Node: "n1", NoProvision: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Prepare(t.Context()); err == nil {
		t.Error("streams that nobody made are taken")
	}
	_ = r.Close()
	js, err := jetstream.New(m.Dial(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "CATGA_c_WORK", Subjects: []string{"catga.c.work.>"}, Storage: jetstream.MemoryStorage}); err != nil {
		t.Fatal(err)
	}
	if r, err = New(m.Dial(t), Config{Cluster: "c", Node: "n1"}); err != nil {
		t.Fatal(err)
	}
	if err := r.Prepare(t.Context()); err == nil {
		t.Error("a stream of another retention is taken")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Prepare(ctx); err == nil {
		t.Error("prepared without a context")
	}
	_ = r.Close()
}
