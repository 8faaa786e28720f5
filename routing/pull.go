package routing

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// orderExpires is how long an order for shared work waits at the server. It
	// is shorter than it takes to tell that a node hangs (5 s): such a node keeps
	// its orders, and what it had would be handed back into its hands.
	orderExpires = 4 * time.Second
	// orderSilence is when an order for work of which nothing was heard, not even
	// that it expired, is taken to be lost.
	orderSilence = orderExpires + 3*time.Second
	// Nobody else waits for what is in a mailbox: its orders can stand for long,
	// which is less for the servers to agree on, and heartbeats say that they do.
	mailExpires   = 30 * time.Second
	mailHeartbeat = 3 * time.Second
	mailSilence   = 2*mailHeartbeat + time.Second
	// patience is how many orders in a row go unheard before somebody looks
	// whether the consumer is there.
	patience = 3

	statusHeader  = "Status"
	textHeader    = "Description"
	pendingHeader = "Nats-Pending-Messages"
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

	msgs  chan *nats.Msg
	freed chan struct{}      // a slot came free
	woken chan wake          // the link or the consumer was looked after
	asks  chan chan []uint64 // what is in hand, in order with the arrivals
	stop  chan struct{}      // drain: no more orders
	once  sync.Once
	done  chan struct{} // the loop has ended

	// Of the loop alone.
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

	mu       sync.Mutex
	held     map[uint64]*delivery // by sequence
	retrying map[uint64]time.Time // handed back with a delay, until when
	created  time.Time            // of the stream
	last     uint64               // newest sequence seen
	made     time.Time            // when the consumer was made
	running  atomic.Bool

	releasing sync.Mutex // one hand-back at a time; see release.go
}

func (r *Router) newPuller(stream, consumer, prefix string, config func() jetstream.ConsumerConfig, kinds ...*kind) *puller {
	p := &puller{
		r: r, stream: stream, consumer: consumer, prefix: prefix, config: config, kinds: kinds,
		freed: make(chan struct{}, 1), woken: make(chan wake, 1), asks: make(chan chan []uint64),
		stop: make(chan struct{}), done: make(chan struct{}),
		orders: map[uint64]int{}, held: map[uint64]*delivery{}, retrying: map[uint64]time.Time{},
		pause: newPause(),
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
		p.orderMore(timer)
		select {
		case <-ctx.Done():
			return
		case <-p.stop:
			p.handBack(ctx)
			return
		case m := <-p.msgs:
			p.receive(m)
			p.drainArrived()
		case <-p.freed:
		case why := <-p.woken:
			switch why {
			case newConnection:
				p.resubscribe()
			case newConsumer:
				p.forgetOrders()
			}
			p.resume = time.Time{}
		case answer := <-p.asks:
			// What arrived before the question is in the answer.
			p.drainArrived()
			answer <- p.inHand()
		case <-timer.C:
			timer.Reset(p.checkSilence())
		}
	}
}

func (p *puller) drainArrived() {
	for range len(p.msgs) {
		p.receive(<-p.msgs)
	}
}

// resubscribe makes a new reply subject for orders. Orders of an earlier
// connection die with the interest in theirs: the server may not have noticed
// yet that it was away, and would deliver what is not counted any more.
func (p *puller) resubscribe() {
	if p.sub != nil {
		_ = p.sub.Unsubscribe() // the only errors are of a closed connection
	}
	p.epoch++
	p.forgetOrders()
	sub, err := p.r.nc.ChanSubscribe(p.inbox()+"*", p.msgs)
	if err != nil {
		p.r.log.Error("the messages of a consumer cannot be received", "stream", p.stream, "consumer", p.consumer, "err", err)
	}
	p.sub = sub
	p.heard = time.Now()
}

// inbox is the subject of the current epoch's orders up to their number. It has
// more tokens than the subject of a call's answer, which it is beside.
func (p *puller) inbox() string {
	return p.r.cluster.InboxPrefix(p.r.id, p.r.currentIncarnation()) + "pull." +
		p.stream + "." + p.consumer + "." + strconv.FormatUint(p.epoch, 10) + "."
}

func (p *puller) forgetOrders() {
	clear(p.orders)
	p.ordered = 0
	p.voided = p.order
}

// free is how many more messages can be ordered.
func (p *puller) free() int {
	if !p.mixed {
		return p.limit - p.kinds[0].lane.load() - p.ordered
	}
	p.mu.Lock()
	inHand := len(p.held)
	p.mu.Unlock()
	slots := 0
	for _, k := range p.kinds {
		slots += max(k.opts.Concurrency-k.lane.load(), 0)
	}
	return min(slots, p.limit-inHand) - p.ordered
}

