package integration_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/cluster"
)

// answers are the pairs of a gather as "node answer", sorted.
func answers(t *testing.T, from *cluster.Node, to cluster.Many, text string) string {
	t.Helper()
	var got []string
	for a, err := range cluster.Gather(bounded(t), from, to, echo{text}) {
		if err != nil || a.Body.Node != a.Node {
			t.Errorf("%+v, %v", a, err)
		}
		got = append(got, a.Node+" "+a.Body.Text)
	}
	slices.Sort(got)
	return strings.Join(got, ", ")
}

func TestGatherAsksEveryNodeThatIsMeant(t *testing.T) {
	onAllGrounds(t, func(t *testing.T, w *world) {
		caller := w.join(t, "caller", nil)
		for _, id := range []string{"p", "q", "r"} {
			s := nodeSpec{ID: id, Kinds: []string{"test.echo"}, Metadata: map[string]string{"zone": id}}
			if line := w.spawnNoWait(t, s).next(t); line.Event != "joined" {
				t.Fatalf("%+v", line)
			}
		}
		sees(t, caller, "p, q and r", online("p", "q", "r"))
		observer := w.node(t, "", nil)
		if err := observer.Observe(bounded(t)); err != nil {
			t.Fatal(err)
		}
		for _, from := range []*cluster.Node{caller, observer} {
			for _, text := range []string{"x", strings.Repeat("large ", 10_000)} {
				for _, c := range []struct {
					to   cluster.Many
					want []string
				}{
					{cluster.All(), []string{"p", "q", "r"}},
					{cluster.Others(), []string{"p", "q", "r"}},
					{cluster.Nodes("q"), []string{"q"}},
					{cluster.All(cluster.Where("zone notin (p,q)")), []string{"r"}},
				} {
					var want []string
					for _, id := range c.want {
						want = append(want, id+" "+text)
					}
					if got := answers(t, from, c.to, text); got != strings.Join(want, ", ") {
						t.Errorf("%s: %.200s", from.ID(), got)
					}
				}
			}
		}
	})
}

// TestGatherGoesOnWhenNodesDie: of three nodes that have the request in hand one
// is killed, one hangs as a whole, and one answers. Everybody is named, long
// before the context ends.
func TestGatherGoesOnWhenNodesDie(t *testing.T) {
	onAllGrounds(t, func(t *testing.T, w *world) {
		caller := w.join(t, "caller", nil)
		killed := w.spawn(t, "killed", "test.hang")
		hangs := w.spawn(t, "hangs", "test.hang")
		w.spawn(t, "other", "test.echo")
		w.join(t, "answers", func(n *cluster.Node) {
			cluster.HandleCall(n, func(context.Context, *cluster.Msg[hang]) (echoed, error) { return echoed{Node: "answers"}, nil })
		})
		sees(t, caller, "all", online("killed", "hangs", "other", "answers"))
		type end struct {
			err error
			at  time.Time
		}
		ends := make(chan map[string]end, 1)
		go func() {
			got := map[string]end{}
			for a, err := range cluster.Gather(bounded(t), caller, cluster.All(), hang{}) {
				got[a.Node] = end{err, time.Now()}
			}
			ends <- got
		}()
		for _, p := range []*process{killed, hangs} {
			if line := p.next(t); line.Event != "begun" {
				t.Fatalf("%+v", line)
			}
		}
		killedAt := time.Now()
		killed.kill()
		hangs.pause(t)
		got := receive(t, ends, "the end of the gather")
		for _, id := range []string{"killed", "hangs"} {
			e := got[id]
			known := strings.Contains(fmt.Sprint(e.err), "gone") // Lost
			if id == "killed" {
				known = known || errors.Is(e.err, nats.ErrNoResponders) // or looked for, and not there
			}
			if !errors.Is(e.err, cluster.ErrUnknown) || errors.Is(e.err, cluster.ErrNotDelivered) || !known {
				t.Errorf("%s: %v", id, e.err)
			}
			took := e.at.Sub(killedAt)
			t.Logf("%s: named after %v", id, took)
			if took > limit/2 {
				t.Errorf("%s: named after %v: that is no failover but a timeout", id, took)
			}
		}
		if e, ok := got["answers"]; len(got) != 3 || !ok || e.err != nil {
			t.Error(got)
		}
		// The next gather does not ask them.
		if got := answers(t, caller, cluster.All(), "x"); got != "other x" {
			t.Error(got)
		}
	})
}
