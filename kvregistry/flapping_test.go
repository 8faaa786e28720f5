package kvregistry

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/natstest"
)

// A connection that is dropped again and again: the node is connected in
// between, and arms a new tripwire each time. The advisory of an earlier
// tripwire comes while the connection happens to be down once more; it says
// nothing of the present tripwire, and two probes that find nobody while the
// node reconnects are no death. So the newest tripwire must be known to those
// who judge (the node tells it when it arms one, not only in the next pong), and
// an advisory of an earlier one must not count as a grace that is over.
func TestFlappingConnectionLosesNobody(t *testing.T) {
	server := natstest.Start(t)
	watcher := join(t, natstest.Dial(t, server.URL()), Config{Cluster: "c", Node: "watcher"})
	second := join(t, natstest.Dial(t, server.URL()), Config{Cluster: "c", Node: "second"})
	proxy := natstest.NewProxy(t, server.URL())
	reconnected := make(chan struct{}, 1000)
	nc := natstest.Dial(t, proxy.URL(), nats.ReconnectHandler(func(*nats.Conn) { reconnected <- struct{}{} }))
	n := join(t, nc, Config{Cluster: "c", Node: "flapping"})
	waitFor(t, watcher, "flapping", "second", "watcher")
	waitFor(t, second, "flapping", "second", "watcher")
	incarnation := n.Self().Incarnation

	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
	defer cancel()
	events := watch(ctx, watcher)
	for ctx.Err() == nil {
		proxy.Drop()
		select {
		case <-reconnected:
		case <-ctx.Done():
		}
		if err := nc.FlushWithContext(ctx); err != nil && ctx.Err() == nil {
			continue
		}
	}
	for ev := range events {
		if ev.Kind == Lost || ev.Kind == Left {
			t.Errorf("%v, %s", ev, ev.Member.Reason)
		}
	}
	if got := n.Self().Incarnation; got != incarnation {
		t.Errorf("incarnation %d became %d", incarnation, got)
	}
}
