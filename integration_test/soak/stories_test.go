package soak_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/catga/catga-go/internal/natstest"
)

// A checker that complains about nothing is worth nothing. Each story is a good
// history that one thing was done to.

var begin = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func after(seconds float64) time.Time {
	return begin.Add(time.Duration(seconds * float64(time.Second)))
}

func saw(seconds float64, kind, id string, incarnation uint64) sight {
	return sight{At: after(seconds), Kind: kind, ID: id, Incarnation: incarnation}
}

// good is a history of three nodes: b is killed after 20 seconds and comes back
// after 30; c is stopped from 40 to 48, taken for dead, and comes back; d leaves
// after 60 seconds. a sees all of it; so does an observer.
func good() *history {
	events := func() []sight {
		return []sight{
			saw(1, "Joined", "a", 11), saw(1, "Synced", "", 0), saw(2, "Joined", "b", 12), saw(2, "Joined", "c", 13), saw(2, "Joined", "d", 14),
			saw(10, "Updated", "b", 12), saw(20.5, "Lost", "b", 12), saw(31, "Joined", "b", 30), saw(45.5, "Lost", "c", 13), saw(48, "Joined", "c", 48),
			saw(60, "Left", "d", 14),
		}
	}
	end := func() *table { return &table{Members: map[string]uint64{"a": 11, "b": 30, "c": 48}} }
	views := func() []look { return []look{{11, "x"}, {12, "y"}, {30, "z"}} }
	return &history{
		runs: []*run{
			{id: "a", begin: after(0), lives: []uint64{11}},
			{id: "b", begin: after(1), end: after(20), killed: true, lives: []uint64{12}},
			{id: "b", begin: after(30), lives: []uint64{30}},
			{id: "c", begin: after(1), lives: []uint64{13, 48}},
			{id: "d", begin: after(1), end: after(60.1), left: true, lives: []uint64{14}},
		},
		away:    map[string][]span{"c": {{from: after(40), to: after(48)}}},
		offline: map[string][]period{},
		seers: []*seer{
			{id: "a", begin: after(0), events: events(), views: views(), last: end()},
			{id: "observer", begin: after(0), events: events(), views: views(), last: end()},
		},
		end: after(200),
	}
}

func TestCheckerBelievesAGoodHistory(t *testing.T) {
	if complaints := check(good()); len(complaints) > 0 {
		t.Error(complaints)
	}
}

