package kvregistry

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/natstest"
)

// Minutes in a moment: under fake time the server's and the registry's timers
// run as they would, and these tests take milliseconds.

func TestOfflineMembersAreForgotten(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		mem := natstest.Memory(t)
		const forget = 5 * time.Minute
		a := join(t, mem.Dial(t), Config{Node: "a"})
		named := join(t, mem.Dial(t), Config{Node: "named", Forget: forget})
		anonymous := join(t, mem.Dial(t), Config{Node: "anonymous", Anonymous: true})
		begin := time.Now()
		for _, r := range []*Registry{named, anonymous} {
			if err := r.Leave(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		offline := func(ids ...string) {
			t.Helper()
			err := a.Wait(t.Context(), func(v View) bool {
				var got []string
				for _, m := range v.Offline {
					got = append(got, m.ID)
				}
				return slices.Equal(got, ids)
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		offline("anonymous", "named")
		offline("named")
		if took := time.Since(begin); took < anonymousForget || took > anonymousForget+5*time.Second {
			t.Errorf("the anonymous one was forgotten after %v", took)
		}
		offline()
		if took := time.Since(begin); took < forget || took > forget+5*time.Second {
			t.Errorf("the named one was forgotten after %v", took)
		}
		if got := ids(a.Members()); !slices.Equal(got, []string{"a"}) {
			t.Errorf("members %v at the end", got)
		}
	})
}

func TestBeatsKeepTheirTimeToLive(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		mem := natstest.Memory(t)
		nc := mem.Dial(t)
		a := join(t, nc, Config{Node: "a"})
		s := a.session
		for range 100 {
			<-time.After(3 * time.Second)
			m, ok, err := s.store.lastOf(t.Context(), s.cluster.BeatStream(), s.cluster.BeatSubject("a"))
			if err != nil || !ok || isMarker(m.header) {
				t.Fatalf("the beat of a live node is gone: %v %v", ok, err)
			}
			if ttl := m.header.Get("Nats-TTL"); ttl != "15" {
				t.Fatalf("beat with a time to live of %q", ttl)
			}
			if age := time.Since(m.time); age > minBeat+time.Second {
				t.Fatalf("the beat is %v old", age)
			}
		}
	})
}

func TestMissedChangeIsCaughtUp(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		mem := natstest.Memory(t)
		a := join(t, mem.Dial(t), Config{Node: "a"})
		// Deaf to the feed: what an overflowing subscription would be for a moment.
		a.session.subs.mu.Lock()
		feed := a.session.subs.live[0]
		a.session.subs.mu.Unlock()
		if feed.Subject != a.session.cluster.RegistryAll() {
			t.Fatalf("the first subscription is %s", feed.Subject)
		}
		if err := feed.Unsubscribe(); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		join(t, mem.Dial(t), Config{Node: "b"})
		// b watches a: its pings carry the revision that a does not have.
		waitFor(t, a, "a", "b")
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("caught up after %v", took)
		}
	})
}

func TestCatchUpWithoutPings(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		mem := natstest.Memory(t)
		watcher, err := New(mem.Dial(t), Config{Cluster: "test"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = watcher.Close() })
		if err := watcher.Observe(t.Context()); err != nil {
			t.Fatal(err)
		}
		watcher.session.subs.mu.Lock()
		feed := watcher.session.subs.live[0]
		watcher.session.subs.mu.Unlock()
		if err := feed.Unsubscribe(); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		join(t, mem.Dial(t), Config{Node: "b"})
		waitFor(t, watcher, "b")
		if took := time.Since(begin); took > catchUpEvery+time.Second {
			t.Errorf("caught up after %v", took)
		}
	})
}

func TestWholeClusterStopIsCleanedUpByTheFirst(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		mem := natstest.Memory(t)
		var ncs []*nats.Conn
		for _, id := range []string{"a", "b", "c", "d", "e", "f", "g"} {
			nc := mem.Dial(t)
			join(t, nc, Config{Node: id})
			ncs = append(ncs, nc)
		}
		for _, nc := range ncs {
			nc.Close()
		}
		// Long after: their beats have run out.
		<-time.After(time.Minute)
		begin := time.Now()
		first := join(t, mem.Dial(t), Config{Node: "first"})
		waitFor(t, first, "first")
		if took := time.Since(begin); took > 100*time.Millisecond {
			t.Errorf("the dead were gone after %v", took)
		}
		if n := len(first.View().Offline); n != 7 {
			t.Errorf("%d offline", n)
		}
	})
}

