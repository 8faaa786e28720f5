package integration_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/catga/catga-go/cluster"
	"github.com/catga/catga-go/internal/natstest"
)

func TestSendToALostNodeThatComesBack(t *testing.T) {
	onAllGrounds(t, func(t *testing.T, w *world) {
		sender := w.join(t, "sender", nil)
		p := w.spawn(t, "receiver", "test.note")
		sees(t, sender, "receiver", online("receiver"))
		p.kill()
		sees(t, sender, "receiver lost", offline("receiver", cluster.ReasonCrashed))
		for i := range 3 {
			if err := sender.Send(bounded(t), cluster.To("receiver"), note{fmt.Sprint("m", i)}); err != nil {
				t.Fatal(err)
			}
		}
		p = w.spawn(t, "receiver", "test.note")
		var got []string
		for len(got) < 3 {
			got = append(got, p.next(t).Text)
		}
		slices.Sort(got)
		if want := []string{"m0", "m1", "m2"}; !slices.Equal(got, want) {
			t.Fatalf("%q, want %q", got, want)
		}
	})
}

func TestBroadcastReachesEveryNode(t *testing.T) {
	onAllGrounds(t, func(t *testing.T, w *world) {
		notes := make(chan string, 100)
		register := func(n *cluster.Node) {
			cluster.Handle(n, func(_ context.Context, m *cluster.Msg[note]) error {
				notes <- n.ID() + " " + m.Body.Text
				return nil
			})
		}
		a := w.join(t, "a", register)
		w.join(t, "b", register)
		p := w.spawn(t, "process", "test.note")
		w.join(t, "deaf", nil) // handles nothing: nothing is waiting for it, nothing dies
		sees(t, a, "all", online("a", "b", "process", "deaf"))
		collect := func(n int) (got []string) {
			for range n {
				got = append(got, receive(t, notes, "a note"))
			}
			slices.Sort(got)
			return got
		}

		if err := a.Broadcast(bounded(t), note{"all"}); err != nil {
			t.Fatal(err)
		}
		if got, want := collect(2), []string{"a all", "b all"}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		if line := p.next(t); line.Text != "all" {
			t.Errorf("%+v", line)
		}
		if err := a.Send(bounded(t), cluster.Others(), note{"others"}); err != nil {
			t.Fatal(err)
		}
		if err := a.Send(bounded(t), cluster.Nodes("a", "process"), note{"two"}); err != nil {
			t.Fatal(err)
		}
		if got, want := collect(2), []string{"a two", "b others"}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		if got := []string{p.next(t).Text, p.next(t).Text}; !slices.Contains(got, "others") || !slices.Contains(got, "two") {
			t.Errorf("%q", got)
		}
		if err := a.Send(bounded(t), cluster.All(), note{"now"}, cluster.AtMostOnce()); err != nil {
			t.Fatal(err)
		}
		if got, want := collect(2), []string{"a now", "b now"}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		if line := p.next(t); line.Text != "now" {
			t.Errorf("%+v", line)
		}
		if n := len(notes); n > 0 {
			t.Errorf("%d notes too many, one is %q", n, <-notes)
		}
		noDeadLetters(t, a)
	})
}

func TestWorkIsSharedAndMovesWhenANodeDies(t *testing.T) {
	onAllGrounds(t, func(t *testing.T, w *world) {
		sender := w.join(t, "sender", nil)
		p, q := w.spawn(t, "p", "test.slow"), w.spawn(t, "q", "test.slow")
		sees(t, sender, "p and q", online("p", "q"))
		const tasks = 64
		for i := range tasks {
			if err := sender.Send(bounded(t), cluster.Any(), slow{Text: fmt.Sprint(i), MS: 200}); err != nil {
				t.Fatal(err)
			}
		}
		// Both have begun; the one that dies holds work.
		if line := p.next(t); line.Event != "begun" {
			t.Fatalf("%+v", line)
		}
		if line := q.next(t); line.Event != "begun" {
			t.Fatalf("%+v", line)
		}
		start := time.Now()
		p.kill()
		done := map[string]bool{}
		for line := range p.lines { // what it had finished
			if line.Event == "done" {
				done[line.Text] = true
			}
		}
		moved := 0
		for len(done) < tasks {
			line := q.next(t)
			if line.Event == "ended" {
				t.Fatal("q has ended")
			}
			if line.Event == "begun" && line.Attempt > 1 {
				moved++
				t.Logf("task %s moved %v after the kill", line.Text, time.Since(start))
			}
			if line.Event == "done" {
				done[line.Text] = true
			}
		}
		if moved == 0 {
			t.Error("the dead node held nothing: the scenario shows nothing")
		}
		// AckWait is 20 s: what moved by it alone would have taken longer.
		if took := time.Since(start); took > 15*time.Second {
			t.Errorf("all work was done %v after the kill", took)
		}
		noDeadLetters(t, sender)
	})
}