func TestCheckerComplains(t *testing.T) {
	// replace puts other events, or none, in the place of the n-th of both seers.
	replace := func(h *history, n int, with ...sight) {
		for _, s := range h.seers {
			s.events = slices.Replace(s.events, n, n+1, with...)
		}
	}
	for _, story := range []struct {
		name  string
		spoil func(h *history)
		want  string
	}{
		{"a live node is taken for dead", func(h *history) { h.away = nil }, "c/13: Lost"},
		{"a node is taken for dead after a short silence", func(h *history) {
			h.away["c"] = []span{{from: after(44), to: after(45.9)}}
		}, "c/13: Lost"},
		{"a node is taken for dead long after its silence", func(h *history) {
			h.away["c"] = []span{{from: after(30), to: after(40)}}
		}, "c/13: Lost"},
		{"a node is taken for dead because of a server", func(h *history) {
			h.away, h.servers = nil, []span{{from: after(38), to: after(45)}}
		}, "c/13: Lost"},
		{"somebody who left is taken for dead", func(h *history) { replace(h, 10, saw(60, "Lost", "d", 14)) }, "d/14: Lost ( by ), and it had left"},
		{"who was killed is said to have left", func(h *history) { replace(h, 6, saw(20.5, "Left", "b", 12)) }, "b/12: Left, and it was killed"},
		{"who lives is said to have left", func(h *history) { replace(h, 8, saw(45.5, "Left", "c", 13)) }, "c/13: Left, and it never did"},
		{"one ending for one, another for another", func(h *history) { h.seers[0].events[6].Kind = "Left" }, "for one"},
		{"a death that nobody sees", func(h *history) { replace(h, 6) }, "the end of b/12 at 12:00:20.000 was never seen"},
		{"a death that is seen too late", func(h *history) { h.seers[1].events[6].At = after(51) }, "was seen after 31s"},
		{"a goodbye that nobody hears", func(h *history) { replace(h, 10) }, "the end of d/14"},
		{"no ending before the next life", func(h *history) { replace(h, 8) }, "c/48 Joined while incarnation 13 was there"},
		{"two endings", func(h *history) {
			replace(h, 6, saw(20.5, "Lost", "b", 12), saw(20.6, "Lost", "b", 12))
		}, "b/12 Lost after it was Lost"},
		{"an ending without a beginning", func(h *history) { replace(h, 2) }, "b/12 Lost, and incarnation 0 is there"},
		{"an update after the end", func(h *history) {
			replace(h, 6, saw(20.5, "Lost", "b", 12), saw(20.6, "Updated", "b", 12))
		}, "b/12 Updated, and incarnation 0 is there"},
		{"a second beginning", func(h *history) {
			replace(h, 6, saw(20.5, "Lost", "b", 12), saw(20.6, "Joined", "b", 12))
		}, "b/12 Joined after it was Lost"},
		{"a later life with a smaller number", func(h *history) {
			h.runs[2].lives[0] = 9
			replace(h, 7, saw(31, "Joined", "b", 9))
		}, "b/9 Joined after incarnation 12"},
		{"never synced", func(h *history) { replace(h, 1) }, "never Synced"},
		{"synced twice", func(h *history) { replace(h, 1, saw(1, "Synced", "", 0), saw(1, "Synced", "", 0)) }, "Synced twice"},
		{"news of somebody else's eviction", func(h *history) { replace(h, 5, saw(10, "Evicted", "b", 12)) }, "told that b was evicted"},
		{"an unknown event", func(h *history) { replace(h, 5, saw(10, "Burnt", "b", 12)) }, `kind "Burnt"`},
		{"somebody who was never there", func(h *history) { replace(h, 5, saw(10, "Joined", "ghost", 1)) }, "ghost/1 Joined, and there was no such process"},
		{"a life that its process does not have", func(h *history) { h.runs[3].lives = []uint64{13} }, "c/48 Joined, and there was no such process"},
		{"equal revisions, other views", func(h *history) { h.seers[1].views[1].Digest = "other" }, "revision 12"},
		{"somebody missing at the end", func(h *history) { delete(h.seers[0].last.Members, "b") }, "a: sees"},
		{"somebody too many at the end", func(h *history) { h.seers[0].last.Members["d"] = 14 }, "a: sees"},
		{"another incarnation at the end", func(h *history) { h.seers[1].last.Members["c"] = 13 }, "observer: sees"},
		{"stale at the end", func(h *history) { h.seers[1].last.Stale = true }, "observer: its view is stale"},
		{"no view at the end", func(h *history) { h.seers[1].last = nil }, "observer: has no view"},
	} {
		t.Run(story.name, func(t *testing.T) {
			h := good()
			story.spoil(h)
			complaints := check(h)
			if !slices.ContainsFunc(complaints, func(c string) bool { return strings.Contains(c, story.want) }) {
				t.Errorf("complaints %q, none with %q", complaints, story.want)
			}
		})
	}
}

// What the checker must let pass.
func TestCheckerExcuses(t *testing.T) {
	for _, story := range []struct {
		name  string
		spoil func(h *history)
	}{
		{"a connection that was closed for longer than the grace", func(h *history) {
			h.away["c"] = []span{{from: after(44.6), to: after(45.9), closed: true}}
		}},
		{"two silences that follow each other closely", func(h *history) {
			h.away["c"] = []span{{from: after(42), to: after(43.5)}, {from: after(44), to: after(45.4)}}
		}},
		{"a verdict that a server kept while it stood still", func(h *history) {
			h.away["c"] = []span{{from: after(33), to: after(37)}}
			h.servers = []span{{from: after(36.9), to: after(45)}}
		}},
		{"a seer that was away sees a death later", func(h *history) {
			h.seers[1].events[6].At = after(55)
			h.away["observer"] = []span{{from: after(19), to: after(26)}}
		}},
		{"a process that died before it told its incarnation", func(h *history) { h.runs[1].lives = nil }},
		{"a process that came back and died before it told its incarnation", func(h *history) {
			c := h.runs[3]
			c.lives, c.end, c.killed = []uint64{13}, after(49), true
			for _, s := range h.seers {
				s.events = slices.Insert(s.events, 10, saw(49.5, "Lost", "c", 48))
				delete(s.last.Members, "c")
			}
		}},
		{"a death so late that not everybody has seen it", func(h *history) { h.seers[0].events = h.seers[0].events[:10]; h.end = after(61) }},
	} {
		t.Run(story.name, func(t *testing.T) {
			h := good()
			story.spoil(h)
			if complaints := check(h); len(complaints) > 0 {
				t.Error(complaints)
			}
		})
	}
}

