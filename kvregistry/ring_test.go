package kvregistry

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestRingIsFair(t *testing.T) {
	r := newRing()
	const n = 1000
	for i := range n {
		r.add(fmt.Sprintf("node-%d", i), true)
		r.add(fmt.Sprintf("node-%d", i), true)
	}
	if r.len() != n {
		t.Fatalf("%d in the ring", r.len())
	}
	watched := map[string]int{}
	for i := range n {
		id := fmt.Sprintf("node-%d", i)
		wards := r.wards(id, 3)
		if len(wards) != 3 || slices.Contains(wards, id) {
			t.Fatalf("%s watches %v", id, wards)
		}
		for _, w := range wards {
			watched[w]++
			if !slices.Contains(r.watchers(w, 3), id) {
				t.Fatalf("%s watches %s and is not among its watchers %v", id, w, r.watchers(w, 3))
			}
		}
	}
	for id, k := range watched {
		if k != 3 {
			t.Errorf("%s is watched by %d", id, k)
		}
	}
}

func TestRingIsSmallAtFirst(t *testing.T) {
	r := newRing()
	if got := r.wards("a", 3); len(got) != 0 {
		t.Fatalf("an empty ring gives %v", got)
	}
	r.add("a", true)
	if got := r.wards("a", 3); len(got) != 0 {
		t.Fatalf("alone, a watches %v", got)
	}
	r.add("b", true)
	if got := r.wards("a", 3); !slices.Equal(got, []string{"b"}) {
		t.Fatalf("of two, a watches %v", got)
	}
	r.add("c", true)
	r.add("d", true)
	r.remove("b")
	if got := r.wards("a", 3); !slices.Equal(got, []string{"c", "d"}) {
		t.Fatalf("a watches %v", got)
	}
}

// Those that do not guard are watched like the others, and watch nobody.
func TestRingWatchesThoseThatDoNotGuard(t *testing.T) {
	r := newRing()
	const n, guards = 5000, 50
	for i := range n {
		r.add(fmt.Sprintf("node-%d", i), i%(n/guards) == 0)
	}
	watched := map[string]int{}
	most := 0
	for i := range n {
		id := fmt.Sprintf("node-%d", i)
		wards := r.wards(id, 3)
		if guard := i%(n/guards) == 0; guard != (len(wards) > 0) {
			t.Fatalf("%s guards: %v, and watches %d", id, guard, len(wards))
		}
		most = max(most, len(wards))
		for _, w := range wards {
			if w == id {
				t.Fatalf("%s watches itself", id)
			}
			watched[w]++
		}
	}
	if len(watched) != n {
		t.Fatalf("%d of %d are watched", len(watched), n)
	}
	for id, k := range watched {
		if k != 3 {
			t.Fatalf("%s is watched by %d", id, k)
		}
	}
	if fair := 3 * n / guards; most > 4*fair {
		t.Errorf("one watches %d, on average it is %d", most, fair)
	}
}

// A change matters to a guard only when it watches who has come, or watched who
// has gone: then its wards are looked for anew. This tests that rule.
func TestRingChangesWardsOfWhoWatches(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	r := newRing()
	r.add("self", true)
	var wards []string
	for range 3000 {
		id := fmt.Sprintf("n%d", random.IntN(60))
		_, there := r.members[id]
		var concerns bool
		if there {
			concerns = r.watches("self", id, 3)
			r.remove(id)
		} else {
			r.add(id, random.IntN(4) == 0)
			concerns = r.watches("self", id, 3)
		}
		now := r.wards("self", 3)
		if !concerns && !slices.Equal(now, wards) {
			t.Fatalf("%s (there: %v) changed %v to %v", id, there, wards, now)
		}
		wards = now
	}
}

// The wards of a guard, looked for in its part of the ring only, are those
// members that have it among their watchers.
func TestRingWardsAreThoseThatAreWatched(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	r := newRing()
	for range 4000 {
		id := fmt.Sprintf("n%d", random.IntN(40))
		if _, there := r.members[id]; there && random.IntN(2) == 0 {
			r.remove(id)
		} else {
			r.add(id, random.IntN(3) > 0)
		}
		watcher := fmt.Sprintf("n%d", random.IntN(40))
		var want []string
		if r.members[watcher] {
			for other := range r.members {
				if r.watches(watcher, other, 3) {
					want = append(want, other)
				}
			}
		}
		slices.Sort(want)
		if got := r.wards(watcher, 3); !slices.Equal(got, want) {
			t.Fatalf("%s of %d members, %d guards: watches %v, want %v", watcher, r.len(), r.guards, got, want)
		}
	}
}

// Who is at a third server is asked first, who is at the watcher's own last. Before
// the first pong nobody knows where somebody is.
func TestNearness(t *testing.T) {
	for _, c := range []struct {
		server, own, its string
		want             int
	}{
		{"third", "own", "its", 0},
		{"its", "own", "its", 1},
		{"", "own", "its", 1},
		{"own", "own", "its", 2},
		{"third", "own", "", 0},
		{"", "", "", 1}, // the watcher's own connection is away
		{"one", "one", "one", 1},
	} {
		if got := nearness(c.server, c.own, c.its); got != c.want {
			t.Errorf("nearness(%q, %q, %q) is %d, want %d", c.server, c.own, c.its, got, c.want)
		}
	}
}
