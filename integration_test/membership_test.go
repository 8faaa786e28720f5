package integration_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/cluster"
	"github.com/catga/catga-go/internal/natstest"
)

func TestNodesSeeEachOther(t *testing.T) {
	onAllGrounds(t, func(t *testing.T, w *world) {
		a, b, c := w.join(t, "a", nil), w.join(t, "b", nil), w.join(t, "c", nil)
		for _, n := range []*cluster.Node{a, b, c} {
			sees(t, n, "a, b and c", online("a", "b", "c"))
		}
		// All three have heard everything: their views are the same one.
		want := c.View()
		for _, n := range []*cluster.Node{a, b} {
			sees(t, n, "the same revision", func(v cluster.View) bool { return v.Revision >= want.Revision })
			got := n.View()
			if got.Revision == want.Revision && !slices.EqualFunc(got.Members, want.Members, sameMember) {
				t.Errorf("revision %d is %+v for %s and %+v for c", got.Revision, got.Members, n.ID(), want.Members)
			}
		}
	})
}

func sameMember(a, b cluster.Member) bool {
	return a.ID == b.ID && a.Incarnation == b.Incarnation && a.Revision == b.Revision &&
		a.State == b.State && maps.Equal(a.Metadata, b.Metadata) && slices.Equal(a.Kinds, b.Kinds)
}

func TestLateJoinerSeesEarlierNodes(t *testing.T) {
	onAllGrounds(t, func(t *testing.T, w *world) {
		w.join(t, "early", func(n *cluster.Node) { handlers["test.echo"](n, func(said) {}) })
		w.spawn(t, "process", "test.note")
		late := w.join(t, "late", nil)
		// Join has returned: no waiting, it sees them already.
		v := late.View()
		if !online("early", "process", "late")(v) {
			t.Fatalf("%+v", v)
		}
		if m, _ := v.Member("process"); !m.Handles("test.note") || m.Handles("test.echo") {
			t.Errorf("%+v", m)
		}
		var events []string
		for ev := range late.Watch(bounded(t)) {
			if ev.Kind == cluster.Synced {
				break
			}
			events = append(events, ev.Kind.String()+" "+ev.Member.ID)
		}
		slices.Sort(events)
		if want := []string{"Joined early", "Joined late", "Joined process"}; !slices.Equal(events, want) {
			t.Errorf("%q, want %q", events, want)
		}
	})
}

func TestMetadataIsSeenAndUpdated(t *testing.T) {
	onAllGrounds(t, func(t *testing.T, w *world) {
		watcher := w.join(t, "watcher", nil)
		n, err := cluster.New(w.dial(t), cluster.Config{
			Cluster: w.cluster, Node: "n", Endpoint: "http://10.0.0.1:80", Metadata: map[string]string{"zone": "a"},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = n.Close() })
		if err := n.Join(bounded(t)); err != nil {
			t.Fatal(err)
		}
		sees(t, watcher, "zone a", func(v cluster.View) bool {
			m, ok := v.Member("n")
			return ok && m.Metadata["zone"] == "a" && m.Endpoint == "http://10.0.0.1:80"
		})
		before, _ := watcher.View().Member("n")
		if err := n.SetMetadata(bounded(t), map[string]string{"rack": "7"}); err != nil {
			t.Fatal(err)
		}
		sees(t, watcher, "rack 7 and no zone", func(v cluster.View) bool {
			m, _ := v.Member("n")
			_, zone := m.Metadata["zone"]
			return m.Metadata["rack"] == "7" && !zone
		})
		if after, _ := watcher.View().Member("n"); after.Incarnation != before.Incarnation {
			t.Errorf("an update changed the incarnation from %d to %d", before.Incarnation, after.Incarnation)
		}
	})
}

func TestLeaveIsSeenAsLeft(t *testing.T) {
	onAllGrounds(t, func(t *testing.T, w *world) {
		watcher := w.join(t, "watcher", nil)
		p := w.spawn(t, "leaver")
		sees(t, watcher, "leaver", online("leaver"))
		events := watch(t, watcher)
		p.leave(t)
		ev := ending(t, events, "leaver")
		if ev.Kind != cluster.Left || ev.Member.Reason != cluster.ReasonLeft {
			t.Fatalf("%v %+v", ev.Kind, ev.Member)
		}
		if err := watcher.Send(bounded(t), cluster.To("leaver"), note{"?"}); !errors.Is(err, cluster.ErrNotDelivered) || !errors.Is(err, cluster.ErrNoMember) {
			t.Fatal(err)
		}
	})
}

