package routing

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/nats-io/nats.go"
)

func TestCastReachesWhoItIsFor(t *testing.T) {
	w := newTown(t)
	heard := make(chan string, 100)
	for _, id := range []string{"a", "b", "c"} {
		w.node(id, func(r *Router) {
			r.Handle("k", func(_ context.Context, m *Msg[Raw]) (Raw, error) {
				if string(m.Body.Data) == "sync" {
					return Raw{}, nil
				}
				if m.From != "a" || string(m.Body.Data) != "x" || m.Attempt != 1 {
					heard <- "wrong"
				}
				heard <- id + m.ID
				return Raw{Data: []byte("dropped")}, nil
			}, HandleOptions{Reply: true})
		})
	}
	w.node("deaf", nil)
	a := w.open()
	for _, c := range []struct {
		name string
		to   Target
		o    SendOptions
		want []string
	}{
		{"To", To("b"), SendOptions{}, []string{"b"}},
		{"To with an id", To("b"), SendOptions{ID: "7"}, []string{"b7"}},
		{"Any", Any(), SendOptions{}, []string{"b"}},
		{"Any, next", Any(), SendOptions{}, []string{"c"}},
		{"All", All(), SendOptions{}, []string{"a", "b", "c"}},
		{"Others", Others(), SendOptions{}, []string{"b", "c"}},
		{"Nodes", Nodes("c", "a", "c"), SendOptions{ID: "8"}, []string{"a8", "c8"}},
		{"To itself", To("a"), SendOptions{}, []string{"a"}},
	} {
		if err := a.cast(t.Context(), c.to, Raw{Name: "k", Data: []byte("x")}, c.o); err != nil {
			t.Fatal(c.name, err)
		}
		var got []string
		for range c.want {
			got = append(got, <-heard)
		}
		for _, id := range []string{"a", "b", "c"} { // so that one too many is heard as well
			w.sync(id)
		}
		for len(heard) > 0 {
			got = append(got, <-heard)
		}
		if slices.Sort(got); !slices.Equal(got, c.want) {
			t.Errorf("%s: heard by %v, want %v", c.name, got, c.want)
		}
	}
	if n := a.calls.replies.Load().waiting(); n != 0 {
		t.Error(n, "wait for an answer")
	}
}

// sync returns when node id has taken everything that arrived before.
func (w *town) sync(id string) {
	w.t.Helper()
	nc := w.nodes[0].nc
	m, err := nc.RequestWithContext(w.t.Context(), "catga.c.call.node."+id+".k", []byte("sync"))
	if err != nil || m == nil {
		w.t.Fatal(err)
	}
}

func TestCastThatCannotBeDelivered(t *testing.T) {
	w := newTown(t)
	a := w.node("a", nil)
	w.node("b", answering(named("b"), "k"))
	if err := a.cast(t.Context(), All(), Raw{Name: "k"}, SendOptions{}); !errors.Is(err, ErrNotJoined) {
		t.Error("before Start:", err)
	}
	w.open()
	w.tell(lost(up("gone", 9, "k")))
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name string
		ctx  context.Context
		to   Target
		m    Raw
		o    SendOptions
		is   error
	}{
		{"nobody of that name", nil, To("nobody"), Raw{Name: "k"}, SendOptions{}, ErrNoMember},
		{"a lost one", nil, To("gone"), Raw{Name: "k"}, SendOptions{}, ErrNoMember},
		{"without the kind", nil, To("a"), Raw{Name: "k"}, SendOptions{}, ErrNoHandler},
		{"nobody handles it", nil, Any(), Raw{Name: "other"}, SendOptions{}, ErrNoHandler},
		{"one of the nodes is not there", nil, Nodes("b", "nobody"), Raw{Name: "k"}, SendOptions{}, ErrNoMember},
		{"too large", nil, All(), Raw{Name: "k", Data: make([]byte, 2<<20)}, SendOptions{}, ErrTooLarge},
		{"cancelled", cancelled, All(), Raw{Name: "k"}, SendOptions{}, context.Canceled},
		{"no target", nil, nil, Raw{Name: "k"}, SendOptions{}, errNoTarget},
		{"kind", nil, All(), Raw{Name: "k."}, SendOptions{}, ErrNotDelivered},
		{"id", nil, All(), Raw{Name: "k"}, SendOptions{ID: " x"}, ErrNotDelivered},
		{"header", nil, All(), Raw{Name: "k"}, SendOptions{Header: nats.Header{"Catga-Only": {"b"}}}, ErrNotDelivered},
	} {
		ctx := c.ctx
		if ctx == nil {
			ctx = t.Context()
		}
		if err := a.cast(ctx, c.to, c.m, c.o); !errors.Is(err, ErrNotDelivered) || !errors.Is(err, c.is) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	for _, to := range []Target{All(), Others()} {
		if err := a.cast(t.Context(), to, Raw{Name: "other"}, SendOptions{}); err != nil {
			t.Error("nobody is everybody:", err)
		}
	}
}
