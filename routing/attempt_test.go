package routing

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/catga/catga-go/internal/natstest"
	"github.com/catga/catga-go/internal/wire"
)

// letters returns the dead letters of kind.
func letters(t testing.TB, r *Router, kind string) (all []DeadLetter) {
	t.Helper()
	for l, err := range r.DeadLetters().List(t.Context(), kind) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, l)
	}
	return all
}

func TestRetryPauses(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		w := newTown(t)
		var at []time.Time
		var attempts []int
		r := w.node("n1", func(r *Router) {
			r.Handle("flaky", func(_ context.Context, m *Msg[Raw]) (Raw, error) {
				at = append(at, time.Now())
				attempts = append(attempts, m.Attempt)
				return Raw{}, errors.New("not today")
			}, HandleOptions{Retry: RetryPolicy{Retries: 3, Min: time.Second, Max: 3 * time.Second}})
		})
		w.open()
		if err := r.Send(t.Context(), Any(), text("flaky", "x"), SendOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // in a bubble: until everything has happened
		synctest.Wait()
		if fmt.Sprint(attempts) != "[1 2 3 4]" {
			t.Fatalf("attempts %v", attempts)
		}
		for i, want := range []time.Duration{time.Second, 2 * time.Second, 3 * time.Second} {
			if got := at[i+1].Sub(at[i]); got < want*3/4 || got > want*5/4+20*time.Millisecond {
				t.Errorf("pause %d: %v, want %v give or take a quarter", i+1, got, want)
			}
		}
		dead := letters(t, r, "flaky")
		if len(dead) != 1 || dead[0].Attempts != 4 || dead[0].Reason != "not today" || dead[0].Node != "n1" ||
			dead[0].From != "n1" || string(dead[0].Message.Data) != "x" || dead[0].Subject != "catga.c.work.flaky" || dead[0].Sent.IsZero() {
			t.Errorf("dead letters %+v", dead)
		}
		w.idle()
	})
}

func TestHandlerSaysWhenAndWhether(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		w := newTown(t)
		var mu sync.Mutex
		at := map[string][]time.Duration{}
		begin := time.Now()
		r := w.node("n1", func(r *Router) {
			r.Handle("job", func(_ context.Context, m *Msg[Raw]) (Raw, error) {
				mu.Lock()
				defer mu.Unlock()
				what := string(m.Body.Data)
				at[what] = append(at[what], time.Since(begin).Round(100*time.Millisecond))
				switch what {
				case "ours":
					return Raw{}, Permanent(errors.New("no"))
				case "theirs":
					return Raw{}, fmt.Errorf("wrapped: %w", backoff.Permanent(errors.New("no")))
				case "later":
					return Raw{}, RetryAfter(7*time.Second, errors.New("later"))
				case "at once":
					return Raw{}, RetryAfter(0, errors.New("at once"))
				}
				panic("unexpected")
			}, HandleOptions{Retry: RetryPolicy{Retries: 2}})
		})
		w.open()
		for _, what := range []string{"ours", "theirs", "later", "at once"} {
			if err := r.Send(t.Context(), Any(), text("job", what), SendOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		want := "map[at once:[0s 0s 0s] later:[0s 7s 14s] ours:[0s] theirs:[0s]]"
		if got := fmt.Sprint(at); got != want {
			t.Errorf("ran at %s, want %s", got, want)
		}
		if n := len(letters(t, r, "job")); n != 4 {
			t.Errorf("%d dead letters, want 4", n)
		}
	})
}

func TestLongHandlerKeepsItsMessage(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		w := newTown(t)
		var runs, together, most atomic.Int32
		h := func(context.Context, *Msg[Raw]) (Raw, error) {
			runs.Add(1)
			if n := together.Add(1); n > most.Load() {
				most.Store(n)
			}
			time.Sleep(4 * time.Minute) // in a bubble
			together.Add(-1)
			return Raw{}, nil
		}
		// One runs, one waits in its buffer: both are kept for far longer than AckWait.
		for _, id := range []string{"n1", "n2"} {
			w.node(id, func(r *Router) { r.Handle("long", h, HandleOptions{Concurrency: 1}) })
		}
		n1 := w.open()
		for range 3 {
			if err := n1.Send(t.Context(), To("n2"), text("long", ""), SendOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		if runs.Load() != 3 || most.Load() != 1 {
			t.Errorf("%d runs, %d at a time; want 3 and 1", runs.Load(), most.Load())
		}
	})
}

