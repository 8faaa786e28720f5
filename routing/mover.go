package routing

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/catga/catga-go/internal/wire"
)

// Mail that its node cannot handle is moved by another member, the mover. The
// consumer that brings it is the lock: of all who pull from it, the node that
// comes back included, one gets each message. The mover publishes it again, under
// an id made of the message's own and its place, and then acks it, and waits for
// the server to confirm that. A mover that dies between the two leaves a copy
// and the original: the next mover publishes it under the same id, which the
// server drops, and acks it; only a node that comes back in that moment handles
// it beside whoever got the copy.
//
// What the gone node had in hand is handed back first, as with shared work. What
// another mover has in hand would be handed back with it, so a mailbox has one
// mover at a time: see lock. A node that comes back waits for its end before it
// hands back what its earlier life had.

const (
	// moveBatch is how many messages a mover has in hand, and publishes side by
	// side. A message may be 1 MiB.
	moveBatch = 64
	// moveMost bounds what is moved from one mailbox in one sweep, so that a
	// large one does not hold up the others; the next sweep goes on.
	moveMost = 10_000
	// moveWait is for how long mail that is not to be moved is handed back. A node
	// that comes back earlier takes it at once.
	moveWait = 30 * time.Second
	// moveSilence is how long a mover waits for the server's word on an order that
	// does not wait.
	moveSilence = 5 * time.Second
	// lockLife is how long a lock outlives its mover, where nobody takes it over. It
	// is longer than a move takes: a sweep, and what is in hand at its end.
	lockLife = sweepTime + sendTimeout + 15*time.Second
	// lockFresh is how young a lock is whose mover may not listen yet.
	lockFresh = 5 * time.Second
	// moverConsumerLife is how long a consumer that was made for a move outlives
	// its mover.
	moverConsumerLife = 30 * time.Second
)

// mover empties one mailbox.
type mover struct {
	r   *Router
	box mailbox

	mu   sync.Mutex
	held map[uint64]string // reply subjects of what is in hand, by sequence

	moved, dead, kept atomic.Int64
}

// inHand is what the mover holds.
func (m *mover) inHand() []uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]uint64, 0, len(m.held))
	for seq := range m.held {
		all = append(all, seq)
	}
	return all
}

// progress tells the server that the work goes on.
func (m *mover) progress() {
	m.mu.Lock()
	replies := make([]string, 0, len(m.held))
	for _, reply := range m.held {
		replies = append(replies, reply)
	}
	m.mu.Unlock()
	for _, reply := range replies {
		_ = m.r.nc.Publish(reply, ackProgress) // without a connection there is nobody to tell
	}
}

// move takes the first most messages of a mailbox, and settles those that are
// not to wait. It returns how many it has settled. ctx ends before the next
// batch; what is in hand is finished.
func (r *Router) move(ctx context.Context, b mailbox, most int) (settled int, err error) {
	m := &mover{r: r, box: b, held: map[uint64]string{}}
	question := r.cluster.Held(wire.MoverConsumer(b.id))
	switch {
	case b.id == "":
		question = r.cluster.Held(b.kinds[0]) // a handler that comes asks there
	case b.standing != Present && r.isThere(b.id):
		return 0, nil // it is back, and this node has not heard of it yet
	}
	if b.id != "" {
		locked, err := r.lock(ctx, b)
		if !locked || err != nil {
			r.durable.sweeps.ringLater()
			return 0, err
		}
		defer r.unlock(b)
	}
	sub, err := r.nc.Subscribe(question, func(q *nats.Msg) { r.answerHeld(q, heldAnswer{Seqs: m.inHand()}) })
	if err != nil {
		return 0, err
	}
	defer func() { _ = sub.Unsubscribe() }() // the only errors are of a closed connection
	r.durable.sweeps.working(m, true)
	defer r.durable.sweeps.working(m, false)
	if b.made {
		if err := r.makeMoverConsumer(ctx, b); err != nil {
			return 0, err
		}
		defer r.dropMoverConsumer(b)
	} else if b.id != "" && b.standing != Present {
		if back, err := r.releaseGone(b); back || err != nil {
			return 0, err
		}
	}
	// Whoever comes back from here on finds the mover listening.
	if err := flush(ctx, r.nc); err != nil {
		return 0, err
	}
	// Once the node is back, each message that is taken and given back would cost
	// it an attempt.
	for most = min(most, moveMost); most > 0 && ctx.Err() == nil && r.stands(b); {
		var batch []letterbox
		if batch, err = m.pull(ctx, min(most, moveBatch)); len(batch) == 0 {
			break
		}
		most -= len(batch)
		var wg sync.WaitGroup
		for _, d := range batch {
			wg.Go(func() { m.settle(d) })
		}
		wg.Wait()
	}
	if settled = int(m.moved.Load() + m.dead.Load()); settled > 0 {
		r.log.Info("settled mail that nobody else would handle", "of", b.name(), "standing", b.standing.String(), "policy", b.peer.Mail,
			"moved", m.moved.Load(), "dead", m.dead.Load(), "left", m.kept.Load())
	}
	return settled, err
}

