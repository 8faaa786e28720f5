package kvregistry

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/catga/catga-go/internal/wire"
)

// put is a record as a message of the stream.
func put(t testing.TB, id string, revision, incarnation uint64, state State, edit ...func(*record)) change {
	t.Helper()
	rec := record{Version: wire.Version, ID: id, Incarnation: incarnation, State: state, Mail: MailKeep}
	for _, e := range edit {
		e(&rec)
	}
	data, err := rec.encode()
	if err != nil {
		t.Fatal(err)
	}
	return change{id: id, revision: revision, data: data}
}

func because(r Reason) func(*record) { return func(rec *record) { rec.Reason, rec.By = r, "w" } }

// after has a record tell of a life that ended before those it tells of already.
func after(incarnation uint64, r Reason) func(*record) {
	return func(rec *record) {
		end := ending{Incarnation: incarnation, Reason: r, By: "w"}
		if rec.Before == nil {
			rec.Before = &end
			return
		}
		rec.Earlier = append(rec.Earlier, end)
	}
}

func meta(v string) func(*record) {
	return func(rec *record) { rec.Metadata = map[string]string{"v": v} }
}

func told(events []Event) []string {
	out := []string{}
	for _, e := range events {
		text := fmt.Sprintf("%v %s.%d", e.Kind, e.Member.ID, e.Member.Incarnation)
		if e.Member.Reason != "" {
			text += " " + string(e.Member.Reason)
		}
		out = append(out, text)
	}
	return out
}