func TestHandlerErrorIsRetriedThenDeadLettered(t *testing.T) {
	onAllGrounds(t, func(t *testing.T, w *world) {
		attempts := make(chan int, 100)
		n := w.join(t, "n", func(n *cluster.Node) {
			cluster.Handle(n, func(_ context.Context, m *cluster.Msg[note]) error {
				attempts <- m.Attempt
				if m.Body.Text == "permanent" {
					return cluster.Permanent(errors.New("never"))
				}
				return errors.New("no luck")
			}, cluster.Retry(cluster.RetryPolicy{Min: 10 * time.Millisecond}))
		})
		if err := n.Send(bounded(t), cluster.Any(), note{"again"}); err != nil {
			t.Fatal(err)
		}
		for want := 1; want <= 4; want++ {
			if got := receive(t, attempts, "an attempt"); got != want {
				t.Fatalf("attempt %d, want %d", got, want)
			}
		}
		d := deadLetters(t, n, "test.note", 1)[0]
		if d.Attempts != 4 || !strings.Contains(d.Reason, "no luck") || d.Node != "n" {
			t.Errorf("%+v", d)
		}
		if err := n.Send(bounded(t), cluster.To("n"), note{"permanent"}); err != nil {
			t.Fatal(err)
		}
		if got := receive(t, attempts, "an attempt"); got != 1 {
			t.Fatalf("attempt %d", got)
		}
		d = deadLetters(t, n, "test.note", 2)[1]
		if d.Attempts != 1 || !strings.Contains(d.Reason, "never") {
			t.Errorf("%+v", d)
		}
		if len(attempts) > 0 {
			t.Errorf("attempt %d after the end", <-attempts)
		}
		// Sent again it is tried again.
		if err := n.DeadLetters().Replay(bounded(t), d.Seq); err != nil {
			t.Fatal(err)
		}
		receive(t, attempts, "the replayed attempt")
		deadLetters(t, n, "test.note", 2)
		for _, d := range deadLetters(t, n, "test.note", 2) {
			if err := n.DeadLetters().Drop(bounded(t), d.Seq); err != nil {
				t.Fatal(err)
			}
		}
		noDeadLetters(t, n)
	})
}

func TestPoisonEndsAsADeadLetter(t *testing.T) {
	onAllGrounds(t, func(t *testing.T, w *world) {
		sender := w.join(t, "sender", nil)
		p := w.spawn(t, "p", "test.poison")
		sees(t, sender, "p", online("p"))
		if err := sender.Send(bounded(t), cluster.Any(), poison{}); err != nil {
			t.Fatal(err)
		}
		// Somebody restarts the process whenever it dies. A bystander of the
		// same kind must outlive the message in the end.
		deaths := 0
		for deaths < 20 {
			line := p.next(t)
			if line.Event == "ended" {
				if len(list(t, sender, "test.poison")) > 0 {
					break
				}
				p = w.spawn(t, "p", "test.poison")
				continue
			}
			deaths++
			t.Logf("killed at attempt %d", line.Attempt)
			if deaths == 8 {
				break
			}
		}
		receive(t, p.done, "the last death")
		last := w.spawn(t, "p", "test.poison")
		d := deadLetters(t, sender, "test.poison", 1)[0]
		if d.Attempts != 8 {
			t.Errorf("%+v", d)
		}
		// It lives: it can be seen and leaves on its own.
		last.leave(t)
		if deaths != 8 {
			t.Errorf("killed %d processes, want 8", deaths)
		}
	})
}

func TestPanicIsAFailedAttempt(t *testing.T) {
	onAllGrounds(t, func(t *testing.T, w *world) {
		var mu sync.Mutex
		attempts := 0
		n := w.join(t, "n", func(n *cluster.Node) {
			cluster.Handle(n, func(_ context.Context, m *cluster.Msg[note]) error {
				mu.Lock()
				defer mu.Unlock()
				attempts++
				panic("oh no: " + m.Body.Text)
			}, cluster.Retry(cluster.RetryPolicy{Retries: 1, Min: time.Millisecond}))
			cluster.HandleCall(n, func(context.Context, *cluster.Msg[echo]) (echoed, error) { panic("secret") })
		})
		if err := n.Send(bounded(t), cluster.Any(), note{"x"}); err != nil {
			t.Fatal(err)
		}
		d := deadLetters(t, n, "test.note", 1)[0]
		if d.Attempts != 2 || !strings.Contains(d.Reason, "oh no: x") || !strings.Contains(d.Stack, "messages_test.go") {
			t.Errorf("%+v", d)
		}
		mu.Lock()
		if attempts != 2 {
			t.Errorf("%d attempts", attempts)
		}
		mu.Unlock()
		_, err := cluster.Call(bounded(t), n, cluster.To("n"), echo{})
		var refused *cluster.HandlerError
		if !errors.As(err, &refused) || refused.Code != 500 || strings.Contains(refused.Message, "goroutine") {
			t.Errorf("%v", err)
		}
	})
}

