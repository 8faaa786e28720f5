package routing

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/natstest"
	"github.com/catga/catga-go/internal/wire"
)

// TestAllocations bounds what a message allocates, what nats.go does for it
// included. The bounds are what was measured, and of what uses pools a little more:
// the race detector empties them at random.
func TestAllocations(t *testing.T) {
	s := natstest.Start(t)
	handler := func(context.Context, *Msg[Raw]) (Raw, error) { return Raw{}, nil }
	node := func(id string, kinds ...string) *Router {
		r, err := New(natstest.Dial(t, s.URL()), Config{Cluster: "c", Node: id})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close() })
		for _, kind := range kinds {
			r.Handle(kind, handler, HandleOptions{Reply: true})
		}
		if err := r.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := r.Start(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		return r
	}
	a, b := node("a"), node("b", "k")
	introduce(a, b)
	a.Update([]Change{up("nobody", 1, "alone")})
	body := make([]byte, 128)
	var kind *served // of b
	for _, kind = range b.calls.dispatcher.subs {
	}
	cast := &nats.Msg{Subject: b.cluster.CallNode("b", "k"), Reply: wire.CastReply("a"), Data: body}
	var now time.Time
	work := b.durable.work["k"]
	stored := &nats.Msg{
		Subject: b.cluster.Work("k"), Data: body,
		Header: nats.Header{wire.HeaderMsgID: {a.ids.next()}},
		Reply:  foreignAck("none", "none", 1, 1),
	}
	for _, c := range []struct {
		name string
		most float64
		run  func()
	}{
		{"a message at most once, sent", 0, func() {
			if err := a.Send(t.Context(), Any(), Raw{Name: "alone", Data: body}, SendOptions{AtMostOnce: true}); err != nil {
				t.Fatal(err)
			}
		}},
		{"a message at most once, handled", 1, func() { kind.enter(cast, new(leader)); kind.handle(cast, &now) }},
		{"a stored message, handled and acknowledged", 3, func() {
			ack, err := parseAck(stored.Reply)
			if err != nil {
				t.Fatal(err)
			}
			d := &delivery{p: work, msg: stored, ack: ack, kind: b.kinds["k"], life: b.life.Load()}
			if !work.take(d) {
				t.Fatal("in hand already")
			}
			b.attempt(d)
		}},
		{"a call and its answer, on both ends", 13, func() {
			if _, err := a.Call(t.Context(), Any(), Raw{Name: "k", Data: body}, CallOptions{}); err != nil {
				t.Fatal(err)
			}
		}},
		{"a message, stored", 28, func() {
			if err := a.Send(t.Context(), Any(), Raw{Name: "alone", Data: body}, SendOptions{}); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		n := testing.AllocsPerRun(500, c.run)
		if n > c.most {
			t.Errorf("%s: %v allocations, %v at most", c.name, n, c.most)
		}
	}
}
