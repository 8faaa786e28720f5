package routing

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/catga/catga-go/internal/natstest"
)

func TestWithdrawnRouterHearsNothing(t *testing.T) {
	m := natstest.Memory(t)
	nc := m.Dial(t)
	r, err := New(nc, Config{Cluster: "c", Node: "n"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	r.Handle("k", func(context.Context, *Msg[Raw]) (Raw, error) { return Raw{Data: []byte("yes")}, nil }, HandleOptions{Reply: true})
	_, _ = nc.Request("nobody", nil, time.Second) // the connection's own inbox is there from now on
	idle := nc.NumSubscriptions()
	for range 2 {
		if err := r.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		if nc.NumSubscriptions() == idle {
			t.Fatal("a prepared router listens")
		}
		r.Withdraw()
		if n := nc.NumSubscriptions(); n != idle {
			t.Errorf("%d subscriptions are left", n-idle)
		}
	}
	if err := r.Send(t.Context(), To("n"), Raw{Name: "k"}, SendOptions{}); !errors.Is(err, ErrNotJoined) {
		t.Error(err)
	}
	// It can still become a node.
	if err := r.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.Start(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	r.Update([]Change{{Kind: Up, Peer: Peer{ID: "n", Incarnation: 1, Kinds: []string{"k"}}}})
	r.Withdraw() // too late: nothing happens
	if got, err := r.Call(t.Context(), To("n"), Raw{Name: "k"}, CallOptions{}); err != nil || string(got.Data) != "yes" {
		t.Error(got, err)
	}
}
