package routing

import (
	"context"
	"encoding/json"
	"errors"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/catga/catga-go/internal/wire"
)

// What a lost node had in hand is handed back on its behalf: the server takes a
// nak for a pending message from anyone. One member per kind does it, chosen by
// rendezvous among the handlers:
//
//  1. it asks the server how far the consumer has delivered and what is acked;
//  2. it waits until what was delivered by then has arrived;
//  3. it asks the living what they hold;
//  4. it naks the rest.
//
// A handler that does not answer may be about to be lost too, or may be slow.
// Then nothing is handed back: it is asked again, and in the end AckWait is the
// back-up. So a message of a living node is not repeated by this, unless its ack
// is slower than the answer that it is not held any more: they may go through
// different servers.

const (
	// arrivalTime is how long a delivery may take to its node.
	arrivalTime = 20 * time.Millisecond
	// answerTime is how long the living have to say what they hold.
	answerTime = 300 * time.Millisecond
	// lingerTime is for those whom this node does not know yet: they answer as
	// fast as the others.
	lingerTime = 5 * time.Millisecond
	// releaseTries is how often a handler that does not answer is asked.
	releaseTries = 8
	// releaseSpan is how many sequences are naked blindly, pending or not;
	// beyond it the pending ones are looked up.
	releaseSpan = 10_000
	// releaseLimit bounds one request of a release.
	releaseLimit = 5 * time.Second
	// seenLimit is how long a starting node waits for the first view.
	seenLimit = 5 * time.Second
)

// heldAnswer is what a node answers on held.<kind>. Shape:
// {"node":"n1","seqs":[4,7]}.
type heldAnswer struct {
	Node string   `json:"node"`
	Seqs []uint64 `json:"seqs"`
}

// parseHeld reads an answer of a node.
func parseHeld(data []byte) (heldAnswer, error) {
	var a heldAnswer
	if err := json.Unmarshal(data, &a); err != nil {
		return heldAnswer{}, err
	}
	if a.Node == "" {
		return heldAnswer{}, errors.New("routing: an answer of nobody")
	}
	return a, nil
}

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
	for range releaseTries {
		info, err := r.pending(p.source())
		if err != nil || info.NumAckPending == 0 {
			return
		}
		if !r.sleep(arrivalTime) {
			return
		}
		held, all := r.askLiving(kind, p)
		if all {
			r.handBackUnheld(p.source(), info, held)
			return
		}
		if !r.sleep(answerTime) {
			return
		}
	}
	r.log.Warn("some handlers do not say what they hold; what a lost node had is delivered again after the ack wait", "kind", kind, "wait", ackWait)
}

// releaseOwn hands back what is pending at this node's own consumer and not in
// its hand: an earlier life of the node had it, or a connection that is gone.
// Who moves mail out of the mailbox, because he took this node for gone, has
// handed it back before, and comes to his end first: what he gives back meanwhile
// may be on its way here.
func (r *Router) releaseOwn(p *puller) {
	p.releasing.Lock()
	defer p.releasing.Unlock()
	for range 2 * releaseTries {
		if p == r.durable.mail && r.othersMove() {
			if !r.sleep(answerTime) {
				return
			}
			continue
		}
		info, err := r.pending(p.source())
		if err != nil || info.NumAckPending == 0 || !r.sleep(arrivalTime) {
			return
		}
		held := map[uint64]bool{}
		for _, seq := range p.askHeld(r.ctx) {
			held[seq] = true
		}
		r.handBackUnheld(p.source(), info, held)
		return
	}
	r.log.Warn("somebody still moves mail of this node; what an earlier life had is delivered again after the ack wait", "wait", ackWait)
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

// askLiving collects what the handlers of kind hold; all is false when one that
// is in the view did not answer.
func (r *Router) askLiving(kind string, own *puller) (held map[uint64]bool, all bool) {
	held = map[uint64]bool{}
	answers := make(chan *nats.Msg, 1024)
	inbox := r.cluster.InboxPrefix(r.id, r.currentIncarnation()) + "held." + strconv.FormatUint(rand.Uint64(), 36)
	sub, err := r.nc.ChanSubscribe(inbox, answers)
	if err != nil {
		return nil, false
	}
	defer func() { _ = sub.Unsubscribe() }() // the only errors are of a closed connection
	if r.nc.PublishMsg(&nats.Msg{Subject: r.cluster.Held(kind), Reply: inbox}) != nil {
		return nil, false
	}
	for _, seq := range own.askHeld(r.ctx) {
		held[seq] = true
	}
	silent := map[string]bool{}
	for _, p := range r.peers.Load().handlers[kind] {
		if p.ID != r.id {
			silent[p.ID] = true
		}
	}
	timer := time.NewTimer(answerTime)
	defer timer.Stop()
	if len(silent) == 0 {
		timer.Reset(lingerTime)
	}
	for {
		select {
		case m := <-answers:
			a, err := parseHeld(m.Data)
			if err != nil {
				continue // no responders, or not of our kind
			}
			for _, seq := range a.Seqs {
				held[seq] = true
			}
			if silent[a.Node] {
				delete(silent, a.Node)
				if len(silent) == 0 {
					timer.Reset(lingerTime)
				}
			}
		case <-timer.C:
			// Who was lost while we waited need not answer.
			view := r.peers.Load()
			for id := range silent {
				if p := view.byID[id]; p != nil && !p.lost {
					return nil, false
				}
			}
			return held, true
		case <-r.ctx.Done():
			return nil, false
		}
	}
}

// handBackUnheld naks everything pending up to what info says, but for held.
func (r *Router) handBackUnheld(p source, info *jetstream.ConsumerInfo, held map[uint64]bool) {
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
				return
			}
		}
	} else {
		r.eachPending(p, first, last, nak)
	}
	ctx, cancel := context.WithTimeout(r.ctx, releaseLimit)
	defer cancel()
	if err := flush(ctx, r.nc); err != nil {
		return
	}
	r.log.Info("handed back what a gone node had", "stream", p.stream, "consumer", p.consumer,
		"pending", info.NumAckPending, "held by the living", len(held))
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

// subscribeHeld answers what this node holds of each of its kinds.
func (r *Router) subscribeHeld() error {
	r.mu.Lock()
	done := len(r.durable.heard) > 0
	r.mu.Unlock()
	if done {
		return nil
	}
	heldOf := map[string]*puller{}
	for name, p := range r.durable.work {
		heldOf[r.cluster.Held(name)] = p
	}
	if p := r.durable.mail; p != nil {
		// Who is about to move this node's mail hears that it is there.
		heldOf[r.cluster.Held(p.consumer)] = p
	}
	for subject, p := range heldOf {
		sub, err := r.nc.Subscribe(subject, func(m *nats.Msg) { r.answerHeld(m, p.askHeld(r.ctx)) })
		if err != nil {
			return err
		}
		r.mu.Lock()
		r.durable.heard = append(r.durable.heard, sub)
		r.mu.Unlock()
	}
	return nil
}

// answerHeld answers a question about what is in hand.
func (r *Router) answerHeld(m *nats.Msg, seqs []uint64) {
	data, err := json.Marshal(heldAnswer{Node: r.id, Seqs: seqs})
	if err == nil && r.ctx.Err() == nil {
		_ = m.Respond(data) // who asks asks again
	}
}

// sleep waits, and reports whether the router is still alive.
func (r *Router) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.ctx.Done():
		return false
	}
}

func isNotFound(err error) bool {
	return errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound)
}