// orderMore asks for as many messages as there are free slots, where that is
// worth a request: when nothing is on order, or when half of the slots are free.
func (p *puller) orderMore(timer *time.Timer) {
	if !p.r.durable.link.up.Load() || p.sub == nil {
		return
	}
	n := p.free()
	if n <= 0 || p.ordered > 0 && n < (p.limit+1)/2 {
		return
	}
	if wait := time.Until(p.resume); wait > 0 {
		timer.Reset(wait)
		return
	}
	p.order++
	request := fmt.Appendf(nil, `{"batch":%d,"expires":%d}`, n, orderExpires)
	if p.mixed {
		request = fmt.Appendf(nil, `{"batch":%d,"expires":%d,"idle_heartbeat":%d}`, n, mailExpires, mailHeartbeat)
	}
	err := p.r.nc.PublishMsg(&nats.Msg{
		Subject: "$JS.API.CONSUMER.MSG.NEXT." + p.stream + "." + p.consumer,
		Reply:   p.inbox() + strconv.FormatUint(p.order, 10),
		Data:    request,
	})
	if err != nil {
		p.later() // the connection is away; its return wakes us
		timer.Reset(time.Until(p.resume))
		return
	}
	if p.ordered == 0 {
		p.heard = time.Now()
		timer.Reset(p.silence())
	}
	p.orders[p.order] = n
	p.ordered += n
}

// later puts the next order off.
func (p *puller) later() { p.resume = time.Now().Add(p.pause.next()) }

// checkSilence is for orders that nobody speaks of any more. It returns when to
// look again.
func (p *puller) checkSilence() time.Duration {
	if p.ordered == 0 {
		return p.silence()
	}
	if rest := p.silence() - time.Since(p.heard); rest > 0 {
		return rest
	}
	p.r.log.Warn("a consumer is silent", "stream", p.stream, "consumer", p.consumer)
	p.forgetOrders()
	p.r.miss()
	return p.silence()
}

// silence is how long a consumer with orders may say nothing.
func (p *puller) silence() time.Duration {
	if p.mixed {
		return mailSilence
	}
	return orderSilence
}

// receive takes one message of the subscription: a delivery, or a word of the
// server about an order.
func (p *puller) receive(m *nats.Msg) {
	p.heard = time.Now()
	if len(m.Data) == 0 && m.Header != nil {
		if status := m.Header.Get(statusHeader); status != "" && !strings.HasPrefix(m.Reply, ackPrefix) {
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
	d := &delivery{p: p, msg: m, ack: ack, kind: p.kindOf(m.Subject)}
	if !p.take(d) {
		return // a second copy of what is in hand; never two at once
	}
	switch {
	case d.kind == nil:
		// Only a filter that is being changed lets it through; let go of it
		// without counting it as an attempt for long.
		d.finish(nakAfter(progressEvery))
	case p.mixed && p.stream == p.r.cluster.FanoutStream() && !isFor(m.Header, p.r.id):
		d.finish(ackDone)
	default:
		d.kind.lane.put(d)
	}
}

// status is what the server says of an order.
func (p *puller) status(m *nats.Msg, status string) {
	number, _ := strconv.ParseUint(m.Subject[strings.LastIndexByte(m.Subject, '.')+1:], 10, 64)
	asked, open := p.orders[number]
	if status != "503" {
		p.unheard = 0
	}
	if status == "100" || number <= p.voided {
		return // an order that still stands, or is settled
	}
	text := m.Header.Get(textHeader)
	settle := func(rest int) {
		delete(p.orders, number)
		p.ordered = max(p.ordered-rest, 0)
	}
	rest, err := strconv.Atoi(m.Header.Get(pendingHeader))
	switch {
	case err == nil: // it expired, or ended early: so much of it will not come
		if open {
			settle(rest)
		}
	case status == "503": // nobody has heard it: an election, or no such consumer
		if open {
			settle(asked)
		}
		p.later()
		if p.unheard++; p.unheard >= patience {
			p.r.miss() // an election takes seconds, but so does waiting in vain
		}
	case text == "Leadership Change", text == "Server Shutdown":
		// Every order of the old leader is void; each may be told of.
		p.forgetOrders()
		p.later()
	case text == "Consumer Deleted":
		p.forgetOrders()
		p.later()
		p.r.miss()
	default:
		p.r.log.Warn("a consumer refuses an order", "stream", p.stream, "consumer", p.consumer, "status", status, "description", text)
		if open {
			settle(asked)
		}
		p.later()
	}
}

func (p *puller) kindOf(subject string) *kind {
	name, ok := strings.CutPrefix(subject, p.prefix)
	if !ok {
		return nil
	}
	return p.r.kinds[name]
}

// take puts a delivery on the table. It is false for a message that is there
// already: the server delivered it again because it heard nothing for so long,
// and the attempt in hand answers for both.
func (p *puller) take(d *delivery) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = max(p.last, d.ack.seq)
	delete(p.retrying, d.ack.seq)
	if old := p.held[d.ack.seq]; old != nil && !old.back {
		return false
	}
	p.held[d.ack.seq] = d
	return true
}

// forget takes a delivery off the table: its answer is sent.
func (p *puller) forget(d *delivery) {
	p.mu.Lock()
	if p.held[d.ack.seq] == d {
		delete(p.held, d.ack.seq)
	}
	p.mu.Unlock()
	if p.mixed {
		p.slotFreed()
	}
}

// retryAt remembers a message that was handed back with a delay: it is pending
// at the server, and this node answers for it as if it held it.
func (p *puller) retryAt(d *delivery, at time.Time) {
	p.mu.Lock()
	p.retrying[d.ack.seq] = at
	p.mu.Unlock()
}

// letGo prepares the answer of a delivery, and is false for one that has none,
// because its stream is no more. A message that is handed back may return before
// the hand-back is noted here.
func (p *puller) letGo(d *delivery, back bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	d.back = back
	return !d.void
}

// keep takes letGo back: the answer could not be sent.
func (p *puller) keep(d *delivery) {
	p.mu.Lock()
	d.back = false
	p.mu.Unlock()
}

// inHand is every sequence that this node answers for.
func (p *puller) inHand() []uint64 {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]uint64, 0, len(p.held)+len(p.retrying))
	for seq := range p.held {
		all = append(all, seq)
	}
	for seq, until := range p.retrying {
		if now.After(until.Add(time.Second)) {
			delete(p.retrying, seq) // somebody else has it by now
			continue
		}
		all = append(all, seq)
	}
	return all
}

