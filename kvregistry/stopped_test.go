//go:build unix

package kvregistry

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/natstest"
)

// A process that is stopped is Lost as hung in under six seconds, and comes
// back by itself, as a new incarnation, when it goes on.
func TestSIGSTOPIsSeenByAllAndComesBack(t *testing.T) {
	server := natstest.Start(t)
	for _, others := range []int{3, 1} {
		t.Run(fmt.Sprintf("%d others", others), func(t *testing.T) {
			cluster := fmt.Sprintf("c%d", others)
			var seers []*Registry
			var all []string
			for i := range others {
				id := fmt.Sprintf("n%d", i)
				all = append(all, id)
				seers = append(seers, join(t, natstest.Dial(t, server.URL()), Config{Cluster: cluster, Node: id}))
			}
			victim := startNode(t, server.URL(), cluster, "victim")
			for _, r := range seers {
				waitFor(t, r, append(all, "victim")...)
			}
			before, _ := seers[0].View().Member("victim")
			begin := time.Now()
			victim.signal(t, syscall.SIGSTOP)
			for _, r := range seers {
				waitFor(t, r, all...)
			}
			took := time.Since(begin)
			m, _ := seers[0].View().Member("victim")
			t.Logf("seen by all after %v, reason %s by %s", took, m.Reason, m.By)
			if took < hungAfter || took > 7*time.Second || m.Reason != ReasonHung {
				t.Errorf("seen after %v, reason %s", took, m.Reason)
			}
			begin = time.Now()
			victim.signal(t, syscall.SIGCONT)
			for _, r := range seers {
				waitFor(t, r, append(all, "victim")...)
			}
			t.Logf("back after %v", time.Since(begin))
			if m, _ := seers[0].View().Member("victim"); m.Incarnation <= before.Incarnation {
				t.Errorf("back as %d, was %d", m.Incarnation, before.Incarnation)
			}
		})
	}
}

// A garbage collection, a debugger, a busy disk: two seconds of silence are no death.
func TestShortSIGSTOPIsNoDeath(t *testing.T) {
	server := natstest.Start(t)
	a := join(t, natstest.Dial(t, server.URL()), Config{Node: "a"})
	b := join(t, natstest.Dial(t, server.URL()), Config{Node: "b"})
	victim := startNode(t, server.URL(), "test", "victim")
	waitFor(t, a, "a", "b", "victim")
	waitFor(t, b, "a", "b", "victim")
	before, _ := a.View().Member("victim")
	victim.signal(t, syscall.SIGSTOP)
	<-time.After(2 * time.Second)
	victim.signal(t, syscall.SIGCONT)
	<-time.After(2 * time.Second)
	if m, _ := a.View().Member("victim"); m.Incarnation != before.Incarnation || m.State != Online {
		t.Errorf("became %+v", m)
	}
}

// The NATS server of some members is stopped for seven seconds and goes on:
// everybody on it is silent, nobody is Lost. Then one is killed for good.
func TestStoppedAndKilledServersBuryNobody(t *testing.T) {
	if testing.Short() {
		t.Skip("short: needs three servers and half a minute")
	}
	servers := natstest.StartCluster(t, 3)
	var members []*Registry
	var all []string
	for i := range 9 {
		id := fmt.Sprintf("n%d", i)
		all = append(all, id)
		// All know all servers; each begins at one of them.
		url := servers.Servers[i%3].URL()
		members = append(members, join(t, natstest.Dial(t, url), Config{Node: id}))
	}
	for _, r := range members {
		waitFor(t, r, all...)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events := watch(ctx, members[0])
	for range len(all) + 1 {
		<-events
	}
	servers.Servers[1].Pause()
	<-time.After(7 * time.Second)
	servers.Servers[1].Resume()
	for _, r := range members {
		waitFresh(t, r)
	}
	servers.Servers[2].Kill()
	<-time.After(5 * time.Second)
	servers.Servers[2].Restart(t)
	for _, r := range members {
		waitFresh(t, r)
		waitFor(t, r, all...)
	}
	if err := members[0].SetMetadata(t.Context(), map[string]string{"done": "yes"}); err != nil {
		t.Fatal(err)
	}
	nextIs(t, events, Updated, "n0")
}

func (p *process) signal(t testing.TB, sig os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// Who was taken from a server that stopped speaks for it no more, before it
// has noticed as well: the members that are still on that server would be
// buried on its word.
func TestNobodySpeaksForTheServerItLeft(t *testing.T) {
	servers := natstest.StartCluster(t, 2).Servers
	nc := natstest.Dial(t, servers[0].URL()+","+servers[1].URL(), nats.DontRandomize())
	s, err := newSession(nc, Config{Cluster: "test", Node: "a", Log: slog.New(slog.DiscardHandler)}, newHub(), false, false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.subs.close()
	if err := s.own.answers.speak(t.Context()); err != nil {
		t.Fatal(err)
	}
	stopped := nc.ConnectedServerId()
	other := natstest.Dial(t, servers[1].URL())
	spokenFor := func(server string) bool {
		ctx, cancel := context.WithTimeout(t.Context(), blameLimit)
		defer cancel()
		_, err := other.RequestWithContext(ctx, s.cluster.On(server), nil)
		return err == nil
	}
	natstest.Eventually(t, "it is spoken for", func() bool { return spokenFor(stopped) })

	servers[0].Pause()
	defer servers[0].Resume()
	if err := nc.ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, "reconnected", func() bool { return nc.ConnectedServerId() == other.ConnectedServerId() })
	if err := nc.FlushTimeout(5 * time.Second); err != nil {
		t.Fatal(err)
	}
	if spokenFor(stopped) {
		t.Error("a server that stands still is spoken for")
	}
	if err := s.own.answers.speak(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !spokenFor(other.ConnectedServerId()) {
		t.Error("the new server is not spoken for")
	}
}

// A node that is cut off together with the server that leads the registry can
// read it, and write nothing: its view is stale before that server notices.
func TestViewOfAMinorityIsStale(t *testing.T) {
	if testing.Short() {
		t.Skip("short: needs three servers")
	}
	servers := natstest.StartCluster(t, 3).Servers
	first := join(t, natstest.Dial(t, servers[0].URL()), Config{Node: "a"})
	leader := leaderOf(t, first)
	i := slices.IndexFunc(servers, func(s *natstest.Server) bool { return s.Name() == leader })
	b := join(t, natstest.Dial(t, servers[i].URL(), nats.IgnoreDiscoveredServers()), Config{Node: "b"})
	waitFor(t, b, "a", "b")
	for j, s := range servers {
		if j != i {
			s.Pause()
			defer s.Resume()
		}
	}
	begin := time.Now()
	natstest.Eventually(t, "its view is stale", func() bool { return b.View().Stale })
	t.Logf("stale after %v", time.Since(begin).Round(time.Millisecond))
	if _, err := b.session.store.identify(t.Context()); err != nil {
		t.Errorf("the server knew before: %v", err)
	}
	for j, s := range servers {
		if j != i {
			s.Resume()
		}
	}
	waitFresh(t, b)
	waitFor(t, b, "a", "b")
}
