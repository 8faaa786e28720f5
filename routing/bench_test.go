package routing

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/catga/catga-go/internal/natstest"
)

const benchBody = 128

// BenchmarkSend is one sender that waits for each message to be stored.
func BenchmarkSend(b *testing.B) {
	s := natstest.Start(b)
	r, err := New(natstest.Dial(b, s.URL()), Config{Cluster: "c", Node: "n1"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = r.Close() })
	if err := r.Prepare(b.Context()); err != nil {
		b.Fatal(err)
	}
	if err := r.Start(b.Context(), 1); err != nil {
		b.Fatal(err)
	}
	r.Update([]Change{up("n2", 1, "k")})
	body := make([]byte, benchBody)
	b.Run("ours", func(b *testing.B) {
		for b.Loop() {
			if err := r.Send(b.Context(), Any(), Raw{Name: "k", Data: body}, SendOptions{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("raw", func(b *testing.B) {
		n := 0
		for b.Loop() {
			n++
			m := &nats.Msg{Subject: "catga.c.work.k", Data: body, Header: nats.Header{"Nats-Msg-Id": {fmt.Sprint("x.abcdefghij-", n)}}}
			if _, err := r.js.PublishMsg(b.Context(), m); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkHandle is one node that works off a backlog, beside jetstream.Consume
// with the same order size.
func BenchmarkHandle(b *testing.B) {
	const size = 256
	fill := func(b *testing.B, js jetstream.JetStream) {
		body := make([]byte, benchBody)
		for range b.N {
			if _, err := js.PublishAsync("catga.c.work.k", body); err != nil {
				b.Fatal(err)
			}
		}
		select {
		case <-js.PublishAsyncComplete():
		case <-time.After(time.Minute):
			b.Fatal("the backlog is not stored")
		}
	}
	b.Run("ours", func(b *testing.B) {
		s := natstest.Start(b)
		r, err := New(natstest.Dial(b, s.URL()), Config{Cluster: "c", Node: "n1"})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = r.Close() })
		var n atomic.Int64
		done := make(chan struct{})
		r.Handle("k", func(context.Context, *Msg[Raw]) (Raw, error) {
			if n.Add(1) == int64(b.N) {
				close(done)
			}
			return Raw{}, nil
		}, HandleOptions{Concurrency: size})
		if err := r.Prepare(b.Context()); err != nil {
			b.Fatal(err)
		}
		js, err := jetstream.New(natstest.Dial(b, s.URL()), jetstream.WithPublishAsyncMaxPending(1000))
		if err != nil {
			b.Fatal(err)
		}
		fill(b, js)
		b.ResetTimer()
		if err := r.Start(b.Context(), 1); err != nil {
			b.Fatal(err)
		}
		<-done
	})
	b.Run("raw", func(b *testing.B) {
		s := natstest.Start(b)
		r, err := New(natstest.Dial(b, s.URL()), Config{Cluster: "c", Node: "n1"})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = r.Close() })
		if err := r.Prepare(b.Context()); err != nil {
			b.Fatal(err)
		}
		js, err := jetstream.New(natstest.Dial(b, s.URL()), jetstream.WithPublishAsyncMaxPending(1000))
		if err != nil {
			b.Fatal(err)
		}
		fill(b, js)
		b.ResetTimer()
		c, err := r.js.CreateConsumer(b.Context(), "CATGA_c_WORK", r.workConsumer("k"))
		if err != nil {
			b.Fatal(err)
		}
		var n atomic.Int64
		done := make(chan struct{})
		cc, err := c.Consume(func(m jetstream.Msg) {
			_ = m.Ack()
			if n.Add(1) == int64(b.N) {
				close(done)
			}
		}, jetstream.PullMaxMessages(size))
		if err != nil {
			b.Fatal(err)
		}
		<-done
		cc.Stop()
	})
}
