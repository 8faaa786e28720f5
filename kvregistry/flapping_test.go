package kvregistry

import (
	"context"
	"slices"
	"sync"
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
	var links absences
	nc := natstest.Dial(t, proxy.URL(),
		nats.DisconnectErrHandler(func(*nats.Conn, error) { links.lost(time.Now()) }),
		nats.ReconnectHandler(func(*nats.Conn) { links.back(time.Now()); reconnected <- struct{}{} }))
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
	grace := n.session.own.rec.grace()
	worst := links.worst(time.Now())
	t.Logf("%d times away, for %v at most", links.count(), worst.Round(time.Millisecond))
	for ev := range events {
		switch {
		case ev.Kind != Lost && ev.Kind != Left:
		case ev.Kind == Lost && worst > grace-flapSlack:
			// A machine that had no time for it: a crash looks no different.
			t.Logf("%v, %s, which may be", ev, ev.Member.Reason)
		default:
			t.Errorf("%v, %s", ev, ev.Member.Reason)
		}
	}
	if got := n.Self().Incarnation; got != incarnation && worst <= grace-flapSlack {
		t.Errorf("incarnation %d became %d", incarnation, got)
	}
}

// flapSlack is how much longer a node may be away for others than it knows: it
// has its connection back before its subscriptions are in force.
const flapSlack = 100 * time.Millisecond

// absences are the times without a connection.
type absences struct {
	mu    sync.Mutex
	since time.Time // zero while there is one
	spans []time.Duration
}

func (a *absences) lost(at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.since.IsZero() {
		a.since = at
	}
}

func (a *absences) back(at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.spans = append(a.spans, at.Sub(a.since))
	a.since = time.Time{}
}

func (a *absences) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.spans)
}

// worst is the longest one, also if it is not over.
func (a *absences) worst(now time.Time) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	var d time.Duration
	if !a.since.IsZero() {
		d = now.Sub(a.since)
	}
	return max(d, slices.Max(append(a.spans, 0)))
}