func TestTimeLimitEndsTheContext(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		w := newTown(t)
		var log record
		causes := make(chan error, 10)
		var runs atomic.Int32
		r := w.nodeOn(w.conn(), Config{Cluster: "c", Node: "n1", Log: log.logger()}, func(r *Router) {
			r.Handle("polite", func(ctx context.Context, _ *Msg[Raw]) (Raw, error) {
				<-ctx.Done()
				causes <- context.Cause(ctx)
				return Raw{}, ctx.Err()
			}, HandleOptions{TimeLimit: 3 * time.Second, Retry: RetryPolicy{Retries: -1}})
			r.Handle("deaf", func(context.Context, *Msg[Raw]) (Raw, error) {
				runs.Add(1)
				time.Sleep(2 * time.Minute) // in a bubble
				return Raw{}, nil
			}, HandleOptions{TimeLimit: 3 * time.Second})
		})
		w.open()
		for _, kind := range []string{"polite", "deaf"} {
			if err := r.Send(t.Context(), Any(), text(kind, ""), SendOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if err := <-causes; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("cause %v", err)
		}
		if n := len(letters(t, r, "polite")); n != 1 {
			t.Errorf("%d dead letters", n)
		}
		if runs.Load() != 1 {
			t.Errorf("a deaf handler ran %d times, want once", runs.Load())
		}
		if !strings.Contains(log.String(), "goes on after its time limit") {
			t.Error("a deaf handler is not logged")
		}
		w.idle()
	})
}

func TestPanicIsAFailedAttempt(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		w := newTown(t)
		r := w.node("n1", func(r *Router) {
			r.Handle("panics", func(context.Context, *Msg[Raw]) (Raw, error) { panic("oh no") },
				HandleOptions{Retry: RetryPolicy{Retries: 1}})
		})
		w.open()
		if err := r.Send(t.Context(), To("n1"), text("panics", ""), SendOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		dead := letters(t, r, "panics")
		if len(dead) != 1 || dead[0].Attempts != 2 || dead[0].Reason != "panic: oh no" || !strings.Contains(dead[0].Stack, "TestPanicIsAFailedAttempt") {
			t.Errorf("dead letters %+v", dead)
		}
	})
}

