package integration_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/catga/catga-go/cluster"
	"github.com/catga/catga-go/internal/natstest"
)

// prompt is how soon a verb returns after its ctx has ended; the rest is room
// for a busy machine.
const prompt, room = 100 * time.Millisecond, 900 * time.Millisecond

// cancelled runs verb with a ctx that is cancelled while it waits, and returns
// its error; it fails the test when verb takes long.
func cancelled(t *testing.T, what string, waits <-chan struct{}, verb func(ctx context.Context) error) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	result := make(chan error, 1)
	go func() { result <- verb(ctx) }()
	if waits != nil {
		receive(t, waits, what+" to wait")
	}
	cancel()
	start := time.Now()
	err := receive(t, result, what+" to return")
	if took := time.Since(start); took > prompt+room {
		t.Errorf("%s returned %v after its ctx had ended", what, took)
	}
	return err
}

func TestCancelledVerbsReturnWithTheirOutcome(t *testing.T) {
	onAllGrounds(t, func(t *testing.T, w *world) {
		begun := make(chan struct{}, 10)
		n := w.join(t, "n", func(n *cluster.Node) {
			handlers["test.hang"](n, func(said) { begun <- struct{}{} })
			handlers["test.note"](n, func(said) {})
		})
		ended, cancel := context.WithCancel(t.Context())
		cancel()

		// Before anything was sent: not delivered.
		for what, verb := range map[string]func(context.Context) error{
			"Send":            func(ctx context.Context) error { return n.Send(ctx, cluster.Any(), note{}) },
			"Send To":         func(ctx context.Context) error { return n.Send(ctx, cluster.To("n"), note{}) },
			"Broadcast":       func(ctx context.Context) error { return n.Broadcast(ctx, note{}) },
			"Send AtMostOnce": func(ctx context.Context) error { return n.Send(ctx, cluster.All(), note{}, cluster.AtMostOnce()) },
			"Call": func(ctx context.Context) error {
				_, err := cluster.Call(ctx, n, cluster.Any(), hang{})
				return err
			},
		} {
			err := verb(ended)
			if !errors.Is(err, cluster.ErrNotDelivered) || !errors.Is(err, context.Canceled) {
				t.Errorf("%s with a ctx that has ended: %v", what, err)
			}
		}
		if got := stored(t, w, n); got != 0 {
			t.Errorf("%d messages are stored", got)
		}
		// While a handler has it: unknown.
		err := cancelled(t, "Call", begun, func(ctx context.Context) error {
			_, err := cluster.Call(ctx, n, cluster.Any(), hang{}, cluster.Idempotent())
			return err
		})
		if !errors.Is(err, cluster.ErrUnknown) || !errors.Is(err, context.Canceled) {
			t.Errorf("Call: %v", err)
		}
		// Verbs that wait for nothing to happen.
		if err := cancelled(t, "Wait", nil, func(ctx context.Context) error {
			return n.Wait(ctx, func(cluster.View) bool { return false })
		}); !errors.Is(err, context.Canceled) {
			t.Errorf("Wait: %v", err)
		}
		synced := make(chan struct{}, 1)
		if err := cancelled(t, "Watch", synced, func(ctx context.Context) error {
			for ev := range n.Watch(ctx) {
				if ev.Kind == cluster.Synced {
					synced <- struct{}{}
				}
			}
			return nil
		}); err != nil {
			t.Errorf("Watch: %v", err)
		}
	})
}

func TestCancelledVerbsReturnWhileNATSIsAway(t *testing.T) {
	onAllGrounds(t, func(t *testing.T, w *world) {
		proxy := natstest.NewProxy(t, firstURL(w.url))
		nc, err := cluster.Dial(bounded(t), proxy.URL())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		n := w.nodeOver(t, nc, "n", func(n *cluster.Node) {
			handlers["test.echo"](n, func(said) {})
			handlers["test.note"](n, func(said) {})
		})
		if err := n.Join(bounded(t)); err != nil {
			t.Fatal(err)
		}
		// Only the node's own server is away; the rest of a cluster is there,
		// and its addresses are not known to this connection.
		proxy.Refuse()
		natstest.Eventually(t, "disconnected", func() bool { return !nc.IsConnected() })
		waiting := func() <-chan struct{} {
			c := make(chan struct{})
			time.AfterFunc(50*time.Millisecond, func() { close(c) })
			return c
		}
		for what, verb := range map[string]func(context.Context) error{
			"Send":        func(ctx context.Context) error { return n.Send(ctx, cluster.Any(), note{}) },
			"Call":        func(ctx context.Context) error { _, err := cluster.Call(ctx, n, cluster.To("n"), echo{}); return err },
			"SetMetadata": func(ctx context.Context) error { return n.SetMetadata(ctx, map[string]string{"a": "b"}) },
		} {
			err := cancelled(t, what, waiting(), verb)
			if err == nil {
				t.Errorf("%s succeeded without NATS", what)
			}
			if what != "SetMetadata" && !errors.Is(err, cluster.ErrNotDelivered) && !errors.Is(err, cluster.ErrUnknown) {
				t.Errorf("%s: %v", what, err)
			}
		}
		other, err := cluster.New(nc, cluster.Config{Cluster: w.cluster, Node: "other"})
		if err != nil {
			t.Fatal(err)
		}
		if err := cancelled(t, "Join", waiting(), other.Join); err == nil {
			t.Error("Join succeeded without NATS")
		}
		if err := other.Close(); err != nil {
			t.Error(err)
		}
		if err := cancelled(t, "Leave", waiting(), n.Leave); err == nil {
			t.Error("Leave said goodbye without NATS")
		}
		proxy.Accept()
	})
}
