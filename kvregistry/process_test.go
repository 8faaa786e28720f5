package kvregistry

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/catga/catga-go/internal/natstest"
	"github.com/nats-io/nats.go"
)

func TestSIGKILLIsSeenByAll(t *testing.T) {
	for _, ground := range []struct {
		name string
		url  func() string
	}{
		{"one server", func() string { return natstest.Start(t).URL() }},
		{"three servers", func() string { return natstest.StartCluster(t, 3).URL() }},
	} {
		t.Run(ground.name, func(t *testing.T) {
			if testing.Short() && ground.name != "one server" {
				t.Skip("short: one server only")
			}
			url := ground.url()
			var seers []*Registry
			for i := range 4 {
				seers = append(seers, join(t, natstest.Dial(t, url), Config{Node: fmt.Sprintf("n%d", i)}))
			}
			for round := range 5 {
				victim := startNode(t, url, "test", "victim")
				for _, r := range seers {
					waitFor(t, r, "n0", "n1", "n2", "n3", "victim")
				}
				begin := time.Now()
				victim.kill()
				for _, r := range seers {
					waitFor(t, r, "n0", "n1", "n2", "n3")
				}
				took := time.Since(begin)
				m, _ := seers[0].View().Member("victim")
				t.Logf("round %d: seen by all after %v, reason %s by %s", round, took, m.Reason, m.By)
				if took > time.Second {
					t.Errorf("seen by all after %v, want under a second", took)
				}
				if m.Reason != ReasonCrashed {
					t.Errorf("reason %q", m.Reason)
				}
			}
		})
	}
}

func TestRestartOfTheOnlyServerBuriesNobody(t *testing.T) {
	server := natstest.Start(t)
	var members []*Registry
	for i := range 6 {
		opts := []nats.Option{}
		if i == 5 {
			// One with the stock settings of nats.go.
			opts = append(opts, nats.ReconnectWait(2*time.Second))
		}
		members = append(members, join(t, natstest.Dial(t, server.URL(), opts...), Config{Node: fmt.Sprintf("n%d", i)}))
	}
	all := []string{"n0", "n1", "n2", "n3", "n4", "n5"}
	for _, r := range members {
		waitFor(t, r, all...)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events := watch(ctx, members[0])
	for range all {
		<-events
	}
	<-events
	dead := startNode(t, server.URL(), "test", "dies-meanwhile")
	nextIs(t, events, Joined, "dies-meanwhile")
	before := members[0].View().Revision
	server.Kill()
	dead.kill()
	natstest.Eventually(t, "the view is stale", func() bool { return members[0].View().Stale })
	if got := ids(members[0].Members()); !slices.Equal(got, append([]string{"dies-meanwhile"}, all...)) {
		t.Errorf("without a store the view is %v", got)
	}
	down := 5 * time.Second
	if testing.Short() {
		down = time.Second
	}
	<-time.After(down)
	server.Restart(t)
	begin := time.Now()
	for _, r := range members {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		if err := r.Wait(ctx, func(v View) bool { return !v.Stale }); err != nil {
			t.Fatalf("%s: %v", r.ID(), err)
		}
		cancel()
	}
	t.Logf("all fresh after %v", time.Since(begin))
	// The dead one is found out when the grace of the server is over.
	if m := nextIs(t, events, Lost, "dies-meanwhile"); m.Reason != ReasonCrashed {
		t.Errorf("lost %+v", m)
	}
	t.Logf("the dead one was lost after %v", time.Since(begin))
	for _, r := range members {
		waitFor(t, r, all...)
		if r.Self().Incarnation > before {
			t.Errorf("%s has a new incarnation", r.ID())
		}
	}
}

func TestServerBackWithAnEmptyStore(t *testing.T) {
	server := natstest.Start(t)
	a := join(t, natstest.Dial(t, server.URL()), Config{Node: "a"})
	b := join(t, natstest.Dial(t, server.URL()), Config{Node: "b"})
	waitFor(t, a, "a", "b")
	waitFor(t, b, "a", "b")
	ia, ib := a.Self().Incarnation, b.Self().Incarnation
	revision := a.View().Revision
	server.Kill()
	server.RestartEmpty(t)
	for _, r := range []*Registry{a, b} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		err := r.Wait(ctx, func(v View) bool {
			ma, _ := v.Member("a")
			mb, _ := v.Member("b")
			return !v.Stale && ma.Revision > revision && mb.Revision > revision
		})
		cancel()
		if err != nil {
			t.Fatalf("%s has %+v: %v", r.ID(), r.View(), err)
		}
	}
	if a.Self().Incarnation != ia || b.Self().Incarnation != ib {
		t.Fatalf("incarnations %d %d, were %d %d", a.Self().Incarnation, b.Self().Incarnation, ia, ib)
	}
	// A newcomer finds everybody, and revisions have gone on growing.
	c := join(t, natstest.Dial(t, server.URL()), Config{Node: "c"})
	waitFor(t, c, "a", "b", "c")
	if c.Self().Incarnation <= revision {
		t.Fatalf("incarnation %d after revision %d", c.Self().Incarnation, revision)
	}
}
