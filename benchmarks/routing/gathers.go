package routing

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/cluster"
)

// gatherNodes is how many answer to many.
const gatherNodes = 10

// startMany starts n nodes with a connection each, and beside them n plain
// subscribers with a connection each.
func (c *localCallee) startMany(ctx context.Context, n int) error {
	for i := range n {
		_, _, err := join(ctx, c.dial, "many-"+strconv.Itoa(i), &c.ends, func(n *cluster.Node) {
			n.HandleRaw(kindLoad, func(_ context.Context, m *cluster.Msg[cluster.Raw]) (cluster.Raw, error) {
				return cluster.Raw{Data: m.Body.Data}, nil
			})
		})
		if err != nil {
			return err
		}
		nc, err := c.conn(ctx)
		if err != nil {
			return err
		}
		if _, err := nc.Subscribe(rawCall(kindLoad), func(m *nats.Msg) {
			_ = m.Respond(m.Data) // who asks would wait and say so
		}); err != nil {
			return err
		}
		if err := nc.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// gathers ask many and wait for all of them.
func gathers(name string, callers int) benchCase {
	return benchCase{
		name: name, unit: "gathers/s", note: fmt.Sprintf("%d nodes, a connection each; callers: %d", gatherNodes, callers),
		sides: func(ctx context.Context, g *ground) ([]side, error) {
			if !g.many {
				if _, err := g.callee.do(ctx, order{Do: doGather, N: gatherNodes}); err != nil {
					return nil, err
				}
				g.many = true
			}
			if err := awaitHandlers(ctx, g.node, kindLoad, gatherNodes); err != nil {
				return nil, err
			}
			byHand, err := newHandGather(g.nc)
			if err != nil {
				return nil, err
			}
			g.ends = append(g.ends, byHand.close)
			gather := func(ctx context.Context) error {
				n := 0
				for a, err := range g.node.GatherRaw(ctx, cluster.All(), cluster.Raw{Name: kindLoad, Data: g.body}) {
					if err != nil {
						return err
					}
					if len(a.Body.Data) == len(g.body) {
						n++
					}
				}
				if n != gatherNodes {
					return fmt.Errorf("%w: %d of %d answers", errShort, n, gatherNodes)
				}
				return nil
			}
			ask := func(ctx context.Context) error { return byHand.ask(ctx, rawCall(kindLoad), g.body, gatherNodes) }
			return []side{
				{ours, g.sampleOf(callers, gather, run.perSecond)},
				{raw, g.sampleOf(callers, ask, run.perSecond)},
			}, nil
		},
	}
}

// handGather is what a program writes by hand: one inbox for all gathers, one
// publish, and a count of the answers. It knows beforehand how many there are.
type handGather struct {
	nc    *nats.Conn
	sub   *nats.Subscription
	inbox string
	next  atomic.Int64
	mu    sync.Mutex
	waits map[string]chan *nats.Msg
}

func newHandGather(nc *nats.Conn) (*handGather, error) {
	h := &handGather{nc: nc, inbox: nats.NewInbox() + ".", waits: map[string]chan *nats.Msg{}}
	var err error
	h.sub, err = nc.Subscribe(h.inbox+"*", func(m *nats.Msg) {
		h.mu.Lock()
		c := h.waits[m.Subject]
		h.mu.Unlock()
		if c != nil {
			c <- m
		}
	})
	return h, err
}

func (h *handGather) close() { _ = h.sub.Unsubscribe() }

func (h *handGather) ask(ctx context.Context, subject string, body []byte, nodes int) error {
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
		select {
		case m := <-c:
			if len(m.Data) != len(body) {
				return errAnswer
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