// isThere asks the node itself. Of one that hangs, nothing is heard.
func (r *Router) isThere(id string) bool {
	answers, _ := r.askHolders(r.cluster.Held(wire.NodeConsumer(id)))
	return len(answers) > 0
}

// lock makes this node the only one that moves the mail of a node. The server
// decides: it makes a consumer of one name with one description. Where another
// one has it and nobody listens to what movers are asked, its mover has died. The
// mailbox is then taken over.
func (r *Router) lock(ctx context.Context, b mailbox) (locked bool, err error) {
	cfg := baseConsumer(wire.MoverLock(b.id))
	cfg.Description = r.ids.next()
	cfg.FilterSubjects = []string{r.cluster.MoverLockFilter(b.id)}
	cfg.InactiveThreshold = lockLife
	for range 2 {
		err = r.api(ctx, "$JS.API.CONSUMER.CREATE."+r.cluster.MailStream()+"."+cfg.Durable, func(ctx context.Context) error {
			_, err := r.js.CreateConsumer(ctx, r.cluster.MailStream(), cfg)
			return err
		})
		if !errors.Is(err, jetstream.ErrConsumerExists) {
			return err == nil, err
		}
		info, err := r.consumerInfo(ctx, r.cluster.MailStream(), cfg.Durable)
		if isNotFound(err) {
			return false, nil // it has just done its work
		}
		if err != nil || info.TimeStamp.Sub(info.Created) < lockFresh {
			return false, err
		}
		if _, listening := r.askHolders(r.cluster.Held(wire.MoverConsumer(b.id))); listening {
			return false, nil
		}
		if err := r.deleteConsumer(ctx, r.cluster.MailStream(), cfg.Durable); err != nil {
			return false, err
		}
	}
	return false, nil
}

// unlock lets others move the mail of the node.
func (r *Router) unlock(b mailbox) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), releaseLimit)
	defer cancel()
	if err := r.deleteConsumer(ctx, r.cluster.MailStream(), wire.MoverLock(b.id)); err != nil && r.ctx.Err() == nil {
		r.log.Info("the lock of a mailbox cannot be removed; it ends by itself", "of", b.id, "after", lockLife, "err", err)
	}
}

// askHolders collects answers about what is in hand. listening is false when the
// server knows that nobody hears the question.
func (r *Router) askHolders(subject string) (answers []heldAnswer, listening bool) {
	msgs := make(chan *nats.Msg, 64)
	inbox := r.cluster.InboxPrefix(r.id, r.currentIncarnation()) + "held." + strconv.FormatUint(rand.Uint64(), 36)
	sub, err := r.nc.ChanSubscribe(inbox, msgs)
	if err != nil {
		return nil, true
	}
	defer func() { _ = sub.Unsubscribe() }() // the only errors are of a closed connection
	if r.nc.PublishMsg(&nats.Msg{Subject: subject, Reply: inbox}) != nil {
		return nil, true
	}
	timer := time.NewTimer(answerTime)
	defer timer.Stop()
	for {
		select {
		case m := <-msgs:
			if isNoResponders(m) {
				return nil, false
			}
			if a, err := parseHeld(m.Data); err == nil {
				answers = append(answers, a)
				timer.Reset(lingerTime)
			}
		case <-timer.C:
			return answers, true
		case <-r.ctx.Done():
			return answers, true
		}
	}
}

