package kvregistry

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/natstest"
	"github.com/catga/catga-go/internal/wire"
)

// observer is a registry that is pinged by nobody: it learns of a change that it
// has missed from its own catch-ups alone.
func observer(t testing.TB, nc *nats.Conn) *Registry {
	t.Helper()
	r, err := New(nc, Config{Cluster: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	if err := r.Observe(context.Background()); err != nil {
		t.Fatal(err)
	}
	return r
}

// More changes come at once than a process takes: what was dropped is read from
// the store at once, not half a minute later.
func TestOverflowOfTheFeedIsCaughtUp(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		mem := natstest.Memory(t)
		a := join(t, mem.Dial(t), Config{Node: "a"})
		seer := observer(t, mem.Dial(t))
		waitFor(t, seer, "a")
		seer.session.subs.mu.Lock()
		feed := seer.session.subs.live[0]
		seer.session.subs.mu.Unlock()
		// Its loop stands still, so its queue fills: with messages that mean
		// nothing at first.
		stopped, release := make(chan struct{}), make(chan struct{})
		seer.session.post(func() { close(stopped); <-release })
		<-stopped
		for range cap(seer.session.feed) - 10 {
			seer.session.feed <- nats.NewMsg("nothing")
		}
		last := ""
		for i := range 100 {
			last = strconv.Itoa(i)
			if err := a.SetMetadata(t.Context(), map[string]string{"n": last}); err != nil {
				t.Fatal(err)
			}
		}
		if n, err := feed.Dropped(); err != nil || n == 0 {
			t.Fatalf("%d dropped, %v", n, err)
		}
		begin := time.Now()
		close(release)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := seer.Wait(ctx, func(v View) bool { m, _ := v.Member("a"); return m.Metadata["n"] == last }); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took > time.Second {
			t.Errorf("caught up after %v", took)
		}
	})
}

// Who was away for longer than the marks of what is gone are kept reads
// everything: what was forgotten meanwhile is in no catch-up.
func TestForgottenWhileAwayIsForgotten(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		mem := natstest.Memory(t)
		v := &valve{server: mem.Server}
		join(t, mem.Dial(t), Config{Node: "a"})
		left := join(t, mem.Dial(t), Config{Node: "left", Forget: time.Minute})
		seer := observer(t, natstest.Dial(t, "", nats.InProcessServer(v)))
		if err := left.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		offline := func(n int) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := seer.Wait(ctx, func(v View) bool { return !v.Stale && len(v.Offline) == n }); err != nil {
				t.Fatalf("%v: %+v", err, seer.View())
			}
		}
		offline(1)
		v.set(true)
		<-time.After(time.Minute + markerTTL + 5*time.Minute)
		if v := seer.View(); !v.Stale || len(v.Offline) != 1 {
			t.Fatalf("while it is away it sees %+v", v)
		}
		v.set(false)
		offline(0)
		waitFor(t, seer, "a")
	})
}

// Somebody leaves and is forgotten while a is away: a finds nobody, and no record
// that says why. It does not make up a crash.
func TestEndThatWasForgottenIsNotMadeUp(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		mem := natstest.Memory(t)
		v := &valve{server: mem.Server}
		a := join(t, natstest.Dial(t, "", nats.InProcessServer(v)), Config{Node: "a"})
		b := join(t, mem.Dial(t), Config{Node: "b"})
		left := join(t, mem.Dial(t), Config{Node: "left", Anonymous: true})
		waitFor(t, a, "a", "b", "left")
		events, incarnation := watch(t.Context(), a), left.Self().Incarnation
		v.set(true)
		waitFor(t, b, "b", "left")
		if err := left.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-time.After(anonymousForget + markerTTL + 5*time.Minute)
		v.set(false)
		waitFor(t, a, "a", "b")
		waitFor(t, b, "a", "b")
		for e := range events {
			if e.Member.ID != "left" || e.Kind == Joined {
				continue
			}
			if e.Kind != Lost || e.Member.Incarnation != incarnation || e.Member.Reason != ReasonUnknown {
				t.Errorf("%v %+v", e, e.Member)
			}
			break
		}
		last := a.View().Revision
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := b.Wait(ctx, func(v View) bool { return v.Revision >= last }); err != nil {
			t.Fatal(err)
		}
		if v, w := a.View(), b.View(); v.Revision != w.Revision || len(v.Offline) != len(w.Offline) {
			t.Errorf("a sees %+v, b sees %+v", v, w)
		}
	})
}

// A snapshot has as many records as there are, not 1,024.
func TestSnapshotOfManyRecords(t *testing.T) {
	mem := natstest.Memory(t)
	a := join(t, mem.Dial(t), Config{Node: "a"})
	const n = 2*pageSize + 500
	st := a.session.store
	for i := range n {
		rec := record{Version: wire.Version, ID: fmt.Sprintf("gone-%04d", i), State: Offline, Reason: ReasonLeft}
		data, err := rec.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := st.js.PublishAsync(st.cluster.RecordSubject(rec.ID), data); err != nil {
			t.Fatal(err)
		}
	}
	<-st.js.PublishAsyncComplete()
	seer := observer(t, mem.Dial(t))
	if v := seer.View(); len(v.Offline) != n || len(v.Members) != 1 {
		t.Errorf("it sees %d offline, %d members", len(v.Offline), len(v.Members))
	}
}

// The store is lost and somebody dies while the server is away: it is in the
// views and not in the store, and its watchers write its end all the same.
func TestDeathDuringTheLossOfTheStoreIsSeen(t *testing.T) {
	if testing.Short() {
		t.Skip("short: waits for the grace of a server")
	}
	server := natstest.Start(t)
	a := join(t, natstest.Dial(t, server.URL()), Config{Node: "a"})
	b := join(t, natstest.Dial(t, server.URL()), Config{Node: "b"})
	nc := natstest.Dial(t, server.URL())
	c := join(t, nc, Config{Node: "c"})
	for _, r := range []*Registry{a, b, c} {
		waitFor(t, r, "a", "b", "c")
	}
	server.Kill()
	nc.Close()
	server.RestartEmpty(t)
	begin := time.Now()
	for _, r := range []*Registry{a, b} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := r.Wait(ctx, func(v View) bool { m, ok := v.Member("c"); return ok && m.State == Offline }); err != nil {
			t.Fatalf("%v: %+v", err, r.View())
		}
		if m, _ := r.View().Member("c"); m.Reason != ReasonCrashed || m.By != "a" && m.By != "b" {
			t.Errorf("c is %+v", m)
		}
		waitFor(t, r, "a", "b")
	}
	t.Logf("seen %v after the server was back", time.Since(begin).Round(time.Millisecond))
}
