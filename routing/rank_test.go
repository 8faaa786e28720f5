package routing

import (
	"fmt"
	"slices"
	"testing"
)

// ranked builds handlers from a picture: a name per node, with ! for draining.
func ranked(names ...string) []*peer {
	var list []*peer
	for _, n := range names {
		p := &peer{Peer: Peer{ID: n, Incarnation: 1, Kinds: []string{"k"}}}
		if n[len(n)-1] == '!' {
			p.ID, p.Draining = n[:len(n)-1], true
		}
		list = append(list, p)
	}
	return list
}

func TestPick(t *testing.T) {
	for _, c := range []struct {
		name     string
		handlers []string
		self     string
		tried    []string
		want     []string // by turn
	}{
		{"nobody", nil, "me", nil, []string{""}},
		{"round robin", []string{"a", "b", "c"}, "me", nil, []string{"a", "b", "c", "a"}},
		{"local last", []string{"a", "me", "z"}, "me", nil, []string{"a", "z", "a"}},
		{"local alone", []string{"me"}, "me", nil, []string{"me", "me"}},
		{"draining after local", []string{"a!", "me"}, "me", nil, []string{"me", "me"}},
		{"draining where nobody else is", []string{"a!", "me!"}, "me", nil, []string{"a", "a"}},
		{"tried is skipped and its share is spread", []string{"a", "b", "c"}, "me", []string{"a"}, []string{"b", "c", "b"}},
		{"local when others were tried", []string{"a", "me"}, "me", []string{"a"}, []string{"me"}},
		{"all tried", []string{"a", "me"}, "me", []string{"a", "me"}, []string{""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for turn, want := range c.want {
				got := ""
				if p := pick(ranked(c.handlers...), c.self, ranked(c.tried...), uint64(turn)); p != nil {
					got = p.ID
				}
				if got != want {
					t.Errorf("turn %d: %q, want %q", turn, got, want)
				}
			}
		})
	}
}

func TestPickTakesANewIncarnationForAnotherNode(t *testing.T) {
	again := ranked("a")
	again[0].Incarnation = 2
	if p := pick(again, "me", ranked("a"), 0); p != again[0] {
		t.Fatal(p)
	}
}

func TestPickDoesNotAllocate(t *testing.T) {
	handlers, tried := ranked("a", "b", "c", "me", "d!"), ranked("b")
	if n := testing.AllocsPerRun(100, func() { pick(handlers, "me", tried, 7) }); n != 0 {
		t.Fatal(n)
	}
}

// FuzzPick compares pick with an obviously right one: sort everybody by class,
// take the first class that has somebody untried, count to the turn.
func FuzzPick(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7}, uint64(3))
	f.Add([]byte{7, 3}, uint64(0))
	f.Add([]byte{}, uint64(1))
	f.Fuzz(func(t *testing.T, nodes []byte, turn uint64) {
		var handlers, tried []*peer
		for i, b := range nodes {
			p := &peer{Peer: Peer{ID: fmt.Sprintf("n%03d", i), Incarnation: uint64(i + 1), Draining: b&1 != 0}}
			if b&2 != 0 && !slices.ContainsFunc(handlers, func(p *peer) bool { return p.ID == "me" }) {
				p.ID = "me"
			}
			if b&4 != 0 {
				tried = append(tried, p)
			}
			handlers = append(handlers, p)
		}
		var want *peer
		for _, draining := range []bool{false, true} {
			for _, local := range []bool{false, true} {
				var class []*peer
				for _, p := range handlers {
					if p.Draining == draining && (p.ID == "me") == local && !slices.Contains(tried, p) {
						class = append(class, p)
					}
				}
				if want == nil && len(class) > 0 {
					want = class[turn%uint64(len(class))]
				}
			}
		}
		if got := pick(handlers, "me", tried, turn); got != want {
			t.Fatalf("%v turn %d: %v, want %v", nodes, turn, got, want)
		}
	})
}