func TestConcurrencyBoundsWhatIsInHand(t *testing.T) {
	w := newTown(t)
	const most = 4
	g := newGate(t)
	r := w.node("n1", func(r *Router) { r.Handle("slow", g.handle, HandleOptions{Concurrency: most}) })
	w.open()
	for range 3 * most {
		if err := r.Send(t.Context(), Any(), text("slow", ""), SendOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for range most {
		<-g.entered
	}
	// The server counts what is left a moment after it has stored it.
	natstest.Eventually(t, "the rest is left for others", func() bool {
		info, err := r.consumerInfo(t.Context(), r.cluster.WorkStream(), "w:slow")
		if err != nil || info.NumAckPending != most {
			t.Fatalf("%d in hand, want %d; %v", info.NumAckPending, most, err)
		}
		return info.NumPending == 2*most
	})
	g.release()
	w.idle()
}

func TestHandleAllMixes(t *testing.T) {
	w := newTown(t)
	var n, together, most atomic.Int32
	h := func(context.Context, *Msg[Raw]) (Raw, error) {
		if c := together.Add(1); c > most.Load() {
			most.Store(c)
		}
		together.Add(-1)
		n.Add(1)
		return Raw{}, nil
	}
	for i := range 3 {
		w.node(fmt.Sprint("n", i+1), func(r *Router) {
			r.Handle("a", h, HandleOptions{Concurrency: 3})
			r.Handle("b", h, HandleOptions{})
		})
	}
	w.open()
	const each = 300
	var wg sync.WaitGroup
	for _, r := range w.nodes {
		wg.Go(func() {
			for i := range each {
				to := []Target{Any(), To("n2"), All()}[i%3]
				if err := r.Send(t.Context(), to, text([]string{"a", "b"}[i%2], ""), SendOptions{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	want := int32(3 * each * (1 + 1 + 3) / 3)
	natstest.Eventually(t, "everything was handled", func() bool { return n.Load() >= want })
	w.idle()
	if n.Load() != want {
		t.Errorf("%d handled, want %d", n.Load(), want)
	}
}

func TestDeadLettersAreListedReplayedAndDropped(t *testing.T) {
	w := newTown(t)
	var broken atomic.Bool
	broken.Store(true)
	box := newInbox(t)
	h := func(ctx context.Context, m *Msg[Raw]) (Raw, error) {
		if broken.Load() {
			return Raw{}, Permanent(errors.New("broken\nnow"))
		}
		return box.handle(ctx, m)
	}
	n1 := w.node("n1", handling(h, "a", "b"))
	w.node("n2", handling(h, "a", "b"))
	w.open()
	for _, to := range []Target{Any(), To("n2"), All()} {
		if err := n1.Send(t.Context(), to, text("a", fmt.Sprintf("%T %v", to, to)), SendOptions{ID: "the id", Header: map[string][]string{"Color": {"red"}}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := n1.Send(t.Context(), Any(), text("b", "b"), SendOptions{}); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, "five letters are there", func() bool { return len(letters(t, n1, "")) == 5 })
	w.idle()
	all := letters(t, n1, "a")
	if len(all) != 4 {
		t.Fatalf("%d letters of a", len(all))
	}
	if err := n1.DeadLetters().Drop(t.Context(), letters(t, n1, "b")[0].Seq); err != nil {
		t.Fatal(err)
	}
	broken.Store(false)
	for _, l := range all {
		if l.Reason != "broken now" || l.ID != "the id" || l.From != "n1" || l.Header.Get("Color") != "red" {
			t.Errorf("letter %+v", l)
		}
		if err := n1.DeadLetters().Replay(t.Context(), l.Seq); err != nil {
			t.Fatal(err)
		}
		m := box.next()
		if string(m.Body.Data) != string(l.Message.Data) || m.ID != l.ID || m.Attempt != 1 || m.From != "n1" || m.Header.Get("Color") != "red" {
			t.Errorf("replayed as %+v", m)
		}
		if _, err := n1.DeadLetters().Get(t.Context(), l.Seq); !errors.Is(err, ErrNoDeadLetter) {
			t.Errorf("after the replay: %v", err)
		}
		if err := n1.DeadLetters().Replay(t.Context(), l.Seq); !errors.Is(err, ErrNoDeadLetter) {
			t.Errorf("a second replay: %v", err)
		}
	}
	if err := n1.DeadLetters().Drop(t.Context(), 4711); !errors.Is(err, ErrNoDeadLetter) {
		t.Errorf("drop of nothing: %v", err)
	}
	w.idle()
	box.nothing()
}

// A plain NATS program publishes to the subject of a kind, without a header.
func TestPlainProgramSendsDurableWork(t *testing.T) {
	w := newTown(t)
	box := newInbox(t)
	r := w.node("n1", handling(box.handle, "k"))
	w.open()
	js, err := jetstream.New(w.conn())
	if err != nil {
		t.Fatal(err)
	}
	for _, subject := range []string{"catga.c.work.k", "catga.c.node.n1.k", "catga.c.all.k"} {
		if _, err := js.Publish(t.Context(), subject, []byte("hello")); err != nil {
			t.Fatal(err)
		}
		if m := box.next(); string(m.Body.Data) != "hello" || m.ID != "" || m.From != "" || m.Body.ContentType != "application/json" {
			t.Errorf("%s: %+v", subject, m)
		}
	}
	if n := len(letters(t, r, "")); n != 0 {
		t.Errorf("%d dead letters", n)
	}
}

// What this node cannot read fails as any attempt does: another node may be
// newer.
func TestForeignVersionIsNotHandled(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		w := newTown(t)
		box := newInbox(t)
		r := w.node("n1", func(r *Router) { r.Handle("k", box.handle, HandleOptions{Retry: RetryPolicy{Retries: 1}}) })
		w.open()
		if _, err := r.js.PublishMsg(t.Context(), &nats.Msg{Subject: "catga.c.work.k", Header: nats.Header{wire.HeaderVersion: {"2"}}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		dead := letters(t, r, "k")
		if len(dead) != 1 || dead[0].Attempts != 2 || !strings.Contains(dead[0].Reason, "wire version") {
			t.Errorf("%+v", dead)
		}
		box.nothing()
	})
}

// A node may crash between storing a letter and ending the message: the second
// one that tries leaves one letter.
func TestDeadLetterIsStoredOnce(t *testing.T) {
	w := newTown(t)
	r := w.node("n1", handling(func(context.Context, *Msg[Raw]) (Raw, error) { return Raw{}, Permanent(errors.New("no")) }, "k"))
	w.open()
	first := &nats.Msg{Subject: "catga.c.dead.k", Header: nats.Header{wire.HeaderMsgID: {"WORK-1"}}}
	if _, err := r.js.PublishMsg(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if err := r.Send(t.Context(), Any(), text("k", ""), SendOptions{}); err != nil {
		t.Fatal(err)
	}
	w.idle()
	if n := len(letters(t, r, "k")); n != 1 {
		t.Errorf("%d letters", n)
	}
}

// A message right at the limit of the server does not fit into the dead letters
// with what is said of it: its end is cut, and the letter says so.
func TestLetterAtTheLimitIsCut(t *testing.T) {
	w := newTown(t)
	r := w.node("n1", handling(func(context.Context, *Msg[Raw]) (Raw, error) { panic(strings.Repeat("x", 5000)) }, "k"))
	r.kinds["k"].opts.Retry.Retries = 0
	w.open()
	size := int(r.nc.MaxPayload())
	if _, err := r.js.Publish(t.Context(), "catga.c.work.k", make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, "the letter is there", func() bool { return len(letters(t, r, "k")) == 1 })
	l := letters(t, r, "k")[0]
	if l.Header.Get(wire.HeaderDeadCut) != fmt.Sprint(size) || len(l.Message.Data) >= size || len(l.Message.Data) < size-2*deadRoom {
		t.Errorf("%d bytes of %d, cut %q", len(l.Message.Data), size, l.Header.Get(wire.HeaderDeadCut))
	}
	w.idle()
	// What Send takes always fits.
	fits := Raw{Name: "k", Data: make([]byte, size-deadRoom-200)}
	if err := r.Send(t.Context(), Any(), fits, SendOptions{}); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, "the second letter is there", func() bool { return len(letters(t, r, "k")) == 2 })
	if l := letters(t, r, "k")[1]; l.Header.Get(wire.HeaderDeadCut) != "" || len(l.Message.Data) != len(fits.Data) {
		t.Errorf("%d bytes of %d", len(l.Message.Data), len(fits.Data))
	}
}
