package routing

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/catga/catga-go/cluster"
)

// idPrefix begins the ids that the others give; they are as long as ours.
const idPrefix = "caller.abcdefghij-"

// rawID counts the messages that got an id by hand.
var rawID atomic.Int64

func withID(subject string, body []byte) *nats.Msg {
	id := idPrefix + strconv.FormatInt(rawID.Add(1), 10)
	return &nats.Msg{Subject: subject, Data: body, Header: nats.Header{jetstream.MsgIDHeader: {id}}}
}

// syncSends is one sender that waits for each message to be stored.
func syncSends(name string) benchCase {
	return benchCase{
		name: name, unit: "msgs/s",
		sides: func(_ context.Context, g *ground) ([]side, error) {
			send := func(ctx context.Context) error {
				return g.node.Send(ctx, cluster.Any(), cluster.Raw{Name: kindSink, Data: g.body})
			}
			publish := func(ctx context.Context) error {
				_, err := g.js.PublishMsg(ctx, withID(rawSubject(kindSink), g.body))
				return err
			}
			emptied := func(c call, stream, subject string) func(context.Context) (float64, error) {
				sample := g.sampleOf(1, c, run.perSecond)
				return func(ctx context.Context) (float64, error) {
					figure, err := sample(ctx)
					if err != nil {
						return 0, err
					}
					return figure, g.purge(ctx, stream, subject)
				}
			}
			return []side{
				{ours, emptied(send, ourStream, ourSubject(kindSink))},
				{raw, emptied(publish, rawStream, rawSubject(kindSink))},
			}, nil
		},
	}
}

const (
	// firstBacklog is the smallest backlog; a later one lasts about as long as
	// other samples, by the rate of the one before.
	firstBacklog = 2_000
	// handleWait bounds the wait for a backlog.
	handleWait = time.Minute
	// rawHeartbeat ends the stalls of nats.go's Consume, after twice as long. It
	// looks whether to order more only when a message has come, and not while an
	// order is being sent: if the rest of the messages comes in that moment,
	// nobody orders again, by default for 30 s. A sample with a stall is one of
	// several, and the median leaves it out.
	rawHeartbeat = 500 * time.Millisecond
)

// handles works off a backlog: order, run, ack.
func handles(name, kind string) benchCase {
	return benchCase{
		name: name, unit: "msgs/s", note: fmt.Sprintf("in orders of %d", batchOf(kind)),
		sides: func(_ context.Context, g *ground) ([]side, error) {
			work := func(side, subject string) func(context.Context) (float64, error) {
				n := firstBacklog
				return func(ctx context.Context) (float64, error) {
					if err := g.fill(ctx, subject, n); err != nil {
						return 0, err
					}
					a, err := g.callee.do(ctx, order{Do: doHandle, Side: side, Kind: kind, N: n})
					if err != nil {
						return 0, err
					}
					figure := float64(n) / time.Duration(a.Nanos).Seconds()
					n = max(int(figure*g.sample.Seconds()), firstBacklog)
					return figure, nil
				}
			}
			return []side{
				{ours, work(ours, ourSubject(kind))},
				{raw, work(raw, rawSubject(kind))},
			}, nil
		},
	}
}

// fill stores n messages.
func (g *ground) fill(ctx context.Context, subject string, n int) error {
	futures := make([]jetstream.PubAckFuture, n)
	for i := range futures {
		var err error
		if futures[i], err = g.js.PublishMsgAsync(withID(subject, g.body), jetstream.WithStallWait(handleWait)); err != nil {
			return err
		}
	}
	late := time.After(handleWait)
	for i, f := range futures {
		select {
		case <-f.Ok():
		case err := <-f.Err():
			return fmt.Errorf("message %d of a backlog of %d is not stored: %w", i+1, n, err)
		case <-ctx.Done():
			return ctx.Err()
		case <-late:
			return fmt.Errorf("%w: %d of a backlog of %d are stored", errShort, i, n)
		}
	}
	return nil
}

// jobCounter counts stored messages in their handler.
type jobCounter struct {
	n    atomic.Int64
	last atomic.Int64 // done is closed by this one
	done chan struct{}
}

func (j *jobCounter) expect(n int) {
	j.done = make(chan struct{})
	j.n.Store(0)
	j.last.Store(int64(n))
}

func (j *jobCounter) count() {
	if j.n.Add(1) == j.last.Load() {
		close(j.done)
	}
}

func batchOf(kind string) int {
	if kind == kindJob {
		return jobBatch
	}
	return taskBatch
}

// handle works off o.N messages and returns how long it took, until the server
// has the last ack.
func (c *localCallee) handle(ctx context.Context, o order) (time.Duration, error) {
	if o.Side == ours {
		job := c.jobs[o.Kind]
		job.expect(o.N)
		start := time.Now()
		if err := c.node.Resume(o.Kind); err != nil {
			return 0, err
		}
		if err := job.await(ctx); err != nil {
			return 0, err
		}
		if err := c.own.Flush(); err != nil {
			return 0, err
		}
		took := time.Since(start)
		return took, c.node.Pause(o.Kind)
	}
	job := &jobCounter{}
	job.expect(o.N)
	consumer, err := c.js.Consumer(ctx, rawStream, consumerOf(o.Kind))
	if err != nil {
		return 0, err
	}
	start := time.Now()
	consuming, err := consumer.Consume(func(m jetstream.Msg) {
		_ = m.Ack() // what is not acked comes again, and the next count is wrong
		job.count()
	}, jetstream.PullMaxMessages(batchOf(o.Kind)), jetstream.PullHeartbeat(rawHeartbeat))
	if err != nil {
		return 0, err
	}
	defer func() {
		consuming.Stop()
		<-consuming.Closed()
		_ = c.nc.Flush() // else the server gives a message of the next backlog to the order that stood
	}()
	if err := job.await(ctx); err != nil {
		return 0, errors.Join(err, stateOf(ctx, consumer))
	}
	err = c.nc.Flush()
	return time.Since(start), err
}

// stateOf says where the server takes the messages of a consumer to be.
func stateOf(ctx context.Context, c jetstream.Consumer) error {
	info, err := c.Info(ctx)
	if err != nil {
		return err
	}
	return fmt.Errorf("consumer %s: %d to come, %d in hand, %d redelivered, %d orders stand, delivered up to %d, acked up to %d",
		info.Name, info.NumPending, info.NumAckPending, info.NumRedelivered, info.NumWaiting, info.Delivered.Stream, info.AckFloor.Stream)
}

func (j *jobCounter) await(ctx context.Context) error {
	select {
	case <-j.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(handleWait):
		return fmt.Errorf("%w: %d of %d messages", errShort, j.n.Load(), j.last.Load())
	}
}
