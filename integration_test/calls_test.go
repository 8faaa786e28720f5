package integration_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/catga/catga-go/cluster"
)

func TestCallIsAnsweredByTheNodeThatIsMeant(t *testing.T) {
	onAllGrounds(t, func(t *testing.T, w *world) {
		caller := w.join(t, "caller", nil)
		w.spawn(t, "p", "test.echo")
		w.spawn(t, "q", "test.echo")
		sees(t, caller, "p and q", online("p", "q"))
		for _, id := range []string{"p", "q"} {
			if got, err := cluster.Call(bounded(t), caller, cluster.To(id), echo{"x"}); err != nil || got != (echoed{id, "x"}) {
				t.Errorf("%+v, %v", got, err)
			}
		}
		answers := map[string]int{}
		for range 10 {
			got, err := cluster.Call(bounded(t), caller, cluster.Any(), echo{"x"})
			if err != nil {
				t.Fatal(err)
			}
			answers[got.Node]++
		}
		if answers["p"] != 5 || answers["q"] != 5 {
			t.Errorf("in turn would be 5 each: %v", answers)
		}
		observer := w.node(t, "", nil)
		if err := observer.Observe(bounded(t)); err != nil {
			t.Fatal(err)
		}
		if got, err := cluster.Call(bounded(t), observer, cluster.To("p"), echo{"y"}); err != nil || got != (echoed{"p", "y"}) {
			t.Errorf("observer: %+v, %v", got, err)
		}
		if _, seen := caller.View().Member(observer.ID()); seen {
			t.Error("an observer is a member")
		}
	})
}

func TestCallFailsOverWhenANodeDies(t *testing.T) {
	onAllGrounds(t, func(t *testing.T, w *world) {
		caller := w.join(t, "caller", nil)
		p := w.spawn(t, "p", "test.echo")
		w.spawn(t, "q", "test.echo")
		sees(t, caller, "p and q", online("p", "q"))
		p.kill()
		// Nobody has told the caller yet: calls that choose p find nobody there.
		for range 20 {
			got, err := cluster.Call(bounded(t), caller, cluster.Any(), echo{"x"}, cluster.Idempotent())
			if err != nil || got.Node != "q" {
				t.Fatalf("%+v, %v", got, err)
			}
		}
	})
}

func TestCallInFlightFailsOverWhenItsNodeDies(t *testing.T) {
	callInFlightFailsOver(t, 10*time.Second, func(t *testing.T, p *process) { t.Helper(); p.kill() })
}

// TestCallInFlightFailsOverWhenItsNodeHangs stops the process while it has the
// calls: they end when it is seen as lost, not at their deadline.
func TestCallInFlightFailsOverWhenItsNodeHangs(t *testing.T) {
	callInFlightFailsOver(t, 20*time.Second, func(t *testing.T, p *process) { t.Helper(); p.pause(t) })
}

// callInFlightFailsOver lets end take away a process that has an idempotent call
// and another one in hand. Within most both must have come to their end.
func callInFlightFailsOver(t *testing.T, most time.Duration, end func(*testing.T, *process)) {
	t.Helper()
	onAllGrounds(t, func(t *testing.T, w *world) {
		caller := w.join(t, "caller", nil)
		p := w.spawn(t, "p", "test.hang")
		sees(t, caller, "p", online("p"))
		type outcome struct {
			got echoed
			err error
		}
		careful, bold := make(chan outcome, 1), make(chan outcome, 1)
		call := func(to chan<- outcome, opts ...cluster.CallOption) {
			got, err := cluster.Call(bounded(t), caller, cluster.Any(), hang{}, opts...)
			to <- outcome{got, err}
		}
		go call(careful)
		go call(bold, cluster.Idempotent())
		for range 2 {
			if line := p.next(t); line.Event != "begun" {
				t.Fatalf("%+v", line)
			}
		}
		// Now there is another one, which answers.
		w.join(t, "q", func(n *cluster.Node) {
			cluster.HandleCall(n, func(context.Context, *cluster.Msg[hang]) (echoed, error) { return echoed{Node: "q"}, nil })
		})
		sees(t, caller, "q", online("q"))
		start := time.Now()
		end(t, p)
		if o := receive(t, bold, "the answer to the idempotent call"); o.err != nil || o.got.Node != "q" {
			t.Errorf("%+v", o)
		}
		if o := receive(t, careful, "the end of the other call"); !errors.Is(o.err, cluster.ErrUnknown) {
			t.Errorf("%+v", o)
		}
		t.Logf("after %v", time.Since(start))
		if took := time.Since(start); took > most {
			t.Errorf("after %v: that is no failover but a timeout", took)
		}
	})
}

func TestHandlerErrorIsNotRetried(t *testing.T) {
	onAllGrounds(t, func(t *testing.T, w *world) {
		runs := make(chan string, 10)
		register := func(n *cluster.Node) {
			cluster.HandleCall(n, func(_ context.Context, m *cluster.Msg[refuse]) (echoed, error) {
				runs <- n.ID()
				return echoed{}, &cluster.HandlerError{Code: m.Body.Code, Message: m.Body.Text}
			})
		}
		a := w.join(t, "a", register)
		w.join(t, "b", register)
		sees(t, a, "b", online("b"))
		_, err := cluster.Call(bounded(t), a, cluster.Any(), refuse{404, "no such thing"}, cluster.Idempotent())
		var refused *cluster.HandlerError
		if !errors.As(err, &refused) || refused.Code != 404 || refused.Message != "no such thing" || refused.Node == "" {
			t.Fatalf("%v", err)
		}
		if errors.Is(err, cluster.ErrUnknown) || errors.Is(err, cluster.ErrNotDelivered) {
			t.Errorf("two outcomes: %v", err)
		}
		if ran := receive(t, runs, "the run"); ran != refused.Node || len(runs) > 0 {
			t.Errorf("ran on %s and %d more, the error names %s", ran, len(runs), refused.Node)
		}
	})
}