func TestKilledNodeIsSeenAsLost(t *testing.T) {
	onAllGrounds(t, func(t *testing.T, w *world) {
		a, b := w.join(t, "a", nil), w.join(t, "b", nil)
		p := w.spawn(t, "victim")
		sees(t, a, "victim", online("victim"))
		sees(t, b, "victim", online("victim"))
		eventsA, eventsB := watch(t, a), watch(t, b)
		start := time.Now()
		p.kill()
		for _, events := range []<-chan cluster.Event{eventsA, eventsB} {
			ev := ending(t, events, "victim")
			if ev.Kind != cluster.Lost || ev.Member.Reason != cluster.ReasonCrashed {
				t.Fatalf("%v %+v", ev.Kind, ev.Member)
			}
		}
		// The promise is under a second; a shared machine gets some room.
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("seen after %v", took)
		} else {
			t.Logf("seen by all after %v", took)
		}
	})
}

// watch collects a node's events after Synced.
func watch(t *testing.T, n *cluster.Node) <-chan cluster.Event {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	events, synced, ended := make(chan cluster.Event, 10_000), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ready := false
		for ev := range n.Watch(ctx) {
			switch {
			case ready:
				events <- ev
			case ev.Kind == cluster.Synced:
				ready = true
				close(synced)
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-ended })
	receive(t, synced, "Synced")
	return events
}

// ending returns the event that ends an incarnation of node id.
func ending(t *testing.T, events <-chan cluster.Event, id string) cluster.Event {
	t.Helper()
	for {
		ev := receive(t, events, "the end of "+id)
		if ev.Member.ID == id && (ev.Kind == cluster.Left || ev.Kind == cluster.Lost) {
			return ev
		}
	}
}

func TestDuplicateNodeIDIsRefusedAndTakenOverAfterACrash(t *testing.T) {
	onAllGrounds(t, func(t *testing.T, w *world) {
		watcher := w.join(t, "watcher", nil)
		p := w.spawn(t, "same")
		sees(t, watcher, "same", online("same"))
		first, _ := watcher.View().Member("same")

		second := w.node(t, "same", nil)
		if err := second.Join(bounded(t)); !errors.Is(err, cluster.ErrNodeTaken) {
			t.Fatalf("a second live process: %v", err)
		}
		if m, _ := watcher.View().Member("same"); m.Incarnation != first.Incarnation || m.State != cluster.Online {
			t.Fatalf("the holder was touched: %+v", m)
		}
		events := watch(t, watcher)
		p.kill()
		start := time.Now()
		third := w.join(t, "same", nil) // at once: nobody waits for a timeout
		t.Logf("taken over after %v", time.Since(start))
		ev := ending(t, events, "same")
		if ev.Kind != cluster.Lost || ev.Member.Incarnation != first.Incarnation {
			t.Fatalf("%v %+v", ev.Kind, ev.Member)
		}
		for ev := receive(t, events, "Joined"); ; ev = receive(t, events, "Joined") {
			if ev.Kind == cluster.Joined && ev.Member.ID == "same" {
				if got := third.Self().Incarnation; ev.Member.Incarnation != got || got <= first.Incarnation {
					t.Fatalf("joined as %d, says %d, was %d", ev.Member.Incarnation, got, first.Incarnation)
				}
				break
			}
		}
	})
}

