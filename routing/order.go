package routing

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
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

	textHeader    = "Description"
	pendingHeader = "Nats-Pending-Messages"
)

// resubscribe makes a new reply subject for orders. Orders of an earlier
// connection die with the interest in theirs: the server may not have noticed
// yet that it was away, and would deliver what is not counted any more. After an
// eviction there is none until the next life.
func (p *puller) resubscribe() {
	if p.sub != nil {
		_ = p.sub.Unsubscribe() // the only errors are of a closed connection
		p.sub = nil
	}
	p.epoch++
	p.forgetOrders()
	if p.life != nil && p.life.over.Load() {
		p.discardArrived() // others may have it by now
	}
	p.life = p.r.life.Load()
	if p.life.over.Load() {
		return
	}
	sub, err := p.r.nc.ChanSubscribe(p.inbox()+"*", p.msgs)
	if err != nil {
		p.r.log.Error("the messages of a consumer cannot be received", "stream", p.stream, "consumer", p.consumer, "err", err)
	}
	p.sub = sub
	p.heard = time.Now()
}

// discardArrived drops what has arrived and was not received.
func (p *puller) discardArrived() {
	for {
		select {
		case <-p.msgs:
		default:
			return
		}
	}
}

// inbox is the subject of the current epoch's orders up to their number. It has
// more tokens than the subject of a call's answer, which it is beside. It is short
// because each message brings it along.
func (p *puller) inbox() string {
	return p.r.cluster.InboxPrefix(p.r.id, p.life.incarnation) + "p" + strconv.Itoa(p.place) +
		"." + strconv.FormatUint(p.epoch, 10) + "."
}

func (p *puller) forgetOrders() {
	clear(p.orders)
	p.ordered = 0
	p.voided = p.order
}

// free is how many more messages can be ordered.
func (p *puller) free() int {
	if !p.mixed {
		if p.quiet {
			return 0
		}
		return p.limit - p.kinds[0].lane.load() - p.ordered
	}
	p.mu.Lock()
	inHand := len(p.held)
	p.mu.Unlock()
	slots := 0
	for _, k := range p.kinds {
		if !k.lane.paused.Load() {
			slots += max(k.opts.Concurrency-k.lane.load(), 0)
		}
	}
	return min(slots, p.limit-inHand) - p.ordered
}

// orderMore asks for as many messages as there are free slots, where that is
// worth a request: when nothing is on order, or when half of the slots are free.
func (p *puller) orderMore(timer *time.Timer) {
	if !p.r.durable.link.up.Load() || p.sub == nil {
		return
	}
	p.wanting.Store(p.wants()) // before the load is looked at, so that no word is missed
	n := p.free()
	if n < p.worth() {
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
	p.wanting.Store(p.wants())
}

// worth is how many free slots are worth an order: any where none stands, else
// half of all.
func (p *puller) worth() int {
	if p.ordered == 0 {
		return 1
	}
	return (p.limit + 1) / 2
}

// wants is the load of a lane from which on downwards there may be as many free
// slots as an order is worth; negative is none.
func (p *puller) wants() int64 {
	most := p.limit - p.ordered - p.worth()
	if p.mixed && most >= 0 {
		return math.MaxInt64 // the load of one lane alone does not tell
	}
	return int64(most)
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
