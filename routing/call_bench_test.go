package routing

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/catga/catga-go/internal/natstest"
)

// BenchmarkCall is an echo of 128 bytes over TCP, beside a raw request and
// nats.go/micro: same server, one connection per side. Read the ratios of one
// run, not the figures of two.
func BenchmarkCall(b *testing.B) {
	s := natstest.Start(b)
	body := make([]byte, 128)

	server := natstest.Dial(b, s.URL())
	if _, err := server.Subscribe("raw.echo", func(m *nats.Msg) { _ = m.Respond(m.Data) }); err != nil {
		b.Fatal(err)
	}
	svc, err := micro.AddService(natstest.Dial(b, s.URL()), micro.Config{Name: "bench", Version: "1.0.0", Endpoint: &micro.EndpointConfig{
		Subject: "micro.echo", Handler: micro.HandlerFunc(func(r micro.Request) { _ = r.Respond(r.Data()) }),
	}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = svc.Stop() })
	caller := benchRouter(b, s, "a", nil)
	echo := func(_ context.Context, m *Msg[Raw]) (Raw, error) { return m.Body, nil }
	callee := benchRouter(b, s, "b", answering(echo, "echo"))
	introduce(caller, callee)

	client := natstest.Dial(b, s.URL())
	request := func(subject string) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := client.RequestWithContext(ctx, subject, body)
			return err
		}
	}
	ours := func(ctx context.Context) error {
		_, err := caller.Call(ctx, Any(), Raw{Name: "echo", Data: body}, CallOptions{})
		return err
	}
	for _, callers := range []int{1, 16} {
		for _, c := range []struct {
			name string
			call func(context.Context) error
		}{{"raw", request("raw.echo")}, {"micro", request("micro.echo")}, {"ours", ours}} {
			b.Run(fmt.Sprintf("%s-%d", c.name, callers), func(b *testing.B) { benchCalls(b, callers, c.call) })
		}
	}
}

// BenchmarkSlowHandler is a handler of 5 ms and 16 callers.
func BenchmarkSlowHandler(b *testing.B) {
	s := natstest.Start(b)
	caller := benchRouter(b, s, "a", nil)
	callee := benchRouter(b, s, "b", answering(func(context.Context, *Msg[Raw]) (Raw, error) {
		time.Sleep(5 * time.Millisecond) // the work
		return Raw{}, nil
	}, "slow"))
	introduce(caller, callee)
	benchCalls(b, 16, func(ctx context.Context) error {
		_, err := caller.Call(ctx, Any(), Raw{Name: "slow"}, CallOptions{})
		return err
	})
}

// BenchmarkSometimesSlowHandler takes 20 ms in one call of 200: the others must not wait.
func BenchmarkSometimesSlowHandler(b *testing.B) {
	s := natstest.Start(b)
	caller := benchRouter(b, s, "a", nil)
	var n atomic.Int64
	callee := benchRouter(b, s, "b", answering(func(context.Context, *Msg[Raw]) (Raw, error) {
		if n.Add(1)%200 == 0 {
			time.Sleep(20 * time.Millisecond) // the work
		}
		return Raw{}, nil
	}, "mixed"))
	introduce(caller, callee)
	benchCalls(b, 16, func(ctx context.Context) error {
		_, err := caller.Call(ctx, Any(), Raw{Name: "mixed"}, CallOptions{})
		return err
	})
}

// BenchmarkCast counts at-most-once messages at the handler, beside a raw
// publish and subscription.
func BenchmarkCast(b *testing.B) {
	s := natstest.Start(b)
	body := make([]byte, 128)
	var heard atomic.Int64
	arrived := make(chan struct{}, 1)
	count := func() {
		heard.Add(1)
		select {
		case arrived <- struct{}{}:
		default:
		}
	}
	caller := benchRouter(b, s, "a", nil)
	callee := benchRouter(b, s, "b", answering(func(context.Context, *Msg[Raw]) (Raw, error) {
		count()
		return Raw{}, nil
	}, "event"))
	introduce(caller, callee)
	server, client := natstest.Dial(b, s.URL()), natstest.Dial(b, s.URL())
	if _, err := server.Subscribe("raw.event", func(*nats.Msg) { count() }); err != nil {
		b.Fatal(err)
	}
	if err := server.Flush(); err != nil {
		b.Fatal(err)
	}
	// window is how far the sender may be ahead: nothing may be dropped.
	const window = 1000
	for _, c := range []struct {
		name string
		send func() error
	}{
		{"raw", func() error { return client.Publish("raw.event", body) }},
		{"ours", func() error { return caller.cast(b.Context(), To("b"), Raw{Name: "event", Data: body}, SendOptions{}) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			heard.Store(0)
			sent := int64(0)
			for b.Loop() {
				for sent-heard.Load() >= window {
					<-arrived
				}
				if err := c.send(); err != nil {
					b.Fatal(err)
				}
				sent++
			}
			for heard.Load() < sent {
				<-arrived
			}
			b.ReportMetric(float64(sent)/b.Elapsed().Seconds(), "msgs/s")
		})
	}
}

// benchRouter makes a router with a connection of its own, prepared and started.
func benchRouter(b *testing.B, s *natstest.Server, id string, setup func(*Router)) *Router {
	b.Helper()
	r, err := New(natstest.Dial(b, s.URL()), Config{Cluster: "c", Node: id})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = r.Close() })
	if setup != nil {
		setup(r)
	}
	if err := r.Prepare(b.Context()); err != nil {
		b.Fatal(err)
	}
	if err := r.Start(b.Context(), 1); err != nil {
		b.Fatal(err)
	}
	return r
}

// introduce tells each router of all.
func introduce(nodes ...*Router) {
	for _, r := range nodes {
		for _, n := range nodes {
			r.Update([]Change{up(n.id, 1, n.Kinds()...)})
		}
	}
}

// benchCalls spreads b.N calls over callers and reports the calls per second
// and the 99th percentile.
func benchCalls(b *testing.B, callers int, call func(context.Context) error) {
	b.ReportAllocs()
	var next atomic.Int64
	took := make([]time.Duration, b.N)
	errs := make(chan error, callers)
	b.ResetTimer()
	for range callers {
		go func() {
			for {
				i := next.Add(1) - 1
				if i >= int64(b.N) {
					errs <- nil
					return
				}
				start := time.Now()
				if err := call(context.Background()); err != nil {
					errs <- err
					return
				}
				took[i] = time.Since(start)
			}
		}()
	}
	for range callers {
		if err := <-errs; err != nil {
			b.Error(err)
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
	slices.Sort(took)
	b.ReportMetric(float64(took[b.N/2].Nanoseconds())/1e3, "p50-us")
	b.ReportMetric(float64(took[b.N*99/100].Nanoseconds())/1e3, "p99-us")
}
