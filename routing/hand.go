package routing

import (
	"context"
	"slices"
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
	if p.questions > 0 {
		p.answered = append(p.answered, d.ack.seq)
	}
	p.mu.Unlock()
	if p.mixed && p.wanting.Load() >= 0 {
		p.lookNow()
	}
}

// handBack is a message that was handed back. This node answers for it as if it
// held it, for as long as it may be on its way to somebody who has just said
// that he does not: see named.
type handBack struct {
	// until is when the server delivers it again, as far as this node can tell.
	until   time.Time
	delayed bool
	// confirmed is since when the consumer's leader is known to have the answer;
	// only of one without a delay.
	confirmed time.Time
}

const (
	// backRoom is how much later than this node thinks the server may deliver
	// again what was handed back with a delay. It also stands for the window of who
	// asks without one.
	backRoom = time.Second
	// backKept is how long a hand-back is remembered.
	backKept = 5 * time.Second
)

// named reports whether somebody who asked the server at since, or later, how far
// the consumer is, has to hear of b. What the leader had by then has been
// delivered again since.
func (b *handBack) named(since time.Time) bool {
	if b.delayed {
		return !b.until.Add(backRoom).Before(since)
	}
	return b.confirmed.IsZero() || !b.confirmed.Before(since)
}

// retryAt remembers a message that is handed back with a delay.
func (p *puller) retryAt(d *delivery, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !d.gone() {
		p.retrying[d.ack.seq] = &handBack{until: at, delayed: true}
	}
}

// backSent has a hand-back without a delay confirmed: it is on its way. b is nil
// for any other.
func (p *puller) backSent(b *handBack) {
	if b == nil || b.delayed {
		return
	}
	p.mu.Lock()
	p.unconfirmed = append(p.unconfirmed, b)
	begin := !p.confirming && p.r.ctx.Err() == nil
	p.confirming = p.confirming || begin
	p.mu.Unlock()
	if begin {
		p.r.wg.Go(p.confirmBacks)
	}
}

// confirmBacks waits until the consumer's leader has what was handed back: its
// word comes after all that it was told before. Where it says nothing it is asked
// again, for as long as a hand-back is remembered.
func (p *puller) confirmBacks() {
	for {
		p.mu.Lock()
		waiting := p.unconfirmed
		p.unconfirmed = nil
		p.confirming = len(waiting) > 0
		p.mu.Unlock()
		if len(waiting) == 0 {
			return
		}
		err := p.r.roundTrip(p.r.ctx, p.source(), roundTripLimit)
		if err != nil && !p.r.sleep(answerTime) {
			return
		}
		now := time.Now()
		p.mu.Lock()
		for _, b := range waiting {
			switch {
			case err == nil:
				b.confirmed = now
			case now.Sub(b.until) < backKept:
				p.unconfirmed = append(p.unconfirmed, b)
			}
		}
		p.mu.Unlock()
	}
}

// letGo prepares the answer of a delivery, and is false for one that has none,
// because its stream is no more or its life is over. A message that is handed back
// may return before the hand-back is noted here. noted is that note.
func (p *puller) letGo(d *delivery, back bool) (noted *handBack, ok bool) {
	if !back {
		return nil, !d.gone()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	d.back = true
	if d.gone() {
		return nil, false
	}
	noted = p.retrying[d.ack.seq]
	if noted == nil || !noted.delayed {
		noted = &handBack{until: time.Now()}
		p.retrying[d.ack.seq] = noted
	}
	return noted, true
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

// inHand is every sequence that this node answers for to who asked the server at
// since, or later, how far the consumer is.
func (p *puller) inHand(since time.Time) []uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forgetRetried()
	all := make([]uint64, 0, len(p.held)+len(p.retrying))
	for seq := range p.held {
		all = append(all, seq)
	}
	for seq, b := range p.retrying {
		if b.named(since) {
			all = append(all, seq)
		}
	}
	return all
}

// forgetRetried drops what somebody else has by now of what was handed back;
// p.mu is held.
func (p *puller) forgetRetried() {
	now := time.Now()
	for seq, b := range p.retrying {
		if now.After(b.until.Add(backKept)) {
			delete(p.retrying, seq)
		}
	}
}

// account is every sequence that may be this node's as far as the consumer's
// leader knows. An answer that is on its way there has not been given: between
// two servers it may be slower than the word that the message is not held any
// more. So the leader is asked for a word that comes after all answers of before;
// what it had sent to this node by then is here before the word is. What was
// answered meanwhile counts as held. ok is false where the leader says nothing.
// Who asks has asked the server at since, or later, how far the consumer is.
func (p *puller) account(ctx context.Context, since time.Time) (seqs []uint64, ok bool) {
	if !p.running.Load() {
		return p.inHand(since), true // it has ordered nothing yet
	}
	p.mu.Lock()
	p.questions++
	p.mu.Unlock()
	seqs = p.inHand(since)
	ok = p.r.roundTrip(ctx, p.source(), roundTripLimit) == nil
	seqs = append(seqs, p.askHeld(ctx, since)...)
	p.mu.Lock()
	seqs = append(seqs, p.answered...)
	if p.questions--; p.questions == 0 {
		p.answered = nil
	}
	p.mu.Unlock()
	slices.Sort(seqs)
	return slices.Compact(seqs), ok
}

// heldAsked asks the loop what is in hand for who asked the server at since.
type heldAsked struct {
	since  time.Time
	answer chan []uint64
}

// askHeld asks the loop what is in hand, so that the answer has everything that
// arrived before the question.
func (p *puller) askHeld(ctx context.Context, since time.Time) []uint64 {
	if !p.running.Load() {
		return nil
	}
	q := heldAsked{since, make(chan []uint64, 1)}
	select {
	case p.asks <- q:
		select {
		case seqs := <-q.answer:
			return seqs
		case <-ctx.Done():
			return nil
		}
	case <-p.done:
		return p.inHand(since)
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
		d.void.Store(true)
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
	for seq, b := range p.retrying {
		if time.Since(b.until) < backRoom {
			from = min(from, seq)
		}
	}
	return from
}

// progress tells the server of everything in hand that work goes on, and
// reports handlers that ignore the end of their time.
func (p *puller) progress() {
	now := time.Now()
	p.mu.Lock()
	p.forgetRetried()
	replies := make([]string, 0, len(p.held))
	var overdue []*delivery
	for _, d := range p.held {
		replies = append(replies, d.msg.Reply)
		if limit := d.kindLimit(); limit > 0 && !d.overdue && d.runs(now) > limit {
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
