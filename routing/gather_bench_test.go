package routing

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/natstest"
)

// BenchmarkGather asks all nodes with 128 bytes and more, beside the gather that
// one would write by hand: one subject, one inbox that is shared by all gathers
// of the caller, and a count of the answers. The one by hand does not know who
// has answered and waits for ever for a node that is gone.
func BenchmarkGather(b *testing.B) {
	s := natstest.Start(b)
	for _, size := range []struct{ nodes, bytes int }{{10, 128}, {10, 16 << 10}, {100, 128}} {
		body := make([]byte, size.bytes)
		kind := fmt.Sprintf("echo-%d-%d", size.nodes, size.bytes)
		caller := benchRouter(b, s, "caller", nil)
		routers := []*Router{caller}
		for i := range size.nodes {
			nc := natstest.Dial(b, s.URL())
			_, err := nc.Subscribe(kind, func(m *nats.Msg) { _ = nc.Publish(m.Reply, m.Data) })
			if err != nil {
				b.Fatal(err)
			}
			routers = append(routers, benchRouter(b, s, strconv.Itoa(i), answering(
				func(_ context.Context, m *Msg[Raw]) (Raw, error) { return m.Body, nil }, kind)))
		}
		introduce(routers...)
		byHand := newHandGather(b, natstest.Dial(b, s.URL()))
		ours := func(ctx context.Context) error {
			n := 0
			for _, err := range caller.Gather(ctx, All(), Raw{Name: kind, Data: body}, GatherOptions{}) {
				if err != nil {
					return err
				}
				n++
			}
			if n != size.nodes {
				return fmt.Errorf("%d answers", n)
			}
			return nil
		}
		for _, callers := range []int{1, 4} {
			for _, c := range []struct {
				name string
				call func(context.Context) error
			}{{"hand", func(context.Context) error { return byHand.ask(kind, body, size.nodes) }}, {"ours", ours}} {
				b.Run(fmt.Sprintf("%s-%dx%d-%d", c.name, size.nodes, size.bytes, callers), func(b *testing.B) { benchCalls(b, callers, c.call) })
			}
		}
		for _, r := range routers {
			_ = r.Close()
		}
	}
}

// handGather is the gather by hand.
type handGather struct {
	nc    *nats.Conn
	inbox string
	next  atomic.Int64
	mu    sync.Mutex
	waits map[string]chan *nats.Msg
}

func newHandGather(b *testing.B, nc *nats.Conn) *handGather {
	h := &handGather{nc: nc, inbox: nats.NewInbox() + ".", waits: map[string]chan *nats.Msg{}}
	_, err := nc.Subscribe(h.inbox+"*", func(m *nats.Msg) {
		h.mu.Lock()
		c := h.waits[m.Subject]
		h.mu.Unlock()
		if c != nil {
			c <- m
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	return h
}

func (h *handGather) ask(subject string, body []byte, nodes int) error {
	reply := h.inbox + strconv.FormatInt(h.next.Add(1), 10)
	c := make(chan *nats.Msg, nodes)
	h.mu.Lock()
	h.waits[reply] = c
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		delete(h.waits, reply)
		h.mu.Unlock()
	}()
	if err := h.nc.PublishRequest(subject, reply, body); err != nil {
		return err
	}
	for range nodes {
		<-c
	}
	return nil
}
