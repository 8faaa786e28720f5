package routing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/natstest"
)

func TestRendezvous(t *testing.T) {
	handlers := func(ids ...string) (all []*peer) {
		for _, id := range ids {
			all = append(all, &peer{Peer: Peer{ID: id}})
		}
		return all
	}
	ids := []string{"node-1", "node-2", "node-3", "node-4"}
	charge := map[string]int{}
	for i := range 4000 {
		kind := fmt.Sprint("kind.", i)
		chosen := rendezvous(kind, handlers(ids...), ids[0])
		charge[chosen]++
		for _, self := range ids {
			if got := rendezvous(kind, handlers(ids...), self); got != chosen {
				t.Fatalf("%s: %s chooses %s, %s chooses %s", kind, ids[0], chosen, self, got)
			}
		}
		// Whoever goes changes only what it was in charge of.
		for _, gone := range ids {
			rest := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return id == gone })
			if got := rendezvous(kind, handlers(rest...), rest[0]); gone != chosen && got != chosen {
				t.Fatalf("%s: %s went and the charge moved from %s to %s", kind, gone, chosen, got)
			}
		}
	}
	for id, n := range charge {
		if n < 800 || n > 1200 {
			t.Errorf("%s is in charge of %d of 4000", id, n)
		}
	}
	if got := rendezvous("k", nil, "alone"); got != "alone" {
		t.Errorf("alone: %s", got)
	}
}

// The node of another process takes work and is killed; what it held runs at
// the survivors at once, and what they hold does not run again.
func TestWorkOfAKilledNodeMovesAtOnce(t *testing.T) {
	s := natstest.Start(t)
	w := &town{t: t}
	survivors := newGate(t)
	for _, id := range []string{"n1", "n2"} {
		w.nodeOn(natstest.Dial(t, s.URL()), Config{Cluster: "c", Node: id, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}, func(r *Router) {
			r.Handle("work", survivors.handle, HandleOptions{Concurrency: 20})
		})
	}
	n1 := w.open()
	victim := startChild(t, s.URL(), "victim", "hold")
	// Mail first, so that it certainly holds something.
	dead := up("victim", 77, "work")
	w.tell(dead)
	const each = 30
	for range each {
		if err := n1.Send(t.Context(), Any(), text("work", ""), SendOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	info := func() (pending int, unread uint64) {
		i, err := n1.consumerInfo(t.Context(), n1.cluster.WorkStream(), "w:work")
		if err != nil {
			t.Fatal(err)
		}
		return i.NumAckPending, i.NumPending
	}
	natstest.Eventually(t, "all work is in hand", func() bool {
		pending, unread := info()
		return pending == each && unread == 0
	})
	had := 0
	for len(survivors.entered) > 0 {
		<-survivors.entered
		had++
	}
	if had == each {
		t.Fatal("the victim has nothing")
	}
	victim.kill()
	begin := time.Now()
	w.tell(lost(dead))
	for range each - had {
		select {
		case <-survivors.entered:
		case <-time.After(10 * time.Second):
			t.Fatal("what the victim had does not move")
		}
	}
	moved := time.Since(begin)
	t.Logf("%d messages moved %v after the news", each-had, moved)
	if moved > time.Second {
		t.Errorf("moved after %v", moved)
	}
	survivors.release()
	natstest.Eventually(t, "all work is done", func() bool { pending, unread := info(); return pending == 0 && unread == 0 })
	if n := len(survivors.entered); n != 0 {
		t.Errorf("%d messages of the living ran again", n)
	}
}

// A node that hangs keeps taking messages until its orders expire. That is
// before it is given up; then everything that it took moves at once, and none
// of it back to it.
func TestWorkOfAHangingNodeMoves(t *testing.T) {
	s := natstest.Start(t)
	var c counter
	w := townOn(t, s.URL(), []string{"n1"}, func(_ string, r *Router) { r.Handle("work", c.handle, HandleOptions{}) })
	n1 := w.nodes[0]
	victim := startChild(t, s.URL(), "victim", "hold")
	dead := up("victim", 77, "work")
	w.tell(dead)
	const n = 40
	orders := func() int {
		info, err := n1.consumerInfo(t.Context(), n1.cluster.WorkStream(), "w:work")
		if err != nil {
			t.Fatal(err)
		}
		return info.NumWaiting
	}
	natstest.Eventually(t, "both have ordered", func() bool { return orders() == 2 })
	victim.pause()
	stopped := time.Now()
	load(t, n1, n, Any())
	// n1 may have two orders at a time: to count them says nothing.
	natstest.Eventually(t, "the orders of the hanging node have expired", func() bool {
		return time.Since(stopped) > orderExpires+time.Second
	})
	had, _ := c.distinct()
	begin := time.Now()
	w.tell(lost(dead))
	natstest.Eventually(t, "everything is handled", func() bool { b, _ := c.distinct(); return b == n })
	took := time.Since(begin)
	t.Logf("%d moved %v after the news", n-had, took)
	if had == n || took > time.Second {
		t.Errorf("%d moved in %v", n-had, took)
	}
	if _, calls := c.distinct(); calls != n {
		t.Errorf("%d handled, want %d", calls, n)
	}
}

// Who is asked what it holds and is lost instead of answering holds nothing up.
func TestWhoIsLostNeedNotSayWhatItHolds(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		w := newTown(t)
		var c counter
		w.node("n1", func(r *Router) { r.Handle("work", c.handle, HandleOptions{}) })
		w.node("n2", func(r *Router) { r.Handle("work", c.handle, HandleOptions{}) })
		n1 := w.open()
		ask := func() (time.Duration, bool) {
			begin := time.Now()
			_, all := n1.askLiving("work", n1.durable.work["work"], begin, answerTime)
			return time.Since(begin), all
		}
		if took, all := ask(); !all || took != lingerTime {
			t.Errorf("everybody answers: %v after %v", all, took)
		}
		w.tell(ghost("dead", "work"))
		if took, all := ask(); all || took != answerTime {
			t.Errorf("one is silent: %v after %v", all, took)
		}
		const at = 100 * time.Millisecond
		time.AfterFunc(at, func() { w.tell(lost(ghost("dead", "work"))) })
		if took, all := ask(); !all || took != at+lingerTime {
			t.Errorf("one is lost: %v after %v", all, took)
		}
	})
}

