package routing

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/cluster"
)

const (
	// castEvery is how often the receiver says how much it has.
	castEvery = 512
	// castWindow is how far the sender may be ahead: nothing may be dropped, for
	// what is dropped is not handled.
	castWindow = 8 * castEvery
	// castWait bounds the wait for the receiver.
	castWait = 10 * time.Second
)

// Plain NATS with names as long as ours, which say who sends what to whom: every
// byte of a name is read by the server and by the receiver.
const (
	namedCast  = "plain." + clusterName + ".call.node.callee." + kindCast
	namedReply = "_.caller"
)

// castSides are the sides of casts.
var castSides = []string{ours, raw, named}

func castControl(side string) string { return "control.cast." + side }

// castCounter counts in the handler, and tells over a connection that nothing
// else uses.
type castCounter struct {
	nc      *nats.Conn
	subject string
	n       atomic.Int64
}

func (c *castCounter) count() {
	if n := c.n.Add(1); n%castEvery == 0 {
		_ = c.nc.Publish(c.subject, strconv.AppendInt(nil, n, 10)) // the sender waits and says so
	}
}

// casts are messages at most once from one sender, counted where they are
// handled.
func casts(name string) benchCase {
	return benchCase{
		name: name, unit: "msgs/s", note: fmt.Sprintf("at most %d ahead of the handler", castWindow),
		sides: func(ctx context.Context, g *ground) ([]side, error) {
			control, err := g.conn(ctx)
			if err != nil {
				return nil, err
			}
			send := map[string]func() error{
				ours: func() error {
					return g.node.Send(ctx, cluster.Any(), cluster.Raw{Name: kindCast, Data: g.body}, cluster.AtMostOnce())
				},
				raw:   func() error { return g.nc.Publish(rawCall(kindCast), g.body) },
				named: func() error { return g.nc.PublishRequest(namedCast, namedReply, g.body) },
			}
			var sides []side
			for _, name := range castSides {
				heard := make(chan *nats.Msg, 1024)
				sub, err := control.ChanSubscribe(castControl(name), heard)
				if err != nil {
					return nil, err
				}
				if err := control.Flush(); err != nil {
					return nil, err
				}
				g.ends = append(g.ends, func() { _ = sub.Unsubscribe() })
				s := &castSender{send: send[name], heard: heard}
				sides = append(sides, side{name, func(context.Context) (float64, error) { return s.run(g.sample) }})
			}
			return sides, nil
		},
	}
}

// castSender sends as fast as the receiver handles. Its counts go on from one
// run to the next, as the receiver's do.
type castSender struct {
	send          func() error
	heard         chan *nats.Msg
	sent, handled int64
}

func (s *castSender) run(d time.Duration) (float64, error) {
	start, from := time.Now(), s.sent
	for s.sent%castEvery != 0 || time.Since(start) < d {
		if s.sent-s.handled >= castWindow {
			if err := s.hear(); err != nil {
				return 0, err
			}
			continue
		}
		if err := s.send(); err != nil {
			return 0, err
		}
		s.sent++
	}
	for s.handled < s.sent {
		if err := s.hear(); err != nil {
			return 0, err
		}
	}
	return float64(s.sent-from) / time.Since(start).Seconds(), nil
}

// hear waits until the receiver has handled more.
func (s *castSender) hear() error {
	select {
	case m := <-s.heard:
		n, err := strconv.ParseInt(string(m.Data), 10, 64)
		s.handled = max(s.handled, n)
		return err
	case <-time.After(castWait):
		return fmt.Errorf("%w: %d of %d messages", errShort, s.handled, s.sent)
	}
}