func TestScriptIsAFunctionOfTheSeed(t *testing.T) {
	const length = 10 * time.Minute
	a := script(1, length, 6, 3)
	if !slices.Equal(a, script(1, length, 6, 3)) || slices.Equal(a, script(2, length, 6, 3)) {
		t.Error("the same seed must give the same script, another one another")
	}
	short := script(1, length/3, 6, 3)
	if !slices.Equal(a[:len(short)], short) {
		t.Error("a shorter script must be the beginning of a longer one")
	}
	count := map[act]int{}
	away := make([]time.Duration, 6)
	for _, f := range a {
		count[f.what]++
		if f.what == serverKill || f.what == serverStop || f.what == serverRestart {
			continue
		}
		if f.at < away[f.target] {
			t.Errorf("%v: the node has a fault until %v", f, away[f.target])
		}
		away[f.target] = f.at + f.lasts
		well := 0
		for _, until := range away {
			if until <= f.at {
				well++
			}
		}
		if well < healthy {
			t.Errorf("%v: only %d nodes have no fault", f, well)
		}
	}
	for _, what := range []act{kill, leave, stop, drop, refuse, hold, serverKill, serverStop, serverRestart} {
		if count[what] < 5 {
			t.Errorf("in ten minutes there is only %d times %q: %v", count[what], what, slices.Sorted(maps.Keys(count)))
		}
	}
}

// A node that was cut off by the script is away until it is back, by its own
// word; one whose server was down is not.
func TestReconnectsExtendWhatTheScriptDid(t *testing.T) {
	for _, story := range []struct {
		name   string
		tell   func(h *history)
		excuse bool
	}{
		{"lost with its server", func(h *history) {
			h.disconnected("c", after(40))
			h.reconnected("c", after(47))
		}, false},
		{"dropped, and soon back", func(h *history) {
			h.disconnected("c", after(44.1))
			h.reconnected("c", after(44.3))
		}, false},
		{"dropped, and back after the verdict", func(h *history) {
			h.disconnected("c", after(44.1))
			h.reconnected("c", after(45.7))
		}, true},
		{"dropped, and never back", func(h *history) { h.disconnected("c", after(44.1)) }, true},
		{"dropped, and killed before it was back", func(h *history) {
			h.disconnected("c", after(44.1))
			h.runs[3].end, h.runs[3].lives = after(45.6), []uint64{13}
			h.runs = append(h.runs, &run{id: "c", begin: after(46), lives: []uint64{48}})
		}, true},
	} {
		t.Run(story.name, func(t *testing.T) {
			h := good()
			h.away["c"] = []span{{from: after(44), to: after(44), closed: true}}
			story.tell(h)
			if complaints := check(h); (len(complaints) == 0) != story.excuse {
				t.Errorf("excused must be %v: %q", story.excuse, complaints)
			}
		})
	}
}

// A node whose connection is dropped while its server stands still tells since
// when it has none, however many attempts it makes.
func TestNodesTellHowLongTheyHadNoConnection(t *testing.T) {
	server := natstest.Start(t)
	w := newWorld(t, "links", []*natstest.Server{server}, 1)
	n := w.nodes[0]
	w.spawn(n)
	natstest.Eventually(t, "the node has joined", func() bool { return w.there(n) })
	server.Pause()
	dropped := time.Now()
	n.proxies[0].Drop()
	// An attempt to connect ends after two seconds: the second one is under way.
	<-time.After(2500 * time.Millisecond)
	resumed := time.Now()
	server.Resume()
	var told period
	natstest.Eventually(t, "the node tells that it has a connection again", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.history.offline[n.id]) == 0 {
			return false
		}
		told = w.history.offline[n.id][0]
		return !told.To.IsZero()
	})
	if late := told.From.Sub(dropped); late > time.Second || told.To.Before(resumed) {
		t.Errorf("no connection from %v after it was dropped until %v after the server went on", late, told.To.Sub(resumed))
	}
}