func TestServerRestartBuriesNobody(t *testing.T) {
	onOwnGrounds(t, func(t *testing.T, w *world) {
		register := func(n *cluster.Node) { handlers["test.echo"](n, func(said) {}) }
		a, b := w.join(t, "a", register), w.join(t, "b", register)
		p := w.spawn(t, "process", "test.echo", "test.note")
		for _, n := range []*cluster.Node{a, b} {
			sees(t, n, "all", online("a", "b", "process"))
		}
		incarnations := func(v cluster.View) map[string]uint64 {
			got := map[string]uint64{}
			for _, m := range v.Members {
				got[m.ID] = m.Incarnation
			}
			return got
		}
		before := incarnations(a.View())
		events := watch(t, a)
		w.restart(t)
		// Everything works again: the registry can be written, calls and
		// durable messages arrive.
		for _, n := range []*cluster.Node{a, b} {
			sees(t, n, "a fresh view of all", func(v cluster.View) bool { return !v.Stale && online("a", "b", "process")(v) })
		}
		natstest.Eventually(t, "metadata can be written", func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			return b.SetMetadata(ctx, map[string]string{"after": "restart"}) == nil
		})
		sees(t, a, "the metadata of b", func(v cluster.View) bool {
			m, _ := v.Member("b")
			return m.Metadata["after"] == "restart"
		})
		for _, to := range []string{"b", "process"} {
			got, err := cluster.Call(bounded(t), a, cluster.To(to), echo{"again"}, cluster.Idempotent())
			if err != nil || got.Node != to {
				t.Fatalf("call to %s: %+v, %v", to, got, err)
			}
		}
		if err := a.Send(bounded(t), cluster.To("process"), note{"durable"}); err != nil {
			t.Fatal(err)
		}
		for line := p.next(t); line.Text != "durable"; line = p.next(t) {
			if line.Event == "ended" {
				t.Fatal("the process has ended")
			}
		}
		for len(events) > 0 {
			if ev := <-events; ev.Kind == cluster.Lost || ev.Kind == cluster.Left || ev.Kind == cluster.Evicted {
				t.Errorf("%v %+v", ev.Kind, ev.Member)
			}
		}
		if after := incarnations(a.View()); w.keeps && !maps.Equal(before, after) {
			t.Errorf("incarnations were %v and are %v", before, after)
		}
	})
}

func TestDroppedConnectionLosesNobody(t *testing.T) {
	onAllGrounds(t, func(t *testing.T, w *world) {
		watcher := w.join(t, "watcher", nil)
		proxy := natstest.NewProxy(t, firstURL(w.url))
		reconnected := make(chan struct{}, 100)
		nc, err := cluster.Dial(bounded(t), proxy.URL(), nats.DontRandomize(),
			nats.ReconnectHandler(func(*nats.Conn) { reconnected <- struct{}{} }))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		n := w.nodeOver(t, nc, "dropped", func(n *cluster.Node) { handlers["test.echo"](n, func(said) {}) })
		if err := n.Join(bounded(t)); err != nil {
			t.Fatal(err)
		}
		sees(t, watcher, "dropped", online("dropped"))
		incarnation := n.Self().Incarnation
		events := watch(t, watcher)
		for range 5 {
			proxy.Drop()
			receive(t, reconnected, "reconnect")
			if got, err := cluster.Call(bounded(t), watcher, cluster.To("dropped"), echo{"?"}, cluster.Idempotent()); err != nil || got.Node != "dropped" {
				t.Fatal(got, err)
			}
		}
		// Its tripwire has fired; a verdict would come within the grace and a
		// little. A fence that is later than that: the crash of another node.
		other := w.spawn(t, "fence")
		sees(t, watcher, "fence", online("fence"))
		other.kill()
		for ev := receive(t, events, "Lost of the fence"); ev.Kind != cluster.Lost; ev = receive(t, events, "Lost of the fence") {
			if ev.Kind == cluster.Left || ev.Kind == cluster.Evicted {
				t.Fatalf("%v %+v", ev.Kind, ev.Member)
			}
		}
		if m, ok := watcher.View().Member("dropped"); !ok || m.State != cluster.Online || m.Incarnation != incarnation {
			t.Fatalf("%+v, was incarnation %d", m, incarnation)
		}
		if m, _ := watcher.View().Member("fence"); m.State != cluster.Offline {
			t.Fatalf("somebody else was lost: %+v", watcher.View())
		}
	})
}

func firstURL(urls string) string {
	for i, c := range urls {
		if c == ',' {
			return urls[:i]
		}
	}
	return urls
}
