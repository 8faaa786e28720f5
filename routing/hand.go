package routing

import (
	"context"
	"time"
)

// take puts a delivery on the table. It is false for a message that is there
// already: the server delivered it again because it heard nothing for so long,
// and the attempt in hand answers for both. It is false too for what arrives in
// a life that is over.
func (p *puller) take(d *delivery) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if d.life.over.Load() {
		return false
	}
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
	if p.mixed && p.wanting.Load() >= 0 {
		p.lookNow()
	}
}

// retryAt remembers a message that was handed back with a delay: it is pending
// at the server, and this node answers for it as if it held it.
func (p *puller) retryAt(d *delivery, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !d.void && !d.life.over.Load() {
		p.retrying[d.ack.seq] = at
	}
}

// letGo prepares the answer of a delivery, and is false for one that has none,
// because its stream is no more or its life is over. A message that is handed back may return before
// the hand-back is noted here.
func (p *puller) letGo(d *delivery, back bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	d.back = back
	return !d.void && !d.life.over.Load()
}

// letAllGo empties the table of a life that is over, and returns how many
// messages were on it.
func (p *puller) letAllGo() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.held)
	clear(p.held)
	clear(p.retrying)
	return n
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

// askHeld asks the loop what is in hand, so that the answer has everything that
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
