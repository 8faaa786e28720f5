package kvregistry

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

func ev(kind EventKind, id string, incarnation uint64, note ...string) Event {
	m := Member{ID: id, Incarnation: incarnation}
	for _, n := range note {
		m.Endpoint = n
	}
	return Event{kind, m}
}

func TestCoalesce(t *testing.T) {
	for _, tc := range []struct {
		name string
		in   []Event
		want []Event
	}{
		{"updates become the latest", []Event{ev(Updated, "a", 1, "x"), ev(Updated, "a", 1, "y")}, []Event{ev(Updated, "a", 1, "y")}},
		{"a beginning takes its updates", []Event{ev(Joined, "a", 1), ev(Updated, "a", 1, "y")}, []Event{ev(Joined, "a", 1, "y")}},
		{"begun and ended is nothing", []Event{ev(Joined, "a", 1), ev(Updated, "a", 1), ev(Lost, "a", 1)}, nil},
		{"an end takes the updates before it", []Event{ev(Updated, "a", 1), ev(Lost, "a", 1)}, []Event{ev(Lost, "a", 1)}},
		{"replaced", []Event{ev(Lost, "a", 1), ev(Joined, "a", 2), ev(Updated, "a", 2, "y")}, []Event{ev(Lost, "a", 1), ev(Joined, "a", 2, "y")}},
		{"replaced twice", []Event{ev(Lost, "a", 1), ev(Joined, "a", 2), ev(Lost, "a", 2), ev(Joined, "a", 3)}, []Event{ev(Lost, "a", 1), ev(Joined, "a", 3)}},
		{"synced and evicted stay", []Event{ev(Joined, "a", 1), {Kind: Synced}, ev(Evicted, "b", 4), ev(Updated, "a", 1, "y")}, []Event{ev(Joined, "a", 1, "y"), {Kind: Synced}, ev(Evicted, "b", 4)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := coalesce(tc.in)
			if fmt.Sprint(got) != fmt.Sprint(tc.want) {
				t.Fatalf("got  %v\nwant %v", got, tc.want)
			}
		})
	}
}

// Coalesced or not, who applies the events ends up with the same members and
// sees them in order.
func TestCoalesceKeepsTheTruth(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		table := newTable()
		var before, backlog []Event
		for i, c := range randomStream(t, rng, 80) {
			events := table.catchUp([]change{c}, c.revision)
			if i < 20 {
				before = append(before, events...)
			} else {
				backlog = append(backlog, events...)
			}
		}
		short := coalesce(backlog)
		if len(short) > len(backlog) {
			t.Fatalf("%d events became %d", len(backlog), len(short))
		}
		all := slices.Concat(before, short)
		checkOrder(t, all)
		seen := map[string]string{}
		for _, e := range all {
			if e.Kind == Joined || e.Kind == Updated {
				seen[e.Member.ID] = fmt.Sprint(e.Member)
			} else {
				delete(seen, e.Member.ID)
			}
		}
		truth := table.view(false).Members
		if len(truth) != len(seen) {
			t.Fatalf("saw %v, truth %v", seen, truth)
		}
		for _, m := range truth {
			if seen[m.ID] != fmt.Sprint(m) {
				t.Fatalf("saw %s, truth %v", seen[m.ID], m)
			}
		}
	}
}

func TestSlowWatcherHoldsUpNobody(t *testing.T) {
	h := newHub()
	h.publish(0, false, nil, nil)
	slow := h.watch()
	const rounds = 20 * maxBacklog
	for i := range rounds {
		h.publish(uint64(i), false, nil, []Event{ev(Joined, "a", uint64(i)), ev(Lost, "a", uint64(i))})
	}
	h.publish(0, false, nil, []Event{ev(Joined, "z", 1)})
	h.close()
	events, open := slow.take()
	if open {
		t.Fatal("open after close")
	}
	if len(events) > 2*maxBacklog {
		t.Fatalf("%d events wait", len(events))
	}
	if last := events[len(events)-1]; last.Kind != Joined || last.Member.ID != "z" {
		t.Fatalf("the last event is %v", last)
	}
}

func TestWatchEnds(t *testing.T) {
	h := newHub()
	h.publish(1, false, map[string]*entry{"a": {rec: record{ID: "a", State: Online}}}, nil)
	var kinds []EventKind
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for e := range h.events(ctx) {
		kinds = append(kinds, e.Kind)
		if e.Kind == Synced {
			cancel()
		}
	}
	if !slices.Equal(kinds, []EventKind{Joined, Synced}) {
		t.Fatalf("saw %v", kinds)
	}
	for range h.events(t.Context()) {
		break
	}
	h.close()
	n := 0
	for range h.events(t.Context()) {
		n++
	}
	if n != 2 {
		t.Fatalf("a watch of a closed hub tells %d events, want what was last known", n)
	}
	if len(h.watchers) != 0 {
		t.Fatalf("%d watchers left", len(h.watchers))
	}
}
