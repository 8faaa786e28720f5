package routing

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/natstest"
	"github.com/catga/catga-go/internal/wire"
)

// withMail is a change with the policy of the node's mail.
func withMail(c Change, policy string) Change {
	c.Peer.Mail = policy
	return c
}

// lostNode is a node of the town that was there and is lost; the others know.
func (w *town) lostNode(nc *nats.Conn, policy string, kinds ...string) Change {
	w.t.Helper()
	r, err := New(nc, Config{Cluster: "c", Node: "gone", Mail: policy})
	if err != nil {
		w.t.Fatal(err)
	}
	never := newGate(w.t)
	handling(never.handle, kinds...)(r)
	if err := errors.Join(r.Prepare(w.t.Context()), r.Close()); err != nil {
		w.t.Fatal(err)
	}
	gone := lost(withMail(up("gone", 77, kinds...), policy))
	w.tell(gone)
	return gone
}

func TestMailOfALostNodeGoesByItsPolicy(t *testing.T) {
	for _, policy := range []string{"keep", "reroute", "dead-letter"} {
		t.Run(policy, func(t *testing.T) {
			w := newTown(t)
			box := newInbox(t)
			w.node("a", handling(box.handle, "work"))
			w.node("b", handling(box.handle, "work"))
			a := w.open()
			w.lostNode(w.conn(), policy, "work", "rare")
			const n = 150 // more than two batches
			for i := range n {
				if err := a.Send(t.Context(), To("gone"), text("work", fmt.Sprint(i)), SendOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			if err := a.Send(t.Context(), To("gone"), text("rare", ""), SendOptions{ID: "mine"}); err != nil {
				t.Fatal(err)
			}
			for range 2 { // two at once harm nothing
				var wg sync.WaitGroup
				for _, r := range w.nodes {
					wg.Go(func() {
						if err := r.sweep(t.Context(), true); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
			}
			inbox := func() uint64 {
				left, err := a.stored(t.Context(), a.cluster.MailStream(), a.cluster.AllMail("gone"))
				if err != nil {
					t.Fatal(err)
				}
				return left[a.cluster.NodeMail("gone", "work")] + left[a.cluster.NodeMail("gone", "rare")]
			}
			switch policy {
			case "keep":
				if got := inbox(); got != n+1 {
					t.Errorf("%d messages wait, want %d", got, n+1)
				}
			case "reroute":
				seen := map[string]int{}
				for range n {
					m := box.next()
					if seen[string(m.Body.Data)]++; m.From != "a" || m.Attempt != 1 {
						t.Errorf("%+v", m)
					}
				}
				if len(seen) != n {
					t.Errorf("%d different ones, want %d", len(seen), n)
				}
				if got := inbox(); got != 1 { // the kind that nobody else handles
					t.Errorf("%d messages wait, want 1", got)
				}
			case "dead-letter":
				if got := inbox(); got != 0 {
					t.Errorf("%d messages wait, want none", got)
				}
				if got := len(letters(t, a, "work")); got != n {
					t.Errorf("%d dead letters, want %d", got, n)
				}
				rare := letters(t, a, "rare")
				if len(rare) != 1 || rare[0].ID != "mine" || rare[0].Node != "gone" || rare[0].Reason != "node gone is gone" || rare[0].Attempts != 0 {
					t.Errorf("%+v", rare)
				}
			}
			box.nothing()
		})
	}
}

// The news of a loss is enough: nobody waits for the minute.
func TestLossOfANodeMovesItsMailAtOnce(t *testing.T) {
	w := newTown(t)
	box := newInbox(t)
	w.node("a", handling(box.handle, "work"))
	w.node("b", handling(box.handle, "work"))
	a := w.open()
	gone := w.lostNode(w.conn(), "reroute", "work")
	gone.Kind, gone.Peer.Incarnation = Up, 78
	w.tell(gone)
	if err := a.Send(t.Context(), To("gone"), text("work", "x"), SendOptions{}); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	w.tell(lost(gone))
	box.next()
	t.Logf("moved %v after the news", time.Since(begin))
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("moved after %v", took)
	}
}

// What a selector chose is not mail of one node: it goes to the next one that
// the selector chooses, though the node keeps the rest of its mail.
func TestChosenMailGoesToAnotherChosenNode(t *testing.T) {
	w := newTown(t)
	boxes := map[string]*inbox{}
	for _, id := range []string{"a", "b", "c"} {
		boxes[id] = newInbox(t)
		w.node(id, handling(boxes[id].handle, "work"))
	}
	a := w.open()
	red := func(c Change) Change {
		c.Peer.Metadata = map[string]string{"color": "red"}
		return c
	}
	w.tell(red(up("b", 2, "work")))
	w.lostNode(w.conn(), "keep", "work")
	send := func(body string, h nats.Header) {
		h.Set(wire.HeaderMsgID, body)
		if _, err := a.js.PublishMsg(t.Context(), &nats.Msg{Subject: a.cluster.NodeMail("gone", "work"), Header: h, Data: []byte(body)}); err != nil {
			t.Fatal(err)
		}
	}
	send("own", nats.Header{})
	send("red", nats.Header{wire.HeaderSelect: {"color=red"}})
	send("blue", nats.Header{wire.HeaderSelect: {"color=blue"}})
	if err := a.sweep(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if m := boxes["b"].next(); string(m.Body.Data) != "red" || m.ID != "red" {
		t.Errorf("%q %+v", m.Body.Data, m)
	}
	left, err := a.stored(t.Context(), a.cluster.MailStream(), a.cluster.AllMail("gone"))
	if err != nil || left[a.cluster.NodeMail("gone", "work")] != 2 {
		t.Error(left, err)
	}
	// Once the node is forgotten, what nobody takes is dead.
	a.cfg.Standing = func(string) (Peer, Standing) { return Peer{}, Forgotten }
	natstest.Eventually(t, "the rest is dead", func() bool {
		if err := a.sweep(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		return len(letters(t, a, "work")) == 2
	})
	for _, box := range boxes {
		box.nothing()
	}
	natstest.Eventually(t, "its mailbox is removed", func() bool {
		_, err := a.consumerInfo(t.Context(), a.cluster.MailStream(), "n:gone")
		if !isNotFound(err) {
			_ = a.sweep(t.Context(), true)
		}
		return isNotFound(err)
	})
}

// Mail of a kind that its node does not handle any more, and no consumer brings.
func TestMailOfAKindThatWentIsSettled(t *testing.T) {
	w := newTown(t)
	box := newInbox(t)
	w.node("a", handling(box.handle, "old", "new"))
	w.node("n1", handling(newGate(t).handle, "new"))
	a := w.open()
	w.tell(withMail(up("n1", 3, "new"), "reroute"))
	if _, err := a.js.PublishMsg(t.Context(), &nats.Msg{Subject: a.cluster.NodeMail("n1", "old"), Data: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	if err := a.sweep(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if m := box.next(); m.Body.Name != "old" {
		t.Errorf("%+v", m)
	}
	// A sweep of the node's own may have been the one that moved it: its lock goes
	// last.
	natstest.Eventually(t, "the move is over", func() bool {
		_, err := a.consumerInfo(t.Context(), a.cluster.MailStream(), wire.MoverLock("n1"))
		return isNotFound(err)
	})
	if _, err := a.consumerInfo(t.Context(), a.cluster.MailStream(), wire.MoverConsumer("n1")); !isNotFound(err) {
		t.Error("the consumer of the move is left:", err)
	}
}
