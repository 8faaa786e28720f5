package routing

import (
	"context"
	"errors"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/catga/catga-go/internal/wire"
)

// What a lost node had in hand is handed back on its behalf: the server takes a
// nak for a pending message from anyone. One member per kind does it, chosen by
// rendezvous among the handlers:
//
//  1. it asks the server how far the consumer has delivered and what is acked;
//  2. it makes sure that nothing waits there to be delivered again: see settled;
//  3. it asks the living what they hold;
//  4. it naks the rest.
//
// The server takes a nak whichever delivery it is for. So a message of a living
// node must not be among the rest:
//
//   - What was delivered by the time of 1, and what was answered before 3, is in
//     order with the answer of its node, which asks the consumer's leader for a
//     word first: see account.
//   - What had been handed back before has been delivered again by 2. What is
//     handed back later is named by who does it: the question says how long ago 1
//     was, at most.
//   - Of two nodes that do this at once, one waits for the other: see round.
//   - A handler that does not answer may be about to be lost too, or may be slow.
//     Then nothing is handed back: it is asked again, and in the end AckWait is
//     the back-up.

const (
	// arrivalTime is how long the servers may take to agree on a delivery, and to
	// wake up for one.
	arrivalTime = 20 * time.Millisecond
	// answerTime is how long the living have to say what they hold. It grows by
	// itself with each time that somebody was silent, up to mostAnswerTime.
	answerTime     = 300 * time.Millisecond
	mostAnswerTime = 2 * time.Second
	// roundTripLimit is how long a consumer's leader has for one word.
	roundTripLimit = 2 * time.Second
	// lingerTime is for those whom this node does not know yet: they answer as
	// fast as the others.
	lingerTime = 5 * time.Millisecond
	// mostRelease is how long a release is tried: then the ack wait has done it.
	mostRelease = ackWait
	// orderWait is the pause until somebody has room for what is handed back.
	orderWait = 200 * time.Millisecond
	// releaseSpan is how many sequences are naked blindly, pending or not;
	// beyond it the pending ones are looked up.
	releaseSpan = 10_000
	// releaseLimit bounds one request of a release.
	releaseLimit = 5 * time.Second
	// seenLimit is how long a starting node waits for the first view.
	seenLimit = 5 * time.Second
)

// releasePasses is when the work of a lost node is looked at. Once is enough for
// a process that is killed, and for one that hangs: its orders have expired by
// the time that it is given up. A node that was cut off for less may still have
// some, which take messages until then.
var releasePasses = [...]time.Duration{0, time.Second, orderExpires + time.Second}

// releases is the queue of kinds whose work is to be released.
type releases struct {
	mu    sync.Mutex
	kinds map[string][]time.Time // and when
	wake  chan struct{}
	seen  chan struct{} // closed when this node has seen itself in the view
	once  sync.Once
}

func (q *releases) init() {
	q.kinds = map[string][]time.Time{}
	q.wake = make(chan struct{}, 1)
	q.seen = make(chan struct{})
}

