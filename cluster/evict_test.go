package cluster_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/catga/catga-go/cluster"
	"github.com/catga/catga-go/internal/natstest"
)

// bury writes what a watcher writes that takes node for dead.
func bury(t *testing.T, m *natstest.Mem, node string, incarnation uint64) {
	t.Helper()
	js, err := jetstream.New(m.Dial(t))
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "KV_catga_test")
	if err != nil {
		t.Fatal(err)
	}
	subject := "$KV.catga_test.node." + node
	last, err := stream.GetLastMsgForSubject(t.Context(), subject)
	if err != nil {
		t.Fatal(err)
	}
	record := map[string]any{}
	if err := json.Unmarshal(last.Data, &record); err != nil {
		t.Fatal(err)
	}
	record["inc"], record["state"], record["reason"], record["by"] = incarnation, "offline", "hung", "other"
	data, err := json.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), subject, data, jetstream.WithExpectLastSequencePerSubject(last.Sequence)); err != nil {
		t.Fatal(err)
	}
}

func TestEvictedNodeEndsItsHandlersAndComesBack(t *testing.T) {
	m := natstest.Memory(t)
	n := newNode(t, m, cluster.Config{Node: "n"})
	begun, causes := make(chan struct{}, 10), make(chan error, 10)
	cluster.Handle(n, func(ctx context.Context, m *cluster.Msg[greeting]) error {
		if m.Attempt > 1 {
			return nil // the next incarnation does it
		}
		begun <- struct{}{}
		<-ctx.Done()
		causes <- context.Cause(ctx)
		return context.Cause(ctx)
	})
	pricer(n)
	join(t, n)
	first := n.Self().Incarnation
	if err := n.Send(t.Context(), cluster.To("n"), greeting{}); err != nil {
		t.Fatal(err)
	}
	<-begun
	bury(t, m, "n", first)
	if err := <-causes; !errors.Is(err, cluster.ErrEvicted) {
		t.Error("cause:", err)
	}
	if err := n.Wait(t.Context(), func(v cluster.View) bool {
		m, ok := v.Member("n")
		return ok && m.State == cluster.Online && m.Incarnation > first
	}); err != nil {
		t.Fatal(err)
	}
	// As a new incarnation it works on.
	natstest.Eventually(t, "calls are answered", func() bool {
		p, err := cluster.Call(t.Context(), n, cluster.To("n"), getPrice{"pen"})
		return err == nil && p.Cents == 300
	})
	// The view has the new record before the one who wrote it has its answer.
	natstest.Eventually(t, "its record is its own", func() bool { return n.Check(t.Context()) == nil })
	js, err := jetstream.New(m.Dial(t))
	if err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, "the message of the earlier life is handled", func() bool {
		s, err := js.Stream(t.Context(), "CATGA_test_MAIL")
		return err == nil && s.CachedInfo().State.Msgs == 0
	})
}

// Whoever called the node learns that the outcome is unknown, the message that
// it had runs again, and the next incarnation answers.
func TestEvictionSeenByACaller(t *testing.T) {
	m := natstest.Memory(t)
	sender := join(t, newNode(t, m, cluster.Config{Node: "sender"}))
	begun, ended, done := make(chan string, 10), make(chan error, 10), make(chan *cluster.Msg[greeting], 10)
	n := newNode(t, m, cluster.Config{Node: "n"})
	cluster.Handle(n, func(ctx context.Context, msg *cluster.Msg[greeting]) error {
		if msg.Attempt > 1 || msg.Body.Text == "after" {
			done <- msg
			return nil
		}
		begun <- "message"
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return nil // no ack: it is not this incarnation's any more
	})
	wait := true
	cluster.HandleCall(n, func(ctx context.Context, q *cluster.Msg[getPrice]) (price, error) {
		if !wait {
			return price{Cents: 7}, nil
		}
		begun <- "call"
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return price{}, ctx.Err()
	})
	join(t, n)
	first := n.Self()
	if err := sender.Wait(t.Context(), func(v cluster.View) bool { _, ok := v.Member("n"); return ok }); err != nil {
		t.Fatal(err)
	}
	if err := sender.Send(t.Context(), cluster.Any(), greeting{Text: "before"}); err != nil {
		t.Fatal(err)
	}
	asked := make(chan error, 1)
	go func() {
		_, err := cluster.Call(t.Context(), sender, cluster.To("n"), getPrice{})
		asked <- err
	}()
	<-begun
	<-begun

	bury(t, m, "n", first.Incarnation)
	for range 2 {
		if err := <-ended; !errors.Is(err, cluster.ErrEvicted) {
			t.Error("cause:", err)
		}
	}
	if err := <-asked; !errors.Is(err, cluster.ErrUnknown) {
		t.Error("the call in flight:", err)
	}
	wait = false
	if err := sender.Wait(t.Context(), func(v cluster.View) bool {
		now, ok := v.Member("n")
		return ok && now.State == cluster.Online && now.Incarnation > first.Incarnation
	}); err != nil {
		t.Fatal(err)
	}
	if msg := <-done; msg.Body.Text != "before" || msg.Attempt != 2 {
		t.Errorf("%+v", msg)
	}
	if err := sender.Send(t.Context(), cluster.To("n"), greeting{Text: "after"}); err != nil {
		t.Fatal(err)
	}
	if msg := <-done; msg.Body.Text != "after" {
		t.Errorf("%+v", msg)
	}
	natstest.Eventually(t, "it answers again", func() bool {
		got, err := cluster.Call(t.Context(), sender, cluster.To("n"), getPrice{})
		return err == nil && got.Cents == 7
	})
}