// releaseGone hands back what the gone node had in hand of its mailbox, unless
// the node is back. Nobody else moves its mail: this node has the lock.
func (r *Router) releaseGone(b mailbox) (back bool, err error) {
	s := source{r.cluster.MailStream(), b.consumer, r.cluster.AllMail(b.id)}
	info, err := r.pending(s)
	if err != nil || info.NumAckPending == 0 {
		return false, err
	}
	if !r.sleep(arrivalTime) {
		return false, context.Cause(r.ctx)
	}
	if r.isThere(b.id) {
		return true, nil
	}
	r.handBackUnheld(s, info, nil)
	return false, nil
}

// makeMoverConsumer makes the consumer for mail that no other brings. While it
// is there the server refuses the node one for the same kinds, and the node's
// Prepare waits for its end.
func (r *Router) makeMoverConsumer(ctx context.Context, b mailbox) error {
	cfg := baseConsumer(b.consumer)
	for _, kind := range b.kinds {
		cfg.FilterSubjects = append(cfg.FilterSubjects, r.cluster.NodeMail(b.id, kind))
	}
	cfg.InactiveThreshold = moverConsumerLife
	return r.api(ctx, "$JS.API.CONSUMER.CREATE."+r.cluster.MailStream()+"."+b.consumer, func(ctx context.Context) error {
		_, err := r.js.CreateOrUpdateConsumer(ctx, r.cluster.MailStream(), cfg)
		return err
	})
}

// dropMoverConsumer removes it. Another mover that pulls from it finds it gone,
// and leaves the rest to the next sweep.
func (r *Router) dropMoverConsumer(b mailbox) {
	ctx, cancel := context.WithTimeout(r.ctx, releaseLimit)
	defer cancel()
	if err := r.deleteConsumer(ctx, r.cluster.MailStream(), b.consumer); err != nil && r.ctx.Err() == nil {
		r.log.Info("the consumer of a move cannot be removed; it ends by itself", "consumer", b.consumer, "after", moverConsumerLife, "err", err)
	}
}

// deleteConsumer removes a consumer; one that is not there is fine.
func (r *Router) deleteConsumer(ctx context.Context, stream, name string) error {
	err := r.api(ctx, "$JS.API.CONSUMER.DELETE."+stream+"."+name, func(ctx context.Context) error {
		return r.js.DeleteConsumer(ctx, stream, name)
	})
	if isNotFound(err) {
		return nil
	}
	return err
}

// letterbox is one message in the hand of a mover.
type letterbox struct {
	msg *nats.Msg
	ack ackInfo
}

// pull takes what the mailbox has, most at most, and does not wait.
func (m *mover) pull(ctx context.Context, most int) (batch []letterbox, err error) {
	r := m.r
	msgs := make(chan *nats.Msg, most+16)
	inbox := r.cluster.InboxPrefix(r.id, r.currentIncarnation()) + "move." + strconv.FormatUint(rand.Uint64(), 36)
	sub, err := r.nc.ChanSubscribe(inbox, msgs)
	if err != nil {
		return nil, err
	}
	defer func() { _ = sub.Unsubscribe() }() // the only errors are of a closed connection
	err = r.nc.PublishMsg(&nats.Msg{
		Subject: "$JS.API.CONSUMER.MSG.NEXT." + m.box.stream(r.cluster) + "." + m.box.consumer,
		Reply:   inbox,
		Data:    fmt.Appendf(nil, `{"batch":%d,"no_wait":true}`, most),
	})
	if err != nil {
		return nil, err
	}
	timer := time.NewTimer(moveSilence)
	defer timer.Stop()
	for len(batch) < most {
		select {
		case msg := <-msgs:
			ack, err := parseAck(msg.Reply)
			if err != nil {
				return batch, nil // the server has no more
			}
			m.mu.Lock()
			m.held[ack.seq] = msg.Reply
			m.mu.Unlock()
			batch = append(batch, letterbox{msg, ack})
		case <-timer.C:
			return batch, nil
		case <-ctx.Done():
			// Whatever still comes is nobody's until the ack wait, and then comes
			// again; as a rule the batch is here within a millisecond.
			return batch, nil
		}
	}
	return batch, nil
}

