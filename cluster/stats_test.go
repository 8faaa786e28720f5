package cluster_test

import (
	"context"
	"errors"
	"testing"

	"github.com/catga/catga-go/cluster"
	"github.com/catga/catga-go/internal/natstest"
)

func TestPausedNodeLeavesWorkToOthers(t *testing.T) {
	m := natstest.Memory(t)
	heard := make(chan string, 100)
	node := func(id string) *cluster.Node {
		n := newNode(t, m, cluster.Config{Node: id})
		cluster.Handle(n, func(context.Context, *cluster.Msg[greeting]) error {
			heard <- id
			return nil
		})
		pricer(n)
		return join(t, n)
	}
	a, b := node("a"), node("b")
	for _, n := range []*cluster.Node{a, b} {
		if err := n.Wait(t.Context(), func(v cluster.View) bool { return len(v.Members) == 2 }); err != nil {
			t.Fatal(err)
		}
	}
	for _, kind := range []string{"greeting", "price.get"} {
		if err := a.Pause(kind); err != nil {
			t.Fatal(err)
		}
	}
	const n = 20
	for range n {
		if err := b.Send(t.Context(), cluster.Any(), greeting{}); err != nil {
			t.Fatal(err)
		}
		if _, err := cluster.Call(t.Context(), b, cluster.Any(), getPrice{"pen"}); err != nil {
			t.Error(err)
		}
		if id := <-heard; id != "b" {
			t.Error("a has worked")
		}
	}
	for _, s := range a.Stats() {
		if !s.Paused || s.Received+s.Calls != 0 {
			t.Errorf("a: %+v", s)
		}
	}
	if s := b.Stats(); len(s) != 2 || s[0].Kind != "greeting" || s[0].Received != n || s[1].Kind != "price.get" || s[1].Calls != n {
		t.Errorf("b: %+v", s)
	}
	// What is for a itself waits for it.
	if err := b.Send(t.Context(), cluster.To("a"), greeting{}); err != nil {
		t.Fatal(err)
	}
	if err := a.Resume("greeting"); err != nil {
		t.Fatal(err)
	}
	if id := <-heard; id != "a" {
		t.Error("handled by", id)
	}
	for what, err := range map[string]error{"pause": a.Pause("no.such"), "resume": a.Resume("no.such")} {
		if !errors.Is(err, cluster.ErrNoHandler) {
			t.Error(what, err)
		}
	}
}
