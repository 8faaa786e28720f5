package routing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/catga/catga-go/internal/natstest"
)

// townOn is a town on a server of its own process.
func townOn(t testing.TB, url string, ids []string, setup func(id string, r *Router)) *town {
	t.Helper()
	w := &town{t: t}
	for _, id := range ids {
		w.nodeOn(natstest.Dial(t, url), Config{Cluster: "c", Node: id, Log: slog.New(slog.NewTextHandler(t.Output(), nil))},
			func(r *Router) { setup(id, r) })
	}
	w.open()
	return w
}

// A server that kept everything in memory and restarts has forgotten streams
// and consumers. They are made again, and the answer to a message of the old
// stream does not end a message of the new one that has its number.
func TestServerThatForgetsGetsItsStreamsAgain(t *testing.T) {
	s := natstest.Start(t)
	old, fresh := newGate(t), newGate(t)
	w := townOn(t, s.URL(), []string{"n1", "n2"}, func(_ string, r *Router) {
		r.Handle("work", func(ctx context.Context, m *Msg[Raw]) (Raw, error) {
			if string(m.Body.Data) == "old" {
				return old.handle(ctx, m)
			}
			return fresh.handle(ctx, m)
		}, HandleOptions{})
	})
	n1 := w.nodes[0]
	send := func(to Target, body string) {
		t.Helper()
		if err := n1.Send(t.Context(), to, text("work", body), SendOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	send(To("n2"), "old")
	<-old.entered
	s.Kill()
	s.RestartEmpty(t)
	send(To("n2"), "new") // has the sequence of the old one
	<-fresh.entered
	old.release()
	pending := func() int {
		info, err := n1.consumerInfo(t.Context(), n1.cluster.MailStream(), "n:n2")
		if err != nil {
			t.Fatal(err)
		}
		return info.NumAckPending
	}
	if err := n1.nc.FlushWithContext(bound(t)); err != nil {
		t.Fatal(err)
	}
	if n := pending(); n != 1 {
		t.Errorf("%d messages in hand, want the new one", n)
	}
	fresh.release()
	natstest.Eventually(t, "the new one is acked", func() bool { return pending() == 0 })
	for _, to := range []Target{Any(), To("n1"), All()} {
		send(to, "after")
		<-fresh.entered
	}
	<-fresh.entered // All is two
}

func bound(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// counter counts how often each body was handled.
type counter struct {
	mu    sync.Mutex
	seen  map[string]int
	calls int
}

func (c *counter) handle(_ context.Context, m *Msg[Raw]) (Raw, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil {
		c.seen = map[string]int{}
	}
	c.seen[string(m.Body.Data)]++
	c.calls++
	return Raw{}, nil
}

func (c *counter) distinct() (bodies, calls int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.seen), c.calls
}

// load sends n messages to each of the targets, by several senders, and
// returns how many were stored.
func load(t *testing.T, r *Router, n int, targets ...Target) {
	t.Helper()
	var wg sync.WaitGroup
	const senders = 8
	for s := range senders {
		wg.Go(func() {
			for i := s; i < n; i += senders {
				for k, to := range targets {
					if err := r.Send(t.Context(), to, text("work", fmt.Sprint(k, "-", i)), SendOptions{}); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
}

// What was on its way when a connection broke is handed back and comes again
// long before the ack wait.
func TestDroppedConnectionLosesNothing(t *testing.T) {
	s := natstest.Start(t)
	var c counter
	w := townOn(t, s.URL(), []string{"n1", "n2"}, func(_ string, r *Router) { r.Handle("work", c.handle, HandleOptions{}) })
	n1, n2 := w.nodes[0], w.nodes[1]
	const n = 1500
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(150 * time.Millisecond):
				if err := n2.nc.ForceReconnect(); err != nil {
					t.Error(err)
				}
			}
		}
	})
	load(t, n1, n, Any(), To("n2"))
	close(stop)
	wg.Wait()
	begin := time.Now()
	natstest.Eventually(t, "everything is handled", func() bool { b, _ := c.distinct(); return b == 2*n })
	bodies, calls := c.distinct()
	t.Logf("%d messages, %d repeats, the last %v after the last drop", bodies, calls-bodies, time.Since(begin))
	if took := time.Since(begin); took > ackWait/2 {
		t.Errorf("the last one came after %v: only the ack wait brought it back", took)
	}
}

// Nodes that leave one after the other under load: nothing is lost, and nothing
// is handled twice.
func TestSoftStopLosesAndRepeatsNothing(t *testing.T) {
	s := natstest.Start(t)
	var c counter
	h := func(ctx context.Context, m *Msg[Raw]) (Raw, error) {
		time.Sleep(time.Millisecond) // the work
		return c.handle(ctx, m)
	}
	w := townOn(t, s.URL(), []string{"n1", "n2", "n3", "n4"}, func(_ string, r *Router) { r.Handle("work", h, HandleOptions{}) })
	const n = 3000
	var wg sync.WaitGroup
	wg.Go(func() { load(t, w.nodes[0], n, Any()) })
	natstest.Eventually(t, "work has begun", func() bool { b, _ := c.distinct(); return b > 50 })
	for i, r := range w.nodes[1:3] {
		begin := time.Now()
		if err := r.Drain(bound(t)); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s drained in %v", r.id, time.Since(begin))
		w.tell(left(up(r.id, uint64(i+2), "work")))
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	natstest.Eventually(t, "everything is handled", func() bool { b, _ := c.distinct(); return b == n })
	w.idle()
	if bodies, calls := c.distinct(); calls != bodies {
		t.Errorf("%d messages were handled %d times", bodies, calls)
	}
}

func TestDrainGivesUpWithItsContext(t *testing.T) {
	w := newTown(t)
	g := newGate(t)
	r := w.node("n1", handling(g.handle, "work"))
	w.open()
	if err := r.Send(t.Context(), Any(), text("work", ""), SendOptions{}); err != nil {
		t.Fatal(err)
	}
	<-g.entered
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := r.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("drain: %v", err)
	}
	// Close ends the handler's ctx; the message is somebody else's.
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}

// A connection that breaks while its flush waits says that it is closed. It is not:
// a node that leaves in that moment leaves in order.
func TestFlushOutlastsADroppedConnection(t *testing.T) {
	s := natstest.Start(t)
	proxy := natstest.NewProxy(t, s.URL())
	nc := natstest.Dial(t, proxy.URL())
	proxy.Hold()
	const n = 50
	begun, done := make(chan struct{}, n), make(chan error, n)
	for range n {
		go func() {
			begun <- struct{}{}
			done <- flush(context.Background(), nc)
		}()
	}
	for range n {
		<-begun // most of them wait by now
	}
	proxy.Drop()
	proxy.Release()
	for range n {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

// The leader of the stream dies: sends wait for the next one, and deliveries
// go on.
func TestElectionLosesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("an election takes seconds")
	}
	cl := natstest.StartCluster(t, 3)
	var c counter
	w := townOn(t, cl.URL(), []string{"n1", "n2"}, func(_ string, r *Router) { r.Handle("work", c.handle, HandleOptions{}) })
	n1 := w.nodes[0]
	load(t, n1, 50, Any(), To("n2"), All())
	stream, err := n1.js.Stream(t.Context(), n1.cluster.WorkStream())
	if err != nil {
		t.Fatal(err)
	}
	leader := stream.CachedInfo().Cluster.Leader
	if stream.CachedInfo().Config.Replicas != 3 {
		t.Fatalf("%d replicas", stream.CachedInfo().Config.Replicas)
	}
	for _, s := range cl.Servers {
		if s.Name() == leader {
			s.Kill()
		}
	}
	begin := time.Now()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for k, to := range []Target{Any(), To("n2")} {
				if err := n1.Send(t.Context(), to, text("work", fmt.Sprint("during ", k, i)), SendOptions{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("stored %v after the kill", time.Since(begin))
	natstest.Eventually(t, "everything is handled", func() bool { b, _ := c.distinct(); return b == 150+16 })
	t.Logf("handled %v after the kill", time.Since(begin))
}