func TestTableTransitions(t *testing.T) {
	marker := func(id string, revision uint64) change { return change{id: id, revision: revision, gone: true} }
	for _, tc := range []struct {
		name    string
		stream  []change
		want    []string
		members []string
		offline []string
	}{
		{"join", []change{put(t, "a", 1, 0, Online)}, []string{"Joined a.1"}, []string{"a"}, nil},
		{"update", []change{put(t, "a", 1, 0, Online), put(t, "a", 2, 1, Online, meta("x"))}, []string{"Joined a.1", "Updated a.1"}, []string{"a"}, nil},
		{"drain", []change{put(t, "a", 1, 0, Online), put(t, "a", 2, 1, Draining)}, []string{"Joined a.1", "Updated a.1"}, []string{"a"}, nil},
		{"the same again is no event", []change{put(t, "a", 1, 0, Online), put(t, "a", 2, 1, Online)}, []string{"Joined a.1"}, []string{"a"}, nil},
		{"leave", []change{put(t, "a", 1, 0, Online), put(t, "a", 2, 1, Offline, because(ReasonLeft))}, []string{"Joined a.1", "Left a.1 left"}, nil, []string{"a"}},
		{"close", []change{put(t, "a", 1, 0, Online), put(t, "a", 2, 1, Offline, because(ReasonClosed))}, []string{"Joined a.1", "Left a.1 closed"}, nil, []string{"a"}},
		{"crash", []change{put(t, "a", 1, 0, Online), put(t, "a", 2, 1, Offline, because(ReasonCrashed))}, []string{"Joined a.1", "Lost a.1 crashed"}, nil, []string{"a"}},
		{"one end only", []change{put(t, "a", 1, 0, Online), put(t, "a", 2, 1, Offline, because(ReasonCrashed)), put(t, "a", 3, 1, Offline, because(ReasonLeft))}, []string{"Joined a.1", "Lost a.1 crashed"}, nil, []string{"a"}},
		{"takeover", []change{put(t, "a", 1, 0, Online), put(t, "a", 2, 0, Online, after(1, ReasonReplaced))}, []string{"Joined a.1", "Lost a.1 replaced", "Joined a.2"}, []string{"a"}, nil},
		{"takeover that has ended already", []change{put(t, "a", 1, 0, Online), put(t, "a", 3, 2, Offline, because(ReasonLeft), after(1, ReasonReplaced))}, []string{"Joined a.1", "Lost a.1 replaced"}, nil, []string{"a"}},
		{"a later life that tells nothing", []change{put(t, "a", 1, 0, Online), put(t, "a", 2, 0, Online)}, []string{"Joined a.1", "Lost a.1 unknown", "Joined a.2"}, []string{"a"}, nil},
		{"takeover after a leave that was not seen", []change{put(t, "a", 1, 0, Online), put(t, "a", 3, 0, Online, after(1, ReasonLeft))}, []string{"Joined a.1", "Left a.1 left", "Joined a.3"}, []string{"a"}, nil},
		{"takeover after a hang that was not seen", []change{put(t, "a", 1, 0, Online), put(t, "a", 3, 0, Online, after(1, ReasonHung))}, []string{"Joined a.1", "Lost a.1 hung", "Joined a.3"}, []string{"a"}, nil},
		{"two ends that were not seen", []change{put(t, "a", 1, 0, Online), put(t, "a", 5, 0, Online, after(3, ReasonCrashed), after(1, ReasonLeft))}, []string{"Joined a.1", "Left a.1 left", "Joined a.5"}, []string{"a"}, nil},
		{"three ends that were not seen", []change{put(t, "a", 1, 0, Online), put(t, "a", 8, 7, Offline, because(ReasonCrashed), after(5, ReasonReplaced), after(3, ReasonLeft), after(1, ReasonClosed))}, []string{"Joined a.1", "Left a.1 closed"}, nil, []string{"a"}},
		{"an end that no record tells of any more", []change{put(t, "a", 1, 0, Online), put(t, "a", 9, 0, Online, after(7, ReasonLeft), after(5, ReasonLeft))}, []string{"Joined a.1", "Lost a.1 unknown", "Joined a.9"}, []string{"a"}, nil},
		{"back after a leave", []change{put(t, "a", 1, 0, Online), put(t, "a", 2, 1, Offline, because(ReasonLeft)), put(t, "a", 3, 0, Online)}, []string{"Joined a.1", "Left a.1 left", "Joined a.3"}, []string{"a"}, nil},
		{"an end that was there before", []change{put(t, "a", 7, 3, Offline, because(ReasonLeft))}, []string{}, nil, []string{"a"}},
		{"forgotten", []change{put(t, "a", 7, 3, Offline, because(ReasonLeft)), marker("a", 8)}, []string{}, nil, nil},
		{"a deleted record is no end", []change{put(t, "a", 1, 0, Online), marker("a", 2)}, []string{"Joined a.1"}, []string{"a"}, nil},
		{"a deleted record, put back", []change{put(t, "a", 1, 0, Online), marker("a", 2), put(t, "a", 3, 1, Online)}, []string{"Joined a.1"}, []string{"a"}, nil},
		{"rubbish is no end", []change{put(t, "a", 1, 0, Online), {id: "a", revision: 2, data: []byte("oops")}}, []string{"Joined a.1"}, []string{"a"}, nil},
		{"rubbish is nobody", []change{{id: "a", revision: 2, data: []byte("{}")}}, []string{}, nil, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			table := newTable()
			events := table.catchUp(tc.stream, 0)
			if got := told(events); !slices.Equal(got, tc.want) {
				t.Errorf("events %q, want %q", got, tc.want)
			}
			v := table.view(false)
			if !slices.Equal(ids(v.Members), tc.members) || !slices.Equal(ids(v.Offline), tc.offline) {
				t.Errorf("members %v offline %v, want %v %v", ids(v.Members), ids(v.Offline), tc.members, tc.offline)
			}
			if last := tc.stream[len(tc.stream)-1].revision; v.Revision != last {
				t.Errorf("revision %d, want %d", v.Revision, last)
			}
		})
	}
}

