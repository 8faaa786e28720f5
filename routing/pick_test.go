package routing

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

func TestLeastPendingTakesTheOneWithFewerOfTwo(t *testing.T) {
	// 5 nodes of the best class with 0..4 calls in flight; the others are idle
	// and of a worse one.
	handlers := ranked("n4", "me", "n0", "old!", "n3", "n1", "n2", "tried")
	for _, p := range handlers {
		p.pending = new(atomic.Int64)
		if p.ID[0] == 'n' {
			p.pending.Store(int64(p.ID[1] - '0'))
		}
	}
	rank := ranking{handlers: handlers, self: "me", tried: ranked("tried")}
	count := map[string]int{}
	for i := range uint64(5) {
		for j := range uint64(4) {
			count[rank.leastPending(j<<32|i).ID]++
		}
	}
	// Every ordered pair of two different ones came once; the idler one won.
	if fmt.Sprint(count) != "map[n0:8 n1:6 n2:4 n3:2]" {
		t.Error(count)
	}
	for name, want := range map[string]string{"one": "a", "local alone": "me", "nobody": "", "draining": "a", "all tried": ""} {
		rank := map[string]ranking{
			"one":         {handlers: ranked("a", "me"), self: "me"},
			"local alone": {handlers: ranked("me", "a!"), self: "me"},
			"nobody":      {},
			"draining":    {handlers: ranked("a!")},
			"all tried":   {handlers: ranked("a"), tried: ranked("a")},
		}[name]
		got := ""
		if p := rank.leastPending(7<<40 + 3); p != nil {
			got = p.ID
		}
		if got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { rank.leastPending(7) }); n != 0 {
		t.Error(n, "allocations")
	}
}

func TestLocalFirst(t *testing.T) {
	for _, c := range []struct {
		handlers, tried, want string // by turn
	}{
		{"a me b", "", "me me me"},
		{"a me b", "me", "a b a"},
		{"a me! b", "", "a b a"},
		{"a! me!", "", "me me me"},
		{"a b", "", "a b a"},
	} {
		rank := ranking{handlers: ranked(strings.Fields(c.handlers)...), tried: ranked(strings.Fields(c.tried)...), self: "me", localFirst: true}
		var got []string
		for turn := range uint64(3) {
			got = append(got, rank.inTurn(turn).ID)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s without %s: %v, want %s", c.handlers, c.tried, got, c.want)
		}
	}
}

func TestCallsGoWhereTheirStrategySays(t *testing.T) {
	w := newTown(t)
	for _, id := range []string{"a", "b", "c"} {
		w.node(id, answering(named(id), "who"))
	}
	a := w.open()
	w.tell(upIn("b", 2, "x", "who"))
	who := func(to One, s Strategy) string {
		t.Helper()
		got, err := a.Call(t.Context(), to, Raw{Name: "who"}, CallOptions{Pick: s})
		if err != nil {
			return err.Error()
		}
		return string(got.Data)
	}
	for range 3 {
		if got := who(Any(), LocalFirst); got != "a" {
			t.Error("local first:", got)
		}
		if got := who(Any(), LeastPending); got != "b" && got != "c" {
			t.Error("least pending:", got)
		}
		if got := who(Any(Where("x=1")), LocalFirst); got != "b" {
			t.Error("selected:", got)
		}
	}
	var seen []string
	own := func(answer string) PickFunc {
		return func(kind string, candidates []Peer) string {
			seen = []string{kind}
			for _, p := range candidates {
				seen = append(seen, p.ID+p.Metadata["zone"])
			}
			return answer
		}
	}
	if got := who(Any(), own("c")); got != "c" || !slices.Equal(seen, []string{"who", "a", "bx", "c"}) {
		t.Error("own function:", got, seen)
	}
	if got := who(Any(Where("zone=x")), own("b")); got != "b" || !slices.Equal(seen, []string{"who", "bx"}) {
		t.Error("own function and a selector:", got, seen)
	}
	if got := who(To("b"), own("c")); got != "b" {
		t.Error("one node is no choice:", got)
	}
	if got := who(Any(), PickFunc(nil)); got == "a" {
		t.Error("no function is the default:", got)
	}
	for _, id := range []string{"", "z"} {
		_, err := a.Call(t.Context(), Any(), Raw{Name: "who"}, CallOptions{Pick: own(id)})
		if !errors.Is(err, ErrNotDelivered) || !errors.Is(err, ErrNoMember) {
			t.Errorf("chose %q: %v", id, err)
		}
	}
	for _, p := range a.peers.Load().online {
		if n := p.pending.Load(); n != 0 {
			t.Errorf("%d calls to %s are in flight", n, p.ID)
		}
	}
}

// TestNoStrategyAsksANodeTwice: the nodes that nobody is are tried once each.
func TestNoStrategyAsksANodeTwice(t *testing.T) {
	for name, s := range map[string]Strategy{
		"least pending": LeastPending,
		"local first":   LocalFirst,
		"own function":  PickFunc(func(_ string, candidates []Peer) string { return candidates[0].ID }),
	} {
		t.Run(name, func(t *testing.T) {
			w := newTown(t)
			caller := w.node("me", nil)
			w.node("z", answering(named("z"), "k"))
			w.open()
			w.tell(ghost("a", "k"), ghost("b", "k"), ghost("c!", "j"))
			for range 5 {
				got, err := caller.Call(t.Context(), Any(), Raw{Name: "k"}, CallOptions{Pick: s})
				if err != nil || string(got.Data) != "z" {
					t.Fatal(got, err)
				}
			}
		})
	}
}

// TestLeastPendingCountsWhatIsInFlight: calls that wait at a node send the next
// ones elsewhere.
func TestLeastPendingCountsWhatIsInFlight(t *testing.T) {
	w := newTown(t)
	caller := w.node("me", nil)
	g := newGate(t)
	w.node("busy", answering(g.handle, "k"))
	w.node("free", answering(named("free"), "k"))
	w.open()
	done := make(chan error, 1)
	go func() {
		_, err := caller.Call(context.WithoutCancel(t.Context()), To("busy"), Raw{Name: "k"}, CallOptions{})
		done <- err
	}()
	<-g.entered
	for range 20 {
		got, err := caller.Call(t.Context(), Any(), Raw{Name: "k"}, CallOptions{Pick: LeastPending})
		if err != nil || string(got.Data) != "free" {
			t.Fatal(got, err)
		}
	}
	// A change of its metadata is no new node.
	w.tell(upIn("busy", 2, "x", "k"))
	if n := caller.peers.Load().byID["busy"].pending.Load(); n != 1 {
		t.Error(n, "calls in flight")
	}
	g.release()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
