package soak_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/catga/catga-go/cluster"
	"github.com/catga/catga-go/internal/natstest"
)

// convergence bounds how long after the last fault everybody sees the truth.
const convergence = time.Minute

func TestSoakOnOneServer(t *testing.T) {
	t.Parallel()
	soak(t, "one", []*natstest.Server{natstest.Start(t)})
}

func TestSoakOnThreeServers(t *testing.T) {
	if testing.Short() {
		t.Skip("short: one server only")
	}
	t.Parallel()
	soak(t, "three", natstest.StartCluster(t, 3).Servers)
}

// soak lets faults happen for a time, and then checks the history.
func soak(t *testing.T, name string, servers []*natstest.Server) {
	seed := cmp.Or(*seed, rand.Uint64())
	length := *length
	if testing.Short() {
		length = min(length, 5*time.Second)
	}
	t.Logf("to repeat: -run '^%s$' -soak %v -nodes %d -seed %d", t.Name(), length, *numNodes, seed)
	w := newWorld(t, name, servers, *numNodes)
	ctx, cancel := context.WithCancel(t.Context())
	defer w.wg.Wait()
	defer cancel()

	observers := map[string]*cluster.Node{}
	for _, id := range []string{"observer-1", "observer-2"} {
		observers[id] = w.observe(ctx, id)
	}
	for _, n := range w.nodes {
		w.spawn(n)
	}
	formed, stop := context.WithTimeout(ctx, convergence)
	defer stop()
	w.converged(formed, observers)

	w.begin = time.Now()
	for _, f := range script(seed, length, len(w.nodes), len(servers)) {
		w.at(w.begin.Add(f.at), func() { w.do(f) })
	}
	w.play()
	for _, s := range servers {
		s.WaitReady(t)
	}
	w.logf("no more faults")
	calm, stop := context.WithTimeout(ctx, convergence)
	defer stop()
	took := w.converged(calm, observers)

	w.mu.Lock()
	defer w.mu.Unlock()
	w.history.end = time.Now()
	w.logf("everybody sees the truth after %v: %s", took.Round(time.Millisecond), w.history.summary())
	for _, complaint := range check(&w.history) {
		t.Error(complaint)
	}
}

// summary says how much there was to check.
func (h *history) summary() string {
	events, views, lost, left := 0, 0, map[life]bool{}, map[life]bool{}
	for _, s := range h.seers {
		events, views = events+len(s.events), views+len(s.views)
		for _, e := range s.events {
			switch e.Kind {
			case "Lost":
				lost[life{e.ID, e.Incarnation}] = true
			case "Left":
				left[life{e.ID, e.Incarnation}] = true
			}
		}
	}
	away := 0
	for _, spans := range h.away {
		away += len(spans)
	}
	text := fmt.Sprintf("%d processes, %d times away, %d server faults, %d lost, %d left, %d events, %d views",
		len(h.runs), away, len(h.servers), len(lost), len(left), events, views)
	if times := h.deathTimes(); len(times) > 0 {
		text += fmt.Sprintf("; deaths seen by all after %v, median %v, worst %v",
			times[0].Round(time.Millisecond), times[len(times)/2].Round(time.Millisecond), times[len(times)-1].Round(time.Millisecond))
	}
	return text
}
