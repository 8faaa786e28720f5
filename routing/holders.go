package routing

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

// heldAnswer is what a node answers on held.<kind>. Shape:
// {"node":"n1","seqs":[4,7]}, and "busy":true where it is just handing back itself.
type heldAnswer struct {
	Node string   `json:"node"`
	Seqs []uint64 `json:"seqs"`
	Busy bool     `json:"busy,omitempty"`
}

// heldQuestion is who asks, and how long ago it can be, at most, when the answer
// is there, that it asked the server how far the consumer is. Shape:
// {"node":"n1","within_ms":330}, or nothing.
type heldQuestion struct {
	Node   string `json:"node"`
	Within int64  `json:"within_ms,omitempty"`
}

// window is within what time a hand-back has to be named.
func (q heldQuestion) window() time.Duration {
	if q.Within <= 0 {
		return backRoom
	}
	return min(time.Duration(q.Within)*time.Millisecond, backKept)
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

// askLiving collects what the handlers of kind hold; all is false when one that
// is in the view did not answer within limit, or is just handing back itself. The
// server was asked at since, or later, how far the consumer is.
func (r *Router) askLiving(kind string, own *puller, since time.Time, limit time.Duration) (held map[uint64]bool, all bool) {
	end := time.Now().Add(limit)
	within := end.Sub(since) + lingerTime
	if within > backKept {
		return nil, false // nobody would know any more
	}
	question, err := json.Marshal(heldQuestion{r.id, within.Milliseconds() + 1})
	if err != nil {
		return nil, false
	}
	held = map[uint64]bool{}
	answers := make(chan *nats.Msg, 1024)
	inbox := r.cluster.InboxPrefix(r.id, r.currentIncarnation()) + "held." + strconv.FormatUint(rand.Uint64(), 36)
	sub, err := r.nc.ChanSubscribe(inbox, answers)
	if err != nil {
		return nil, false
	}
	defer func() { _ = sub.Unsubscribe() }() // the only errors are of a closed connection
	if r.nc.PublishMsg(&nats.Msg{Subject: r.cluster.Held(kind), Reply: inbox, Data: question}) != nil {
		return nil, false
	}
	seqs, ok := own.account(r.ctx, since)
	if !ok {
		return nil, false
	}
	for _, seq := range seqs {
		held[seq] = true
	}
	gone := r.departures.next()
	silent := map[string]bool{}
	for _, p := range r.peers.Load().handlers[kind] {
		if p.ID != r.id {
			silent[p.ID] = true
		}
	}
	left := time.Until(end)
	if left <= 0 {
		return nil, false // an answer may be later than the question says
	}
	if len(silent) == 0 {
		left = lingerTime
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	for {
		select {
		case m := <-answers:
			a, err := parseHeld(m.Data)
			if err != nil {
				continue // no responders, or not of our kind
			}
			if a.Busy {
				return nil, false
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
		case <-gone:
			// Who was lost while we waited need not answer.
			gone = r.departures.next()
			view := r.peers.Load()
			waited := len(silent) > 0
			for id := range silent {
				if p := view.byID[id]; p == nil || p.lost {
					delete(silent, id)
				}
			}
			if waited && len(silent) == 0 {
				timer.Reset(lingerTime)
			}
		case <-timer.C:
			return held, len(silent) == 0
		case <-r.ctx.Done():
			return nil, false
		}
	}
}

// roundTrip returns when the leader of a consumer has processed what this node
// has told it, and what it had sent to this node by then is here: each of the two
// ways keeps its order, between servers too. It is an "in progress" for a message
// that is never there, which a leader answers and forgets.
func (r *Router) roundTrip(ctx context.Context, p source, limit time.Duration) error {
	const never = 1 << 62
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	inbox := r.calls.replies.Load()
	w, reply := inbox.await()
	answered := false
	defer func() { inbox.release(w, answered) }()
	if err := r.nc.PublishMsg(&nats.Msg{Subject: foreignAck(p.stream, p.consumer, never, 1), Reply: reply, Data: ackProgress}); err != nil {
		return err
	}
	select {
	case m := <-w.answer:
		answered = true
		if isNoResponders(m) {
			return nats.ErrNoResponders
		}
		return nil
	case <-inbox.closed:
		return ErrClosed
	case <-ctx.Done():
		return errNoWord
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
	answers := map[string]func(*nats.Msg){}
	for name, p := range r.durable.work {
		answers[r.cluster.Held(name)] = func(m *nats.Msg) { r.answerForWork(m, p) }
	}
	if p := r.durable.mail; p != nil {
		// Who is about to move this node's mail hears that it is there.
		answers[r.cluster.Held(p.consumer)] = func(m *nats.Msg) { r.answerHeld(m, heldAnswer{Seqs: p.askHeld(r.ctx, time.Now().Add(-backRoom))}) }
	}
	for subject, answer := range answers {
		sub, err := r.nc.Subscribe(subject, answer)
		if err != nil {
			return err
		}
		r.mu.Lock()
		r.durable.heard = append(r.durable.heard, sub)
		r.mu.Unlock()
	}
	return nil
}

// answerForWork answers what this node has in hand of shared work. Where the
// consumer's leader says nothing, neither does this node.
func (r *Router) answerForWork(m *nats.Msg, p *puller) {
	var q heldQuestion
	_ = json.Unmarshal(m.Data, &q) // one without a name goes first
	if q.Node == r.id {
		return
	}
	since := time.Now().Add(-q.window())
	busy := p.round.busy(r.id, q.Node)
	if seqs, ok := p.account(r.ctx, since); ok || busy {
		r.answerHeld(m, heldAnswer{Seqs: seqs, Busy: busy})
	}
}

// answerHeld answers a question about what is in hand.
func (r *Router) answerHeld(m *nats.Msg, a heldAnswer) {
	a.Node = r.id
	data, err := json.Marshal(a)
	if err == nil && r.ctx.Err() == nil {
		_ = m.Respond(data) // who asks asks again
	}
}
