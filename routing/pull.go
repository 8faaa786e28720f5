package routing

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// puller brings the messages of one consumer into the lanes of their kinds.
//
// It is our own loop over CONSUMER.MSG.NEXT rather than jetstream.Consume, for
// two reasons. It must never order more than the kinds can run: what lies in
// the buffer of a busy node could run at an idle one. And it must know every
// sequence that the node holds, the buffered ones included: the node that hands
// back a lost node's work asks for them, and what nobody names runs again.
// Consume keeps its buffer to itself.
//
// One goroutine owns the orders; the table of what is in hand has a lock of its
// own, because handlers take their messages out of it.
type puller struct {
	r        *Router
	stream   string
	consumer string
	config   func() jetstream.ConsumerConfig
	prefix   string  // of the subjects, up to the kind
	kinds    []*kind // that come this way
	mixed    bool    // a mailbox or fan-out, where any of the kinds may be next
	limit    int     // most messages in hand
	place    int     // among the pullers
	born     time.Time

	msgs  chan *nats.Msg
	freed chan struct{}  // a slot came free
	woken chan wake      // the link or the consumer was looked after
	asks  chan heldAsked // what is in hand, in order with the arrivals
	looks chan chan bool // whether the loop is at work
	stop  chan struct{}  // drain: no more orders
	// wanting is the load of a lane down to which no more would be ordered. A
	// word for each message that is done would wake the loop as often.
	wanting atomic.Int64
	once    sync.Once
	done    chan struct{} // the loop has ended

	// Of the loop alone.
	life    *life // to which what arrives belongs
	sub     *nats.Subscription
	epoch   uint64         // of the subscription
	orders  map[uint64]int // messages asked for, by number of the order
	order   uint64         // the last number
	ordered int            // asked for and not here yet
	voided  uint64         // orders up to here are settled
	heard   time.Time      // the last sign of life of the consumer
	pause   *pause
	resume  time.Time // no order before
	unheard int       // orders in a row that nobody has heard
	quiet   bool      // the kind is paused, and no order stands

	mu          sync.Mutex
	held        map[uint64]*delivery // by sequence
	retrying    map[uint64]*handBack // handed back a short while ago, or with a delay
	unconfirmed []*handBack          // on their way to the leader
	confirming  bool                 // confirmBacks runs
	created     time.Time            // of the stream
	last        uint64               // newest sequence seen
	made        time.Time            // when the consumer was made
	running     atomic.Bool
	// What was answered while somebody asks what is in hand; see account.
	questions int
	answered  []uint64

	releasing sync.Mutex // one hand-back at a time; see release.go
	round     round
}

func (r *Router) newPuller(stream, consumer, prefix string, config func() jetstream.ConsumerConfig, kinds ...*kind) *puller {
	p := &puller{
		r: r, stream: stream, consumer: consumer, prefix: prefix, config: config, kinds: kinds,
		freed: make(chan struct{}, 1), woken: make(chan wake, 1), asks: make(chan heldAsked), looks: make(chan chan bool),
		stop: make(chan struct{}), done: make(chan struct{}),
		orders: map[uint64]int{}, held: map[uint64]*delivery{}, retrying: map[uint64]*handBack{},
		pause: newPause(), born: time.Now(),
	}
	for _, k := range kinds {
		p.limit += k.opts.Concurrency
		k.lane.sources = append(k.lane.sources, p)
	}
	// Room for what was ordered twice after a fault, and for what the server
	// says beside it: a full channel would drop messages.
	p.msgs = make(chan *nats.Msg, 2*p.limit+256)
	return p
}

// run is the loop. It ends with ctx, or after a drain, when everything that the
// server had sent is handed back.
func (p *puller) run(ctx context.Context) {
	defer close(p.done)
	defer func() {
		if p.sub != nil {
			_ = p.sub.Unsubscribe() // the only errors are of a closed connection
		}
	}()
	p.resubscribe()
	p.running.Store(true)
	timer := time.NewTimer(p.silence())
	defer timer.Stop()
	for {
		p.heedPause(ctx)
		p.orderMore(timer)
		select {
		case <-ctx.Done():
			return
		case <-p.stop:
			p.endOrders(ctx) // the lanes are closed and hand back what arrives
			return
		case m := <-p.msgs:
			p.receiveAll(m)
		case <-p.freed:
		case why := <-p.woken:
			switch why {
			case newConnection:
				p.resubscribe()
			case newConsumer:
				p.forgetOrders()
			}
			p.resume = time.Time{}
		case q := <-p.asks:
			// What arrived before the question is in the answer.
			p.drainArrived()
			q.answer <- p.inHand(q.since)
		case answer := <-p.looks:
			answer <- p.works()
		case <-timer.C:
			timer.Reset(p.checkSilence())
		}
	}
}