func TestTableWaitsForWhatIsMissing(t *testing.T) {
	table := newTable()
	table.rebase([]change{put(t, "a", 10, 0, Online)}, 10, false)
	// Revision 11 was missed.
	events, gap := table.delta(put(t, "c", 12, 0, Online))
	if len(events) != 0 || !gap || !table.behind() || table.complete != 10 {
		t.Fatalf("behind a hole: events %v gap %v revision %d", told(events), gap, table.complete)
	}
	events = table.catchUp([]change{put(t, "b", 11, 0, Online)}, 11)
	if got := told(events); !slices.Equal(got, []string{"Joined b.11", "Joined c.12"}) || table.complete != 12 || table.behind() {
		t.Fatalf("after the catch-up: %v, revision %d", got, table.complete)
	}
	// What came before comes again: nothing happens.
	if events, gap := table.delta(put(t, "a", 10, 0, Online)); len(events) != 0 || gap {
		t.Fatalf("an old message: %v %v", told(events), gap)
	}
}

func TestTableKeepsTheLivingThroughALostStore(t *testing.T) {
	table := newTable()
	table.rebase([]change{put(t, "a", 10, 0, Online), put(t, "b", 11, 0, Online), put(t, "old", 12, 5, Offline, because(ReasonLeft))}, 12, false)
	// The store is back, empty but for b, and counts from elsewhere.
	events := table.rebase([]change{put(t, "b", 3, 11, Online)}, 3, true)
	if len(events) != 0 {
		t.Fatalf("events %v", told(events))
	}
	v := table.view(false)
	if !slices.Equal(ids(v.Members), []string{"a", "b"}) || len(v.Offline) != 0 || v.Revision != 3 {
		t.Fatalf("view %+v", v)
	}
	if e := table.entries["a"]; !e.missing || e.revision != 0 {
		t.Fatalf("a is %+v, must be known to be missing", e)
	}
	// Its owner puts it back, or its watchers end it: over revision 0.
	events, _ = table.delta(put(t, "a", 4, 10, Offline, because(ReasonCrashed)))
	if got := told(events); !slices.Equal(got, []string{"Lost a.10 crashed"}) {
		t.Fatalf("events %v", got)
	}
}

func TestTableSnapshotIsNoOlderThanTheFeed(t *testing.T) {
	table := newTable()
	table.rebase(nil, 10, false)
	table.delta(put(t, "a", 11, 0, Online))
	table.delta(put(t, "b", 12, 0, Online))
	// A snapshot that began earlier: it knows a, and nothing of b.
	events := table.rebase([]change{put(t, "a", 11, 0, Online)}, 11, false)
	if len(events) != 0 || !slices.Equal(ids(table.view(false).Members), []string{"a", "b"}) || table.complete != 12 {
		t.Fatalf("events %v, revision %d", told(events), table.complete)
	}
}

// However the messages of a stream reach two tables, in whatever order, with
// losses and repeats, equal revisions are equal views.
func TestTableOrderDoesNotMatter(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 300 {
		stream := randomStream(t, rng, 60)
		truth := newTable()
		for _, c := range stream {
			truth.catchUp([]change{c}, c.revision)
		}
		got := newTable()
		got.rebase(nil, 0, false)
		var events []Event
		for range 200 {
			c := stream[rng.IntN(len(stream))]
			es, gap := got.delta(c)
			events = append(events, es...)
			if gap && rng.IntN(3) == 0 {
				events = append(events, got.catchUp(lastOfEach(stream, got.complete), got.complete)...)
			}
		}
		events = append(events, got.catchUp(lastOfEach(stream, got.complete), stream[len(stream)-1].revision)...)
		if a, b := got.view(false), truth.view(false); !reflect.DeepEqual(a, b) {
			t.Fatalf("round %d:\n got  %+v\n want %+v", round, a, b)
		}
		checkOrder(t, events)
	}
}

// lastOfEach is what a store with a history of one has after a revision.
func lastOfEach(stream []change, after uint64) []change {
	last := map[string]change{}
	for _, c := range stream {
		last[c.id] = c
	}
	var cs []change
	for _, c := range last {
		if c.revision > after {
			cs = append(cs, c)
		}
	}
	return cs
}