func TestRecordDeletedOrOverwrittenByHandComesBack(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		mem := natstest.Memory(t)
		nc := mem.Dial(t)
		a := join(t, nc, Config{Node: "a", Metadata: map[string]string{"k": "v"}})
		b := join(t, mem.Dial(t), Config{Node: "b"})
		waitFor(t, a, "a", "b")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		events := watch(ctx, b)
		for range 3 {
			<-events
		}
		incarnation := a.Self().Incarnation
		st := a.session.store
		for name, spoil := range map[string]func() error{
			"deleted": func() error {
				msg := nats.NewMsg(st.cluster.RecordSubject("a"))
				msg.Header.Set("KV-Operation", "DEL")
				_, err := st.js.PublishMsg(ctx, msg)
				return err
			},
			"rubbish": func() error {
				_, err := st.js.Publish(ctx, st.cluster.RecordSubject("a"), []byte("what?"))
				return err
			},
			"purged": func() error {
				stream, err := st.js.Stream(ctx, st.cluster.RecordStream())
				if err != nil {
					return err
				}
				return stream.Purge(ctx)
			},
			"bucket deleted": func() error { return st.js.DeleteStream(ctx, st.cluster.RecordStream()) },
			"both buckets deleted": func() error {
				if err := st.js.DeleteStream(ctx, st.cluster.BeatStream()); err != nil {
					return err
				}
				return st.js.DeleteStream(ctx, st.cluster.RecordStream())
			},
		} {
			before, _ := b.View().Member("a")
			mine, _ := b.View().Member("b")
			if err := spoil(); err != nil {
				t.Fatal(name, err)
			}
			begin := time.Now()
			// Whole again: a's record is a newer one, and so is b's where all was lost.
			ctx, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			err := b.Wait(ctx, func(v View) bool {
				m, _ := v.Member("a")
				own, _ := v.Member("b")
				whole := name == "deleted" || name == "rubbish" || own.Revision > mine.Revision
				return m.Revision > before.Revision && whole && !v.Stale
			})
			if err != nil {
				t.Fatalf("%s: %v: %+v", name, err, b.View())
			}
			t.Logf("%s: whole again after %v", name, time.Since(begin))
			if took := time.Since(begin); took > 2*minBeat {
				t.Errorf("%s: whole again after %v", name, took)
			}
			m, _ := b.View().Member("a")
			if m.Incarnation != incarnation || m.Metadata["k"] != "v" {
				t.Errorf("%s: %+v", name, m)
			}
		}
		// Nobody was told of any of it.
		if err := a.SetMetadata(ctx, nil); err != nil {
			t.Fatal(err)
		}
		nextIs(t, events, Updated, "a")
	})
}

// A process so busy that every answer takes longer than a probe lasts does not
// hang.
func TestWhoAnswersLateIsNotLost(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		mem := natstest.Memory(t)
		a := join(t, mem.Dial(t), Config{Node: "a"})
		b := join(t, mem.Dial(t), Config{Node: "b"})
		waitFor(t, a, "a", "b")
		before := b.Self().Incarnation
		answers := b.session.own.answers
		subject := answers.exact.Subject
		if err := answers.exact.Unsubscribe(); err != nil {
			t.Fatal(err)
		}
		if _, err := b.session.subscribe(subject, func(msg *nats.Msg) {
			time.AfterFunc(pingLimit+700*time.Millisecond, func() { answers.handle(msg) })
		}); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute)
		waitFor(t, a, "a", "b")
		if m, _ := a.View().Member("b"); m.Incarnation != before {
			t.Errorf("b was Lost and is back as %d, was %d", m.Incarnation, before)
		}
	})
}

// A store that refuses heartbeats cannot be written: the view says so, until it
// takes one again.
func TestViewIsStaleWhileHeartbeatsAreRefused(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		mem := natstest.Memory(t)
		a := join(t, mem.Dial(t), Config{Node: "a"})
		s := a.session
		largest := func(bytes int32) {
			t.Helper()
			st, err := s.store.js.Stream(t.Context(), s.cluster.BeatStream())
			if err != nil {
				t.Fatal(err)
			}
			cfg := st.CachedInfo().Config
			cfg.MaxMsgSize = bytes
			if _, err := s.store.js.UpdateStream(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
		}
		for _, step := range []struct {
			bytes int32
			stale bool
		}{{-1, false}, {1, true}, {-1, false}} {
			largest(step.bytes)
			<-time.After(2 * minBeat)
			if v, st := a.View(), a.Status(); v.Stale != step.stale || st.Stale != step.stale || !st.Ready {
				t.Errorf("at most %d bytes: the view is stale %v, %+v", step.bytes, v.Stale, st)
			}
		}
	})
}