// drainArrived receives what is there.
func (p *puller) drainArrived() {
	select {
	case m := <-p.msgs:
		p.receiveAll(m)
	default:
	}
}

// receiveAll receives m and what came with it.
func (p *puller) receiveAll(m *nats.Msg) {
	p.heard = time.Now()
	p.receive(m)
	for range len(p.msgs) {
		p.receive(<-p.msgs)
	}
}

// receive takes one message of the subscription: a delivery, or a word of the
// server about an order.
func (p *puller) receive(m *nats.Msg) {
	if len(m.Data) == 0 && m.Header != nil {
		if status := m.Header.Get(headerStatus); status != "" && !strings.HasPrefix(m.Reply, ackPrefix) {
			p.status(m, status)
			return
		}
	}
	ack, err := parseAck(m.Reply)
	if err == nil && (ack.consumer != p.consumer || ack.stream != p.stream) {
		err = fmt.Errorf("it is of consumer %s of stream %s", ack.consumer, ack.stream)
	}
	if err != nil {
		p.r.log.Error("a delivery cannot be read", "stream", p.stream, "consumer", p.consumer, "err", err)
		return
	}
	p.ordered = max(p.ordered-1, 0)
	if p.ordered == 0 {
		clear(p.orders)
	}
	p.unheard = 0
	p.pause.reset()
	d := &delivery{p: p, msg: m, ack: ack, kind: p.kindOf(m.Subject), life: p.life}
	if !p.take(d) {
		return
	}
	switch {
	case d.kind == nil:
		// Only a filter that is being changed lets it through; let go of it
		// without counting it as an attempt for long.
		p.retryAt(d, time.Now().Add(progressEvery))
		d.finish(nakAfter(progressEvery))
	case p.mixed && p.stream == p.r.cluster.FanoutStream() && !p.r.isFor(m.Header):
		d.finish(ackDone)
	default:
		d.kind.lane.put(d)
	}
}

func (p *puller) kindOf(subject string) *kind {
	name, ok := strings.CutPrefix(subject, p.prefix)
	if !ok {
		return nil
	}
	return p.r.kinds[name]
}

// provisioned notes that the consumer is there. Orders at one that was made
// anew have to be made anew too.
func (p *puller) provisioned(info *jetstream.ConsumerInfo) {
	p.mu.Lock()
	another := !p.made.IsZero() && !p.made.Equal(info.Created)
	p.made = info.Created
	p.last = max(p.last, info.Delivered.Stream)
	p.mu.Unlock()
	if another {
		p.wake(newConsumer)
	}
}

// wasMade reports whether the consumer has been there in this life.
func (p *puller) wasMade() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.made.IsZero()
}

// lookNow lets the loop look whether more can be ordered.
func (p *puller) lookNow() {
	select {
	case p.freed <- struct{}{}:
	default:
	}
}

// wake says why the loop should look again.
type wake int

const (
	lookAgain     wake = iota // what was missing is there; standing orders stand
	newConsumer               // the orders are gone with the old one
	newConnection             // the orders are gone, as soon as nobody listens to their subject
)

// wake makes the loop look again. Of several words that it has not heard yet the
// strongest counts.
func (p *puller) wake(why wake) {
	for {
		select {
		case p.woken <- why:
			return
		case earlier := <-p.woken:
			why = max(why, earlier)
		}
	}
}

// beginDrain stops the orders and hands back what has not begun.
func (p *puller) beginDrain() { p.once.Do(func() { close(p.stop) }) }

// endOrders ends the subscription in order: the server is told first, then
// everything that it had sent by then is received. An Unsubscribe alone would
// leave it in hand of nobody until AckWait.
func (p *puller) endOrders(ctx context.Context) {
	if p.sub == nil || p.sub.Drain() != nil {
		return
	}
	flushed := make(chan struct{})
	go func() {
		defer close(flushed)
		_ = flush(ctx, p.r.nc) // without a connection there is nothing to wait for
	}()
	for {
		select {
		case m := <-p.msgs:
			p.receive(m)
		case q := <-p.asks:
			p.drainArrived()
			q.answer <- p.inHand(q.since)
		case <-flushed:
			p.drainArrived()
			p.sub = nil
			return
		}
	}
}