// A node that comes back finds its mail and its work, which nobody else has
// seen it lose.
func TestNodeReleasesItsEarlierLife(t *testing.T) {
	s := natstest.Start(t)
	w := &town{t: t}
	sender := w.nodeOn(natstest.Dial(t, s.URL()), Config{Cluster: "c", Node: "sender"}, nil)
	w.open()
	victim := startChild(t, s.URL(), "n1", "hold")
	w.tell(up("n1", 5, "work"))
	for _, to := range []Target{Any(), To("n1"), All()} {
		if err := sender.Send(t.Context(), to, text("work", fmt.Sprint(to)), SendOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	victim.expect("holds 3")
	victim.kill()
	box := newInbox(t)
	r := w.nodeOn(natstest.Dial(t, s.URL()), Config{Cluster: "c", Node: "n1"}, handling(box.handle, "work"))
	begin := time.Now()
	if err := errors.Join(r.Prepare(t.Context()), r.Start(t.Context(), 9)); err != nil {
		t.Fatal(err)
	}
	w.tell(up("n1", 9, "work"))
	for range 3 {
		if m := box.next(); m.Attempt != 2 {
			t.Errorf("%q in attempt %d, want 2", m.Body.Data, m.Attempt)
		}
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

// A message that kills its process is a dead letter before it has walked
// through the cluster for long, and what it killed beside it is not lost.
func TestMessageThatKillsProcessesIsDead(t *testing.T) {
	s := natstest.Start(t)
	w := &town{t: t}
	sender := w.nodeOn(natstest.Dial(t, s.URL()), Config{Cluster: "c", Node: "sender"}, nil)
	w.open()
	w.tell(up("n1", 1, "work"))
	for life := 1; ; life++ {
		victim := startChild(t, s.URL(), "n1", "die")
		if life == 1 {
			if err := sender.Send(t.Context(), To("n1"), text("work", "poison"), SendOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		if life <= MaxAttempts {
			victim.wait()
			continue
		}
		natstest.Eventually(t, "the poison is dead", func() bool { return len(letters(t, sender, "work")) == 1 })
		victim.kill()
		break
	}
	dead := letters(t, sender, "work")[0]
	if dead.Attempts != MaxAttempts {
		t.Errorf("dead after %d attempts, want %d", dead.Attempts, MaxAttempts)
	}
}

// childNode is what a child process does: see startChild.
func childNode(url, id, what string) error {
	var opts []nats.Option
	switch what {
	case "move":
		opts = append(opts, nats.SetCustomDialer(killerDialer{"+ACK"}))
	case "bury":
		opts = append(opts, nats.SetCustomDialer(killerDialer{"+TERM"}))
	}
	nc, err := dialChild(url, opts...)
	if err != nil {
		return err
	}
	r, err := New(nc, Config{Cluster: "c", Node: id})
	if err != nil {
		return err
	}
	n := make(chan struct{}, 100)
	if what != "move" {
		r.Handle("work", func(context.Context, *Msg[Raw]) (Raw, error) {
			if what == "die" {
				os.Exit(3)
			}
			if what == "bury" {
				return Raw{}, Permanent(errors.New("no"))
			}
			n <- struct{}{}
			select {} // until it is killed
		}, HandleOptions{})
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := r.Prepare(ctx); err != nil {
		return err
	}
	if err := r.Start(ctx, uint64(os.Getpid())); err != nil {
		return err
	}
	if what == "move" {
		fmt.Println("ready")
		r.Update([]Change{up("a", 1, "work"), lost(withMail(up("gone", 77, "work"), "reroute"))})
		return r.sweep(ctx, false) // it is killed in it
	}
	// It is not told of itself: it knows nobody else, and would hand back at once
	// what those who are slow to answer hold.
	fmt.Println("ready")
	for i := 1; ; i++ {
		<-n
		fmt.Println("holds", i)
	}
}
