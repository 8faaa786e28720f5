package routing

import (
	"context"
	"testing"
	"time"

	"github.com/catga/catga-go/internal/natstest"
)

// An ack that is on its way to the consumer's leader when its node says what it
// holds: the message is not handed back.
func TestAckOnItsWayIsNotHandedBack(t *testing.T) {
	s := natstest.Start(t)
	w := &town{t: t}
	var all, slow counter
	handle := func(ctx context.Context, m *Msg[Raw]) (Raw, error) { return all.handle(ctx, m) }
	w.nodeOn(natstest.Dial(t, s.URL()), Config{Cluster: "c", Node: "n1"}, func(r *Router) { r.Handle("work", handle, HandleOptions{}) })
	w.nodeOn(dialWays(t, s.URL(), slowAcks(150*time.Millisecond)), Config{Cluster: "c", Node: "n2"}, func(r *Router) {
		r.Handle("work", func(ctx context.Context, m *Msg[Raw]) (Raw, error) {
			_, _ = slow.handle(ctx, m)
			return all.handle(ctx, m)
		}, HandleOptions{})
	})
	n1 := w.open()
	const n, rounds = 100, 3
	for i := range rounds {
		load(t, n1, n, Any())
		n1.releaseWork("work")
		w.idle()
		if _, calls := all.distinct(); calls != (i+1)*n {
			t.Fatalf("%d handled of %d", calls, (i+1)*n)
		}
	}
	if _, calls := slow.distinct(); calls == 0 {
		t.Error("nothing was handled by the node with the slow acks")
	}
}

// When a node has drained, nothing of it is pending.
func TestDrainEndsWithTheLastAckProcessed(t *testing.T) {
	s := natstest.Start(t)
	w := &town{t: t}
	var c counter
	n1 := w.nodeOn(natstest.Dial(t, s.URL()), Config{Cluster: "c", Node: "n1"}, nil)
	n2 := w.nodeOn(dialWays(t, s.URL(), slowAcks(300*time.Millisecond)), Config{Cluster: "c", Node: "n2"}, func(r *Router) { r.Handle("work", c.handle, HandleOptions{}) })
	w.open()
	const n = 10
	load(t, n1, n, Any(), To("n2"), All())
	natstest.Eventually(t, "all is handled", func() bool { _, calls := c.distinct(); return calls == 3*n })
	if err := n2.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, p := range n2.pullers() {
		info, err := n1.consumerInfo(t.Context(), p.stream, p.consumer)
		if err != nil || info.NumAckPending != 0 || info.NumPending != 0 {
			t.Errorf("%s of %s: %d pending, %d to come, %v", p.consumer, p.stream, info.NumAckPending, info.NumPending, err)
		}
	}
}