// add never blocks: it is called by the registry's loop.
func (q *releases) add(kind string, after ...time.Duration) {
	now := time.Now()
	q.mu.Lock()
	for _, d := range after {
		q.kinds[kind] = append(q.kinds[kind], now.Add(d))
	}
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// due takes what is due, and says when the next is.
func (q *releases) due() (kinds []string, next time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	next = -1
	for kind, times := range q.kinds {
		left := slices.DeleteFunc(times, func(at time.Time) bool { return !at.After(now) })
		if len(left) < len(times) {
			kinds = append(kinds, kind)
		}
		if len(left) == 0 {
			delete(q.kinds, kind)
			continue
		}
		q.kinds[kind] = left
		if wait := slices.MinFunc(left, time.Time.Compare).Sub(now); next < 0 || wait < next {
			next = wait
		}
	}
	return kinds, next
}

// releaseOf queues the work of peers that are gone, as far as this node is the
// one to release it.
func (r *Router) releaseOf(ended []*peer, view *peers) {
	if l := r.life.Load(); phase(r.status.Load()) != phaseStarted || r.observes() || l.over.Load() {
		return // after an eviction it is the others' task
	}
	for _, p := range ended {
		if p.ID == r.id {
			continue
		}
		for _, kind := range p.Kinds {
			if r.kinds[kind] != nil && rendezvous(kind, view.handlers[kind], r.id) == r.id {
				r.durable.releases.add(kind, releasePasses[:]...)
			}
		}
	}
}

// rendezvous is the handler that is in charge of kind: the one with the highest
// hash of both. All who see the same handlers agree without a word, and a
// handler that goes changes nothing but what it was in charge of. self counts
// as a handler, seen or not.
func rendezvous(kind string, handlers []*peer, self string) string {
	best, most := self, weight(kind, self)
	for _, p := range handlers {
		if w := weight(kind, p.ID); w > most || w == most && p.ID < best {
			best, most = p.ID, w
		}
	}
	return best
}

func weight(kind, id string) uint64 {
	h := fnv.New64a()
	_, _ = io.WriteString(h, kind) // a hash never fails
	_, _ = h.Write([]byte{0})
	_, _ = io.WriteString(h, id)
	// FNV alone hardly moves the high bits at the last bytes; the names of
	// nodes differ there (node-1, node-2), so mix once more.
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// runReleases works the queue.
func (r *Router) runReleases() {
	q := &r.durable.releases
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		kinds, next := q.due()
		for _, kind := range kinds {
			r.wg.Go(func() { r.releaseWork(kind) })
		}
		if next < 0 {
			next = time.Hour
		}
		timer.Reset(next)
		select {
		case <-q.wake:
		case <-timer.C:
		case <-r.ctx.Done():
			return
		}
	}
}

// releaseAtStart looks once after the kinds of this node when it is there: the
// earlier life of this very node may have held something, and there may have
// been nobody else to see it go.
func (r *Router) releaseAtStart() {
	r.wg.Go(func() {
		timer := time.NewTimer(seenLimit)
		defer timer.Stop()
		select {
		case <-r.durable.releases.seen:
		case <-timer.C:
			return // without a view nobody can tell who is living
		case <-r.ctx.Done():
			return
		}
		for kind := range r.kinds {
			r.durable.releases.add(kind, 0)
		}
	})
}

// releaseAfterReconnect looks after what was on its way when the connection
// went away. A server that restarts brings everybody back at once, hence the
// jitter.
func (r *Router) releaseAfterReconnect() {
	if phase(r.status.Load()) != phaseStarted {
		return
	}
	for kind := range r.kinds {
		r.durable.releases.add(kind, rand.N(500*time.Millisecond))
	}
	for _, p := range r.pullers() {
		if p.mixed {
			r.wg.Go(func() { r.releaseOwn(p) })
		}
	}
}

// releaseWork hands back what no living handler of kind has in hand.
func (r *Router) releaseWork(kind string) {
	p := r.durable.work[kind]
	// One at a time: what one hands back must not be handed back again by another
	// that asked before it had moved.
	p.releasing.Lock()
	defer p.releasing.Unlock()
	answerTime := answerTime
	for end := time.Now().Add(mostRelease); time.Now().Before(end); {
		gone := r.departures.next()
		asked := time.Now()
		info, err := r.pending(p.source())
		if err != nil || info.NumAckPending == 0 || !r.sleep(arrivalTime) {
			return
		}
		pause := orderWait
		if r.settled(p.source(), info) {
			p.round.begin()
			held, all := r.askLiving(kind, p, asked, answerTime)
			done := all && p.round.mayHandBack() && r.handBackUnheld(p.source(), info, held)
			p.round.end()
			if done {
				return
			}
			pause = answerTime
			answerTime = min(2*answerTime, mostAnswerTime)
		}
		// It may be that one who has not answered is gone by now.
		if !r.sleepOr(pause/2+rand.N(pause), gone) {
			return
		}
	}
	r.log.Warn("what a lost node had is delivered again after the ack wait: some handlers do not say what they hold, or none of them has room", "kind", kind, "wait", ackWait)
}

// settled reports whether nothing that was handed back before info waits at the
// consumer any more. Such a message is pending and held by nobody, as that of a
// lost node is, and may be on its way to somebody who has just said that he does
// not hold it. It comes before all others: where an order stands, or something
// new has been delivered since, there is none. Where nobody orders, nobody could
// take what is handed back.
func (r *Router) settled(p source, info *jetstream.ConsumerInfo) bool {
	if info.NumWaiting > 0 {
		return true
	}
	now, err := r.pending(p)
	return err == nil && now.Delivered.Stream > info.Delivered.Stream
}

// releaseOwn hands back what is pending at this node's own consumer and not in
// its hand: an earlier life of the node had it, or a connection that is gone.
// Who moves mail out of the mailbox, because he took this node for gone, has
// handed it back before, and comes to his end first: what he gives back meanwhile
// may be on its way here.
func (r *Router) releaseOwn(p *puller) {
	p.releasing.Lock()
	defer p.releasing.Unlock()
	for end := time.Now().Add(mostRelease); time.Now().Before(end); {
		if p == r.durable.mail && r.othersMove() {
			if !r.sleep(answerTime) {
				return
			}
			continue
		}
		asked := time.Now()
		info, err := r.pending(p.source())
		if err != nil || info.NumAckPending == 0 || !r.sleep(arrivalTime) {
			return
		}
		seqs, ok := p.account(r.ctx, asked)
		if !ok {
			if !r.sleep(answerTime) {
				return
			}
			continue
		}
		held := map[uint64]bool{}
		for _, seq := range seqs {
			held[seq] = true
		}
		r.handBackUnheld(p.source(), info, held)
		return
	}
	r.log.Warn("what an earlier life of this node had is delivered again after the ack wait: somebody still moves its mail, or the consumer says nothing", "stream", p.stream, "consumer", p.consumer, "wait", ackWait)
}

// othersMove reports whether another node moves mail of this one.
func (r *Router) othersMove() bool {
	for _, m := range r.durable.sweeps.atWork() {
		if m.box.id == r.id {
			return false // this node does, and nobody beside it
		}
	}
	_, listening := r.askHolders(r.cluster.Held(wire.MoverConsumer(r.id)))
	return listening
}

// source is a consumer, as those see it who look after what others left there.
type source struct {
	stream, consumer string
	subject          string // of all its messages
}

// source is the consumer of p.
func (p *puller) source() source {
	s := source{p.stream, p.consumer, p.prefix + ">"}
	if !p.mixed {
		s.subject = p.prefix + p.kinds[0].name
	}
	return s
}

// pending asks how far a consumer is.
func (r *Router) pending(p source) (info *jetstream.ConsumerInfo, err error) {
	ctx, cancel := context.WithTimeout(r.ctx, releaseLimit)
	defer cancel()
	err = r.api(ctx, "$JS.API.CONSUMER.INFO."+p.stream+"."+p.consumer, func(ctx context.Context) error {
		info, err = r.consumerInfo(ctx, p.stream, p.consumer)
		return err
	})
	if err != nil && r.ctx.Err() == nil && !isNotFound(err) {
		r.log.Warn("what is pending at a consumer cannot be learned", "stream", p.stream, "consumer", p.consumer, "err", err)
	}
	return info, err
}

// handBackUnheld naks everything pending up to what info says, but for held. It
// reports whether the server has it.
func (r *Router) handBackUnheld(p source, info *jetstream.ConsumerInfo, held map[uint64]bool) bool {
	first, last := info.AckFloor.Stream+1, info.Delivered.Stream
	nak := func(seq uint64) bool {
		if held[seq] {
			return true
		}
		// The server wants a delivery sequence between the ack floor and the
		// newest; which one, it does not look at.
		return r.nc.Publish(foreignAck(p.stream, p.consumer, seq, info.Delivered.Consumer), ackNak) == nil
	}
	if last-min(first, last) <= releaseSpan {
		for seq := first; seq <= last; seq++ {
			if !nak(seq) {
				return false
			}
		}
	} else {
		r.eachPending(p, first, last, nak)
	}
	ctx, cancel := context.WithTimeout(r.ctx, releaseLimit)
	defer cancel()
	if err := flush(ctx, r.nc); err != nil {
		return false
	}
	r.log.Info("handed back what a gone node had", "stream", p.stream, "consumer", p.consumer,
		"pending", info.NumAckPending, "held by the living", len(held))
	return true
}

// eachPending looks up the messages of the consumer from first to last: in a
// work queue what is still stored is not acked.
func (r *Router) eachPending(p source, first, last uint64, yield func(seq uint64) bool) {
	ctx, cancel := context.WithTimeout(r.ctx, 10*releaseLimit)
	defer cancel()
	stream, err := r.js.Stream(ctx, p.stream)
	for seq := first; err == nil && seq <= last; seq++ {
		var m *jetstream.RawStreamMsg
		m, err = stream.GetMsg(ctx, seq, jetstream.WithGetMsgSubject(p.subject))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return
		}
		if err != nil || m.Sequence > last || !yield(m.Sequence) {
			break
		}
		seq = m.Sequence
	}
	if err != nil && r.ctx.Err() == nil {
		r.log.Warn("what a gone node had cannot be listed", "stream", p.stream, "consumer", p.consumer, "err", err)
	}
}

// sleep waits, and reports whether the router is still alive.
func (r *Router) sleep(d time.Duration) bool { return r.sleepOr(d, nil) }

// sleepOr is sleep that ends with c, too.
func (r *Router) sleepOr(d time.Duration, c <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c:
		return true
	case <-r.ctx.Done():
		return false
	}
}

func isNotFound(err error) bool {
	return errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound)
}
