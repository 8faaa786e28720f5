package kvregistry

import (
	"context"
	"testing"
	"time"

	"github.com/catga/catga-go/internal/natstest"
	"github.com/catga/catga-go/internal/wire"
)

// Somebody who was away while a node ended and came back, once or more often, is
// told how the life ended that it knew, although each claim has overwritten the
// record that said so.
func TestGoodbyeThatWasMissedIsToldAsSuch(t *testing.T) {
	// Each ends a life of b, which a third connection claims anew.
	ends := map[Reason]func(testing.TB, *Registry){
		ReasonLeft: func(t testing.TB, b *Registry) {
			if err := b.Leave(t.Context()); err != nil {
				t.Fatal(err)
			}
		},
		ReasonClosed:   func(t testing.TB, b *Registry) { _ = b.Close() },
		ReasonReplaced: func(_ testing.TB, b *Registry) { b.nc.Close() },
		ReasonHung: func(t testing.TB, b *Registry) {
			buryByHand(t, b, ReasonHung)
			natstest.Eventually(t, "b is back", func() bool { s := b.Status(); return s.Ready && !s.Evicted })
		},
	}
	for name, lives := range map[string][]Reason{
		"one life":                   {ReasonLeft},
		"left, then replaced":        {ReasonLeft, ReasonReplaced},
		"closed, and more":           {ReasonClosed, ReasonLeft, ReasonReplaced, ReasonReplaced, ReasonLeft},
		"replaced, then left":        {ReasonReplaced, ReasonLeft},
		"evicted, then left":         {ReasonHung, ReasonLeft},
		"left, then evicted, closed": {ReasonLeft, ReasonHung, ReasonClosed},
	} {
		t.Run(name, func(t *testing.T) {
			mem := natstest.Memory(t)
			a := join(t, mem.Dial(t), Config{Node: "a"})
			b := join(t, mem.Dial(t), Config{Node: "b"})
			waitFor(t, a, "a", "b")
			first := b.Self().Incarnation
			events, back := away(t, a)
			for _, reason := range lives {
				ends[reason](t, b)
				if reason != ReasonHung {
					b = join(t, mem.Dial(t), Config{Node: "b"})
				}
			}
			back()
			kind := Lost
			if lives[0] == ReasonLeft || lives[0] == ReasonClosed {
				kind = Left
			}
			if m := nextIs(t, events, kind, "b"); m.Incarnation != first || m.Reason != lives[0] || m.By == "" || m.LastSeen.IsZero() {
				t.Errorf("%v %+v", kind, m)
			}
			if m := nextIs(t, events, Joined, "b"); m.Incarnation != b.Self().Incarnation {
				t.Errorf("joined %+v", m)
			}
		})
	}
}

// away has r know nothing of what happens from now on, until back is called.
func away(t testing.TB, r *Registry) (events <-chan Event, back func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	events = watch(ctx, r)
	for e := range events {
		if e.Kind == Synced {
			break
		}
	}
	// Its loop stands still, and the feed's messages are gone.
	release := make(chan struct{})
	r.session.post(func() { <-release })
	r.session.subs.mu.Lock()
	feed := r.session.subs.live[0]
	r.session.subs.mu.Unlock()
	if err := feed.Unsubscribe(); err != nil {
		t.Fatal(err)
	}
	return events, func() {
		close(release)
		r.session.post(func() { r.session.resync(false) })
	}
}

// buryByHand writes a verdict on r that is wrong.
func buryByHand(t testing.TB, r *Registry, reason Reason) {
	t.Helper()
	st := r.session.store
	c, _, err := st.last(t.Context(), r.ID())
	if err != nil {
		t.Fatal(err)
	}
	rec, err := decodeRecord(r.ID(), c.revision, c.data)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.put(t.Context(), rec.ended(reason, "a", time.Now()), c.revision, time.Minute); err != nil {
		t.Fatal(err)
	}
}

// A process that was buried and finds nothing in the store tells of its own
// earlier life all the same.
func TestEndOutlivesALostStore(t *testing.T) {
	mem := natstest.Memory(t)
	entered, gate := make(chan struct{}, 2), make(chan struct{})
	b := join(t, mem.Dial(t), Config{Node: "b", BeforeClaim: func(context.Context) error {
		entered <- struct{}{}
		if len(entered) == 2 {
			<-gate
		}
		return nil
	}})
	first := b.Self().Incarnation
	buryByHand(t, b, ReasonHung)
	natstest.Eventually(t, "b is about to claim its name again", func() bool { return len(entered) == 2 })
	stream, err := b.session.store.js.Stream(t.Context(), b.session.store.cluster.RecordStream())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(gate)
	natstest.Eventually(t, "b is back", func() bool { s := b.Status(); return s.Ready && !s.Evicted })
	c, ok, err := b.session.store.last(t.Context(), "b")
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	rec, err := decodeRecord("b", c.revision, c.data)
	if err != nil {
		t.Fatal(err)
	}
	if rec.Before == nil || rec.Before.Incarnation != first || rec.Before.Reason != ReasonHung {
		t.Errorf("the record tells of %+v, must tell of %d", rec.Before, first)
	}
}

// What a record tells of the past has an end, and beyond it nothing is made up.
func TestEndingsAreBounded(t *testing.T) {
	begin := time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	// A node that leaves and comes back every so often.
	past := func(lives int, every time.Duration) record {
		rec := record{Version: wire.Version, ID: "a", Incarnation: 1, State: Online, Started: begin}
		for i := range lives {
			next := record{Version: wire.Version, ID: "a", Incarnation: uint64(i + 2), State: Online, Started: begin.Add(time.Duration(i+1) * every)}
			rec = next.following(rec.ended(ReasonLeft, "a", next.Started))
		}
		return rec
	}
	for _, tc := range []struct {
		name        string
		lives, told int
		every       time.Duration
	}{
		{"no life before", 0, 0, time.Minute},
		{"one", 1, 1, time.Minute},
		{"as many as there is room for", 1 + maxEarlier, 1 + maxEarlier, time.Minute},
		{"more", 1000, 1 + maxEarlier, time.Minute},
		{"long ago", 5, 1, 2 * maxEndingAge},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rec := past(tc.lives, tc.every)
			data, err := rec.encode()
			if err != nil {
				t.Fatal(err)
			}
			if len(data) > 4<<10 {
				t.Errorf("the record has %d bytes", len(data))
			}
			if rec, err = decodeRecord("a", 5000, data); err != nil {
				t.Fatal(err)
			}
			if n := len(rec.endings()); n != tc.told {
				t.Errorf("it tells of %d lives, want %d", n, tc.told)
			}
			for i := uint64(1); i < rec.Incarnation; i++ {
				want := ReasonUnknown
				if rec.Incarnation-i <= uint64(tc.told) {
					want = ReasonLeft
				}
				if end := (record{ID: "a", Incarnation: i, State: Online}).endedBy(rec); end.Reason != want || end.State != Offline {
					t.Errorf("life %d of %d ended as %q, want %q", i, rec.Incarnation, end.Reason, want)
				}
			}
		})
	}
}
