package routing

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/catga/catga-go/internal/natstest"
)

var errTakenForDead = errors.New("taken for dead")

// A node that was taken for dead ends what it runs, and says nothing more of it:
// what its handlers return, even success, is of no consequence.
func TestEvictedNodeLetsItsWorkGo(t *testing.T) {
	w := newTown(t)
	causes := make(chan error, 10)
	g := newGate(t)
	victim := w.node("victim", func(r *Router) {
		r.Handle("work", func(ctx context.Context, m *Msg[Raw]) (Raw, error) {
			_, err := g.handle(ctx, m)
			if err != nil {
				causes <- err
			}
			return Raw{}, nil // as if it were done
		}, HandleOptions{Concurrency: 4})
	})
	w.open()
	const inHand = 4
	for i := range inHand {
		if err := victim.Send(t.Context(), Any(), text("work", fmt.Sprint(i)), SendOptions{}); err != nil {
			t.Fatal(err)
		}
		<-g.entered
	}
	box := newInbox(t)
	heir := w.node("heir", handling(box.handle, "work"))
	if err := errors.Join(heir.Prepare(t.Context()), heir.Start(t.Context(), 2)); err != nil {
		t.Fatal(err)
	}
	w.tell(up("victim", 1, "work"), up("heir", 2, "work"))

	victim.Evict(errTakenForDead)
	for range inHand {
		if err := <-causes; !errors.Is(err, errTakenForDead) {
			t.Error("cause:", err)
		}
	}
	box.nothing() // nothing was handed back yet
	w.tell(lost(up("victim", 1, "work")))
	seen := map[string]bool{}
	for range inHand {
		m := box.next()
		if seen[string(m.Body.Data)] || m.Attempt != 2 {
			t.Errorf("%s, attempt %d, seen %v", m.Body.Data, m.Attempt, seen)
		}
		seen[string(m.Body.Data)] = true
	}
	w.idle()
	box.nothing()
	if all := letters(t, victim, ""); len(all) > 0 {
		t.Error("dead letters", all)
	}

	// As a new incarnation it works on.
	if err := victim.Start(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	w.tell(up("victim", 3, "work"))
	if err := heir.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.release()
	if err := victim.Send(t.Context(), Any(), text("work", "after"), SendOptions{}); err != nil {
		t.Fatal(err)
	}
	<-g.entered
	w.idle()
}

// What an evicted node had and nobody else took is done by its next incarnation:
// what ran, what had not begun, and what was to be tried again.
func TestNextIncarnationDoesWhatIsLeft(t *testing.T) {
	w := newTown(t)
	g := newGate(t)
	box := newInbox(t)
	turn := make(chan struct{})
	r := w.node("n1", func(r *Router) {
		r.Handle("work", func(ctx context.Context, m *Msg[Raw]) (Raw, error) {
			select {
			case <-turn:
				return box.handle(ctx, m)
			default:
				return g.handle(ctx, m)
			}
		}, HandleOptions{Concurrency: 2})
		r.Handle("flaky", func(ctx context.Context, m *Msg[Raw]) (Raw, error) {
			select {
			case <-turn:
				return box.handle(ctx, m)
			default:
				g.entered <- "flaky"
				return Raw{}, RetryAfter(time.Hour, errors.New("not now"))
			}
		}, HandleOptions{})
	})
	w.open()
	want := map[string]bool{}
	for i, to := range []Target{Any(), To("n1"), All(), Any(), To("n1"), All(), Any(), All()} {
		body := fmt.Sprint(i)
		want[body] = true
		if err := r.Send(t.Context(), to, text("work", body), SendOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	<-g.entered
	<-g.entered
	want["flaky"] = true
	if err := r.Send(t.Context(), To("n1"), text("flaky", "flaky"), SendOptions{}); err != nil {
		t.Fatal(err)
	}
	<-g.entered
	close(turn)
	for i := range uint64(3) { // again and again, also before the release of the last time
		r.Evict(errTakenForDead)
		r.Evict(errors.New("only the first time counts"))
		w.tell(lost(up("n1", 1+i, "work", "flaky")))
		failing, cancel := context.WithCancel(t.Context())
		cancel()
		if err := r.Start(failing, 2+i); err == nil {
			t.Error("started with a ctx that had ended")
		}
		if err := r.Start(t.Context(), 2+i); err != nil {
			t.Fatal(err)
		}
		w.tell(up("n1", 2+i, "work", "flaky"))
	}
	for len(want) > 0 {
		delete(want, string(box.next().Body.Data))
	}
	w.idle()
	if all := letters(t, r, ""); len(all) > 0 {
		t.Error("dead letters", all)
	}
}

func TestStartOfAnotherIncarnationEndsTheEarlier(t *testing.T) {
	w := newTown(t)
	begun, ended := make(chan int, 4), make(chan error, 4)
	r := w.node("n1", handling(func(ctx context.Context, m *Msg[Raw]) (Raw, error) {
		begun <- m.Attempt
		if m.Attempt == 1 {
			<-ctx.Done()
			ended <- context.Cause(ctx)
		}
		return Raw{}, nil
	}, "work"))
	w.open()
	if err := r.Send(t.Context(), Any(), text("work", ""), SendOptions{}); err != nil {
		t.Fatal(err)
	}
	<-begun
	if err := r.Start(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, errNextLife) {
		t.Error("cause:", err)
	}
	if n := <-begun; n != 2 {
		t.Error("attempt", n)
	}
	w.idle()
}

func TestEvictedNodeRefusesCallsUntilItIsBack(t *testing.T) {
	w := newTown(t)
	a := w.node("a", nil)
	g := newGate(t)
	b := w.node("b", answering(g.handle, "k"))
	w.open()
	asked := make(chan error, 2)
	go func() {
		_, err := a.Call(t.Context(), To("b"), Raw{Name: "k"}, CallOptions{})
		asked <- err
	}()
	go func() {
		m, err := a.nc.RequestWithContext(bound(t), b.cluster.CallNode("b", "k"), nil)
		if err == nil && m.Header.Get("Nats-Service-Error") != errTakenForDead.Error() {
			err = fmt.Errorf("answer %v", m.Header)
		}
		asked <- err
	}()
	<-g.entered
	<-g.entered
	b.Evict(errTakenForDead)
	// Who cannot see the eviction is told that the call failed.
	if err := <-asked; err != nil {
		t.Error("plain client:", err)
	}
	if _, err := a.Call(t.Context(), To("b"), Raw{Name: "k"}, CallOptions{}); !errors.Is(err, ErrNotDelivered) || !errors.Is(err, ErrLeaving) {
		t.Error("between two lives:", err)
	}
	if err := a.cast(t.Context(), To("b"), Raw{Name: "k"}, SendOptions{}); err != nil {
		t.Error(err)
	}
	// Who sees it hears nothing from the node, and may go elsewhere.
	select {
	case err := <-asked:
		t.Error("answered by an evicted node:", err)
	default:
	}
	w.tell(lost(up("b", 2, "k")))
	if err := <-asked; !errors.Is(err, ErrUnknown) {
		t.Error("in flight:", err)
	}
	g.release()
	if err := b.Start(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	w.tell(up("b", 3, "k"))
	if got, err := a.Call(t.Context(), To("b"), Raw{Name: "k", Data: []byte("again")}, CallOptions{}); err != nil || string(got.Data) != "again" {
		t.Error(got, err)
	}
}

// A verdict of a handler that did not heed the end of its ctx is an answer.
func TestAnswerOfAnEvictedNodeCounts(t *testing.T) {
	w := newTown(t)
	a := w.node("a", nil)
	entered, end := make(chan struct{}), make(chan struct{})
	b := w.node("b", answering(func(_ context.Context, m *Msg[Raw]) (Raw, error) {
		entered <- struct{}{}
		<-end
		return m.Body, nil
	}, "k"))
	w.open()
	answered := make(chan error, 1)
	go func() {
		_, err := a.Call(t.Context(), To("b"), Raw{Name: "k"}, CallOptions{})
		answered <- err
	}()
	<-entered
	b.Evict(errTakenForDead)
	close(end)
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

func TestEvictBeforeAndAfterItsTime(t *testing.T) {
	w := newTown(t)
	box := newInbox(t)
	r := w.node("n1", handling(box.handle, "work"))
	r.Evict(errTakenForDead)
	if err := r.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.Evict(errTakenForDead)
	w.open()
	if err := r.Send(t.Context(), Any(), text("work", ""), SendOptions{}); err != nil {
		t.Fatal(err)
	}
	box.next()
	eye := w.node("eye", handling(box.handle, "seen"))
	if err := eye.Start(t.Context(), 7); err != nil {
		t.Fatal(err)
	}
	eye.Evict(errTakenForDead)
	if err := eye.Start(t.Context(), 8); err != nil {
		t.Fatal(err)
	}
	// Evicted, it may leave and be closed.
	r.Evict(errTakenForDead)
	if err := r.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	r.Evict(errTakenForDead)
}

// Under load, with a connection that drops beside it, every message is handled.
func TestEvictionsUnderLoadLoseNothing(t *testing.T) {
	w := newTown(t)
	var c counter
	r := w.node("n1", handling(c.handle, "work"))
	other := w.node("n2", handling(c.handle, "work"))
	w.open()
	const each, rounds = 200, 4
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		load(t, other, each, Any(), To("n1"), To("n2"))
	}()
	for i := range uint64(rounds) {
		natstest.Eventually(t, "some progress", func() bool { n, _ := c.distinct(); return n > int(i)*each/rounds })
		r.Evict(errTakenForDead)
		w.tell(lost(up("n1", 10+i, "work")))
		if i == 1 {
			if err := w.mem.Server.DisconnectClientByID(clientID(t, r.nc)); err != nil {
				t.Error(err)
			}
		}
		natstest.Eventually(t, "started again", func() bool { return r.Start(t.Context(), 11+i) == nil })
		w.tell(up("n1", 11+i, "work"))
	}
	<-sent
	natstest.Eventually(t, "everything is handled", func() bool { n, _ := c.distinct(); return n == 3*each })
	w.idle()
	if all := letters(t, r, ""); len(all) > 0 {
		t.Error("dead letters", all)
	}
}