// held asks the loop what is in hand, so that the answer has everything that
// arrived before the question.
func (p *puller) askHeld(ctx context.Context) []uint64 {
	if !p.running.Load() {
		return nil
	}
	answer := make(chan []uint64, 1)
	select {
	case p.asks <- answer:
		select {
		case seqs := <-answer:
			return seqs
		case <-ctx.Done():
			return nil
		}
	case <-p.done:
		return p.inHand()
	case <-ctx.Done():
		return nil
	}
}

// voidUnless voids everything in hand when the stream is not the one that it
// came from: the server has forgotten it, and the sequences begin anew.
func (p *puller) voidUnless(created time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.created.IsZero() || p.created.Equal(created) {
		p.created = created
		return
	}
	p.created = created
	p.last = 0
	for _, d := range p.held {
		d.void = true
	}
	clear(p.held)
	clear(p.retrying)
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

// resumeFrom is the sequence from which a consumer that is made anew has to
// deliver, so that nothing that was stored meanwhile is missed: the oldest one
// in hand, else the one after the newest seen. It is 0 for a first consumer.
func (p *puller) resumeFrom() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.made.IsZero() {
		return 0
	}
	from := p.last + 1
	for seq := range p.held {
		from = min(from, seq)
	}
	for seq := range p.retrying {
		from = min(from, seq)
	}
	return from
}

// progress tells the server of everything in hand that work goes on, and
// reports handlers that ignore the end of their time.
func (p *puller) progress() {
	now := time.Now()
	p.mu.Lock()
	replies := make([]string, 0, len(p.held))
	var overdue []*delivery
	for _, d := range p.held {
		replies = append(replies, d.msg.Reply)
		if limit := d.kindLimit(); limit > 0 && !d.overdue && !d.began.IsZero() && now.Sub(d.began) > limit {
			d.overdue = true
			overdue = append(overdue, d)
		}
	}
	p.mu.Unlock()
	for _, reply := range replies {
		if p.r.nc.Publish(reply, ackProgress) != nil {
			return // the connection is away
		}
	}
	for _, d := range overdue {
		p.r.log.Warn("a handler goes on after its time limit", "kind", d.kind.name, "seq", d.ack.seq, "limit", d.kindLimit())
	}
}

func (d *delivery) kindLimit() time.Duration {
	if d.kind == nil {
		return 0
	}
	return d.kind.timeLimit()
}

// slotFreed lets the loop look whether more can be ordered.
func (p *puller) slotFreed() {
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

// handBack ends the subscription in order: the server is told first, then
// everything that it had sent by then is read and handed back. An Unsubscribe
// alone would leave it in hand of nobody until AckWait.
func (p *puller) handBack(ctx context.Context) {
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
			p.receive(m) // the lane is closed and hands it back
		case answer := <-p.asks:
			p.drainArrived()
			answer <- p.inHand()
		case <-flushed:
			p.drainArrived()
			p.sub = nil
			return
		}
	}
}
