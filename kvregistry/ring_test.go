package kvregistry

import (
	"fmt"
	"slices"
	"testing"
)

func TestRingIsFair(t *testing.T) {
	r := &ring{}
	const n = 1000
	for i := range n {
		r.add(fmt.Sprintf("node-%d", i))
		r.add(fmt.Sprintf("node-%d", i))
	}
	if r.len() != n {
		t.Fatalf("%d in the ring", r.len())
	}
	watched := map[string]int{}
	for i := range n {
		id := fmt.Sprintf("node-%d", i)
		wards := r.before(id, 3)
		if len(wards) != 3 || slices.Contains(wards, id) {
			t.Fatalf("%s watches %v", id, wards)
		}
		for _, w := range wards {
			watched[w]++
			if !slices.Contains(r.after(w, 3), id) {
				t.Fatalf("%s watches %s and is not among its watchers %v", id, w, r.after(w, 3))
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
	r := &ring{}
	if got := r.before("a", 3); len(got) != 0 {
		t.Fatalf("an empty ring gives %v", got)
	}
	r.add("a")
	if got := r.before("a", 3); len(got) != 0 {
		t.Fatalf("alone, a watches %v", got)
	}
	r.add("b")
	if got := r.before("a", 3); !slices.Equal(got, []string{"b"}) {
		t.Fatalf("of two, a watches %v", got)
	}
	r.add("c")
	r.add("d")
	r.remove("b")
	got := r.before("a", 3)
	slices.Sort(got)
	if !slices.Equal(got, []string{"c", "d"}) {
		t.Fatalf("a watches %v", got)
	}
}
