package routing

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/natstest"
)

// TestCallInFlightAtAKilledProcess ends a process with SIGKILL while it has the
// call in hand. The registry is played by the test.
func TestCallInFlightAtAKilledProcess(t *testing.T) {
	s := natstest.Start(t)
	node := func(id string, setup func(*Router)) *Router {
		r, err := New(natstest.Dial(t, s.URL()), Config{Cluster: "c", Node: id})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close() })
		if setup != nil {
			setup(r)
		}
		if err := errors.Join(r.Prepare(t.Context()), r.Start(t.Context(), 1)); err != nil {
			t.Fatal(err)
		}
		return r
	}
	a := node("a", nil)
	node("z", answering(named("z"), "work"))

	type result struct {
		answer string
		err    error
		at     time.Time
	}
	for _, idempotent := range []bool{false, true} {
		c := startChild(t, s.URL(), "b", "hold")
		b := up("b", uint64(c.cmd.Process.Pid), "work")
		a.Update([]Change{b})
		done := make(chan result, 1)
		go func() {
			got, err := a.Call(context.Background(), Any(), Raw{Name: "work"}, CallOptions{Idempotent: idempotent})
			done <- result{string(got.Data), err, time.Now()}
		}()
		c.expect("holds 1")
		a.Update([]Change{up("z", 1, "work")})
		c.kill()
		// Nobody has told the caller yet: to the others the process may only be
		// slow. What is new goes elsewhere by itself.
		natstest.Eventually(t, "the server has seen the end", func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			_, err := a.nc.RequestWithContext(ctx, "catga.c.call.node.b.work", nil)
			return errors.Is(err, nats.ErrNoResponders)
		})
		for range 4 {
			if got, err := a.Call(t.Context(), Any(), Raw{Name: "work"}, CallOptions{}); err != nil || string(got.Data) != "z" {
				t.Error(got, err)
			}
		}
		select {
		case r := <-done:
			t.Fatal("ended before the node was lost:", r.answer, r.err)
		default:
		}
		told := time.Now()
		a.Update([]Change{lost(b)})
		r := <-done
		t.Logf("idempotent %v: ended %v after the news", idempotent, r.at.Sub(told))
		switch {
		case idempotent && (r.err != nil || r.answer != "z"):
			t.Error(r)
		case !idempotent && !errors.Is(r.err, ErrUnknown):
			t.Error(r)
		}
		a.Update([]Change{left(up("z", 1, "work"))})
	}
}