func randomStream(t testing.TB, rng *rand.Rand, n int) []change {
	incarnation := map[string]uint64{}
	var stream []change
	for revision := uint64(1); revision <= uint64(n); revision++ {
		id := string(rune('a' + rng.IntN(5)))
		switch i := incarnation[id]; {
		case i == 0 || rng.IntN(6) == 0:
			incarnation[id] = revision
			stream = append(stream, put(t, id, revision, 0, Online))
		case rng.IntN(3) == 0:
			delete(incarnation, id)
			stream = append(stream, put(t, id, revision, i, Offline, because([]Reason{ReasonLeft, ReasonCrashed}[rng.IntN(2)])))
		default:
			stream = append(stream, put(t, id, revision, i, Online, meta(fmt.Sprint(revision))))
		}
	}
	return stream
}

// checkOrder fails unless each incarnation begins with Joined and has at most
// one end, after which nothing comes.
func checkOrder(t testing.TB, events []Event) {
	t.Helper()
	alive := map[string]uint64{}
	for _, e := range events {
		id, incarnation := e.Member.ID, e.Member.Incarnation
		switch e.Kind {
		case Joined:
			if alive[id] != 0 {
				t.Fatalf("%v while %d is alive, in %v", e.Kind, alive[id], told(events))
			}
			alive[id] = incarnation
		case Updated:
			if alive[id] != incarnation {
				t.Fatalf("update of %s.%d, alive is %d", id, incarnation, alive[id])
			}
		case Left, Lost:
			if alive[id] != incarnation {
				t.Fatalf("end of %s.%d, alive is %d", id, incarnation, alive[id])
			}
			delete(alive, id)
		case Synced, Evicted:
		}
	}
}

func TestViewHandlers(t *testing.T) {
	table := newTable()
	kinds := func(ks ...string) func(*record) { return func(r *record) { r.Kinds = ks } }
	table.catchUp([]change{
		put(t, "b", 1, 0, Online, kinds("x", "y")), put(t, "a", 2, 0, Online, kinds("y", "x")),
		put(t, "c", 3, 0, Draining, kinds("x")), put(t, "d", 4, 0, Offline, kinds("x"), because(ReasonLeft)),
	}, 4)
	v := table.view(true)
	if got := ids(v.Handlers("x")); !slices.Equal(got, []string{"a", "b"}) || !v.Stale {
		t.Fatalf("handlers %v stale %v", got, v.Stale)
	}
	if m, ok := v.Member("d"); !ok || m.State != Offline {
		t.Fatalf("offline member %+v %v", m, ok)
	}
	if _, ok := v.Member("nobody"); ok {
		t.Fatal("found nobody")
	}
}

func TestRecordBounds(t *testing.T) {
	for _, tc := range []struct {
		millis int64
		want   time.Duration
	}{{0, minGrace}, {-5, minGrace}, {501, 501 * time.Millisecond}, {1 << 60, maxGrace}} {
		if got := (record{GraceMillis: tc.millis}).grace(); got != tc.want {
			t.Errorf("grace of %d ms is %v, want %v", tc.millis, got, tc.want)
		}
	}
	for _, tc := range []struct {
		seconds int64
		want    time.Duration
	}{{0, defaultForget}, {-5, defaultForget}, {60, time.Minute}, {1 << 60, maxForget}} {
		if got := (record{ForgetSeconds: tc.seconds}).forget(); got != tc.want {
			t.Errorf("forget of %d s is %v, want %v", tc.seconds, got, tc.want)
		}
	}
}

func TestBeatInterval(t *testing.T) {
	for n, want := range map[int]time.Duration{0: 5 * time.Second, 50: 5 * time.Second, 2500: 5 * time.Second, 5000: 10 * time.Second, 10_000: 20 * time.Second, 100_000: 30 * time.Second} {
		if got := beatEvery(n); got != want {
			t.Errorf("beat of %d nodes every %v, want %v", n, got, want)
		}
	}
}