func TestBrokenBodyIsDeadLetteredAtOnce(t *testing.T) {
	onAllGrounds(t, func(t *testing.T, w *world) {
		n := w.join(t, "n", func(n *cluster.Node) {
			cluster.Handle(n, func(context.Context, *cluster.Msg[note]) error {
				t.Error("the handler ran")
				return nil
			})
			cluster.HandleCall(n, func(context.Context, *cluster.Msg[echo]) (echoed, error) {
				t.Error("the handler ran")
				return echoed{}, nil
			})
		})
		if err := n.Send(bounded(t), cluster.Any(), cluster.Raw{Name: "test.note", Data: []byte(`{"Text":`)}); err != nil {
			t.Fatal(err)
		}
		d := deadLetters(t, n, "test.note", 1)[0]
		if d.Attempts != 1 || string(d.Message.Data) != `{"Text":` {
			t.Errorf("%+v", d)
		}
		_, err := n.CallRaw(bounded(t), cluster.To("n"), cluster.Raw{Name: "test.echo", Data: []byte(`[`)})
		var refused *cluster.HandlerError
		if !errors.As(err, &refused) || refused.Code != 400 {
			t.Errorf("%v", err)
		}
	})
}

func TestUnknownKindIsNotDelivered(t *testing.T) {
	onAllGrounds(t, func(t *testing.T, w *world) {
		n := w.join(t, "n", func(n *cluster.Node) { handlers["test.note"](n, func(said) {}) })
		for _, to := range []cluster.Target{cluster.To("n"), cluster.Any()} {
			for _, opts := range [][]cluster.SendOption{nil, {cluster.AtMostOnce()}} {
				if err := n.Send(bounded(t), to, slow{}, opts...); !errors.Is(err, cluster.ErrNotDelivered) || !errors.Is(err, cluster.ErrNoHandler) {
					t.Errorf("send to %+v: %v", to, err)
				}
			}
			if _, err := cluster.Call(bounded(t), n, to.(cluster.One), echo{}); !errors.Is(err, cluster.ErrNotDelivered) || !errors.Is(err, cluster.ErrNoHandler) {
				t.Errorf("call to %+v: %v", to, err)
			}
		}
		if err := n.Send(bounded(t), cluster.Any(), cluster.Raw{Name: "not a kind"}); !errors.Is(err, cluster.ErrNotDelivered) {
			t.Error(err)
		}
		if got := stored(t, w, n); got != 0 {
			t.Errorf("%d messages are stored", got)
		}
	})
}

func TestSameIDIsStoredOnce(t *testing.T) {
	onAllGrounds(t, func(t *testing.T, w *world) {
		got := make(chan string, 10)
		register := func(n *cluster.Node) {
			cluster.Handle(n, func(_ context.Context, m *cluster.Msg[note]) error {
				got <- m.ID + " from " + m.From
				return nil
			})
		}
		a, b := w.join(t, "a", register), w.join(t, "b", register)
		if err := a.Send(bounded(t), cluster.Any(), note{}, cluster.ID("order/7")); err != nil {
			t.Fatal(err)
		}
		if err := b.Send(bounded(t), cluster.Any(), note{}, cluster.ID("order/7")); !errors.Is(err, cluster.ErrDuplicate) {
			t.Fatal("the repeat of another node:", err)
		}
		if m := receive(t, got, "the message"); m != "order/7 from a" {
			t.Errorf("%q", m)
		}
		// Another target is another message.
		if err := a.Send(bounded(t), cluster.To("a"), note{}, cluster.ID("order/7")); err != nil {
			t.Fatal(err)
		}
		if m := receive(t, got, "the message"); m != "order/7 from a" {
			t.Errorf("%q", m)
		}
	})
}

// list returns the dead letters of a kind.
func list(t *testing.T, n *cluster.Node, kind string) (found []cluster.DeadLetter) {
	t.Helper()
	for d, err := range n.DeadLetters().List(bounded(t), kind) {
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, d)
	}
	return found
}

// deadLetters waits for that many dead letters of a kind.
func deadLetters(t *testing.T, n *cluster.Node, kind string, want int) (found []cluster.DeadLetter) {
	t.Helper()
	natstest.Eventually(t, fmt.Sprintf("%d dead letters of %s", want, kind), func() bool {
		found = list(t, n, kind)
		return len(found) == want
	})
	return found
}

func noDeadLetters(t *testing.T, n *cluster.Node) {
	t.Helper()
	if d := list(t, n, ""); len(d) > 0 {
		t.Errorf("dead letters: %+v", d)
	}
}

// stored counts what is in the cluster's streams of work and mail.
func stored(t *testing.T, w *world, n *cluster.Node) (count uint64) {
	t.Helper()
	js, err := jetstream.New(w.dial(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"_WORK", "_MAIL"} {
		stream, err := js.Stream(bounded(t), "CATGA_"+w.cluster+name)
		if err != nil {
			t.Fatal(err)
		}
		count += stream.CachedInfo().State.Msgs
	}
	return count
}