// settle does with a message what is to become of it.
func (m *mover) settle(d letterbox) {
	r := m.r
	defer func() {
		m.mu.Lock()
		delete(m.held, d.ack.seq)
		m.mu.Unlock()
	}()
	b := m.box
	kind := r.kindIn(b, d.msg.Subject)
	if b.id != "" {
		b.peer, b.standing = r.standing(b.id) // the node may be back by now
	}
	f := b.fate(kind, selectorOf(d.msg.Header), time.Since(d.ack.stored), r.cfg.Forget, r.peers.Load(), r.turn(kind))
	if f.waits() || b.standing == Present && b.peer.handles(kind) { // its own again
		m.kept.Add(1)
		nak := nakAfter(moveWait)
		if b.standing == Present {
			nak = ackNak
		}
		_ = r.nc.Publish(d.msg.Reply, nak) // else the ack wait hands it back
		return
	}
	if err := m.publish(d, kind, f); err != nil {
		m.kept.Add(1)
		if errors.Is(err, ErrNotDelivered) {
			_ = r.nc.Publish(d.msg.Reply, nakAfter(progressEvery)) // else the ack wait hands it back
		}
		if r.ctx.Err() == nil {
			r.log.Warn("mail cannot be moved; the next sweep tries again", "of", b.name(), "kind", kind, "seq", d.ack.seq, "err", err)
		}
		return
	}
	answer := ackDone
	if f.dead != nil {
		m.dead.Add(1)
		answer = ackTerm(f.dead.Error())
		r.log.Error("a message is a dead letter", "kind", kind, "of", b.name(), "reason", f.dead)
	} else {
		m.moved.Add(1)
	}
	if err := r.confirm(d.msg.Reply, answer); err != nil && r.ctx.Err() == nil {
		r.log.Info("the end of a moved message is not confirmed; the next sweep repeats it", "of", b.name(), "seq", d.ack.seq, "err", err)
	}
}

// publish stores the message where it goes now.
func (m *mover) publish(d letterbox, kind string, f fate) error {
	r := m.r
	out := r.movedTo(d, kind, f)
	if f.dead != nil {
		out = r.letterOf(d.msg, d.ack, kind, cmp.Or(m.box.id, r.id), int(min(max(d.ack.attempt, 1)-1, 1<<31)), f.dead) //nolint:gosec // bounded
	}
	ctx, cancel := context.WithTimeout(r.ctx, sendTimeout)
	defer cancel()
	_, err := r.store(ctx, out)
	for size := 1; f.dead != nil && size <= 2 && errors.Is(err, ErrTooLarge); size++ {
		r.shrink(out, size)
		_, err = r.store(ctx, out)
	}
	return err
}

// movedTo makes the message as it is stored at its new place: the same for who
// handles it, another one for the server, which would drop a repeat.
func (r *Router) movedTo(d letterbox, kind string, f fate) *nats.Msg {
	id, from := idOf(d.msg.Header)
	h := withoutServerHeaders(d.msg.Header, 3)
	if id != "" {
		h[wire.HeaderID] = []string{id}
	}
	if from != "" {
		h[wire.HeaderFrom] = []string{from}
	}
	// A stream that was made anew counts from 1 again, so the time is in the id, too.
	h[wire.HeaderMsgID] = []string{id + "/m" + strconv.FormatUint(d.ack.seq, 10) + "-" + strconv.FormatInt(d.ack.stored.UnixNano(), 36)}
	subject := r.cluster.NodeMail(f.to, kind)
	if f.any {
		subject = r.cluster.Work(kind)
	}
	return &nats.Msg{Subject: subject, Header: h, Data: d.msg.Data}
}

// confirm answers for a message and waits until the server has the answer.
func (r *Router) confirm(reply string, answer []byte) error {
	inbox := r.calls.replies.Load()
	p, subject := inbox.await()
	answered := false
	defer func() { inbox.release(p, answered) }()
	if err := r.nc.PublishMsg(&nats.Msg{Subject: reply, Reply: subject, Data: answer}); err != nil {
		return err
	}
	p.timer.Reset(releaseLimit)
	select {
	case <-p.answer:
		answered = true
		return nil
	case <-inbox.closed:
		return ErrClosed
	case <-p.timer.C:
		return errNoWord
	case <-r.ctx.Done():
		return context.Cause(r.ctx)
	}
}
