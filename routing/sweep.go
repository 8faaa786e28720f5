package routing

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/catga/catga-go/internal/wire"
)

// A sweep looks over the streams of mail and work for what nobody would handle:
// mail of nodes that are gone, mail of kinds that their node does not handle any
// more, shared work of kinds that nobody handles. One member does it, chosen by rendezvous:
// whenever a node left or was lost, a second after that, and each minute. Two at
// once harm nothing, because what they move they pull from the same consumers.

const (
	sweepEvery = time.Minute
	// sweepAgain is for what was on its way when a node was lost.
	sweepAgain = time.Second
	// sweepTime bounds one sweep; the next goes on.
	sweepTime = 30 * time.Second
	// sweepFresh is how young mail to a node that nobody knows is left alone: the
	// node may be about to be seen.
	sweepFresh = 5 * time.Second
	// consumersEvery is every how many regular sweeps consumers of forgotten nodes
	// are looked for.
	consumersEvery = 10
	// scanMost bounds how many messages of a mailbox are looked at at a time.
	scanMost = 4096
)

// sweeps is when this node sweeps, and what it does about it now.
type sweeps struct {
	wake  chan struct{}
	later chan struct{}      // a mailbox was locked: look again when its lock can be judged
	stop  context.CancelFunc // set by startSweeps
	done  chan struct{}

	mu     sync.Mutex
	movers map[*mover]struct{}
	// scanned is up to where mailboxes that keep their mail have been looked
	// through in vain.
	scanned map[string]uint64
}

func (s *sweeps) init() {
	s.wake = make(chan struct{}, 1)
	s.later = make(chan struct{}, 1)
	s.movers = map[*mover]struct{}{}
	s.scanned = map[string]uint64{}
}

// ring asks for a sweep; it never blocks.
func (s *sweeps) ring() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// ringLater asks for a sweep in a while; it never blocks.
func (s *sweeps) ringLater() {
	select {
	case s.later <- struct{}{}:
	default:
	}
}

// working notes that m begins or ends.
func (s *sweeps) working(m *mover, begins bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if begins {
		s.movers[m] = struct{}{}
	} else {
		delete(s.movers, m)
	}
}

// atWork is who moves mail now.
func (s *sweeps) atWork() []*mover {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.movers))
}

// scannedTo is from where to look through the mailbox of node id.
func (s *sweeps) scannedTo(id string) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.scanned[id]
}

// noteScan notes that it has been looked through in vain up to next; 0 is from
// the beginning again.
func (s *sweeps) noteScan(id string, next uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if next == 0 {
		delete(s.scanned, id)
		return
	}
	s.scanned[id] = next
}

// onlyWith forgets the mailboxes that are empty.
func (s *sweeps) onlyWith(mail map[string][]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.scanned, func(id string, _ uint64) bool { return mail[id] == nil })
}

// end begins no sweep any more. The returned channel is closed when what is in
// hand is settled.
func (s *sweeps) end() <-chan struct{} {
	if s.stop == nil {
		return closedChan
	}
	s.stop()
	return s.done
}

// startSweeps begins to sweep, once this node has seen itself among the members.
func (r *Router) startSweeps() {
	s := &r.durable.sweeps
	var ctx context.Context
	ctx, s.stop = context.WithCancel(r.ctx)
	s.done = make(chan struct{})
	r.wg.Go(func() {
		defer close(s.done)
		select {
		case <-r.durable.releases.seen:
			r.runSweeps(ctx)
		case <-ctx.Done():
		}
	})
}

// runSweeps is the loop.
func (r *Router) runSweeps(ctx context.Context) {
	jittered := func() time.Duration { return sweepEvery - sweepEvery/8 + rand.N(sweepEvery/4) }
	regular := time.NewTimer(sweepAgain + rand.N(sweepAgain))
	defer regular.Stop()
	again := time.NewTimer(time.Hour)
	again.Stop()
	defer again.Stop()
	for turn := 0; ; {
		consumers := false
		select {
		case <-ctx.Done():
			return
		case <-r.durable.sweeps.wake:
			again.Reset(sweepAgain)
		case <-r.durable.sweeps.later:
			again.Reset(lockFresh)
			continue
		case <-again.C:
		case <-regular.C:
			regular.Reset(jittered())
			consumers = turn%consumersEvery == 0
			turn++
		}
		if !r.sweeper() {
			continue
		}
		limited, cancel := context.WithTimeout(ctx, sweepTime)
		err := r.sweep(limited, consumers)
		cancel()
		if err != nil && ctx.Err() == nil {
			r.log.Warn("a sweep has not come to its end; the next goes on", "err", err)
		}
	}
}

// sweeper reports whether it is on this node to sweep.
func (r *Router) sweeper() bool {
	if phase(r.status.Load()) != phaseStarted || r.life.Load().over.Load() || !r.durable.link.up.Load() {
		return false
	}
	var able []*peer
	for _, p := range r.peers.Load().online {
		if !p.Draining {
			able = append(able, p)
		}
	}
	return rendezvous("sweep", able, r.id) == r.id
}

// sweep is one sweep, with a look at the consumers or not.
func (r *Router) sweep(ctx context.Context, consumers bool) error {
	var errs []error
	mail, err := r.stored(ctx, r.cluster.MailStream(), r.cluster.AllMail("*"))
	if err != nil {
		return err
	}
	kinds := map[string][]string{}
	for subject := range mail {
		if id, kind, ok := r.cluster.MailOfSubject(subject); ok {
			kinds[id] = append(kinds[id], kind)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(kinds)) {
		if ctx.Err() != nil {
			return errors.Join(append(errs, context.Cause(ctx))...)
		}
		errs = append(errs, r.sweepMail(ctx, id, kinds[id]))
	}
	work, err := r.stored(ctx, r.cluster.WorkStream(), r.cluster.Work(">"))
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for subject := range work {
		kind := strings.TrimPrefix(subject, r.cluster.Work(""))
		if len(r.peers.Load().handlers[kind]) == 0 && r.kinds[kind] == nil {
			errs = append(errs, r.sweepWork(ctx, kind))
		}
	}
	if consumers {
		errs = append(errs, r.sweepConsumers(ctx, kinds))
	}
	r.durable.sweeps.onlyWith(kinds)
	return errors.Join(errs...)
}

// stored counts the messages that a stream has by subject.
func (r *Router) stored(ctx context.Context, name, filter string) (bySubject map[string]uint64, err error) {
	err = r.api(ctx, "$JS.API.STREAM.INFO."+name, func(ctx context.Context) error {
		stream, err := r.js.Stream(ctx, name)
		if err != nil {
			return err
		}
		info, err := stream.Info(ctx, jetstream.WithSubjectFilter(filter))
		if err == nil {
			bySubject = info.State.Subjects
		}
		return err
	})
	return bySubject, err
}

// sweepMail looks after the mail of one node.
func (r *Router) sweepMail(ctx context.Context, id string, kinds []string) error {
	if err := wire.CheckNode(id); err != nil {
		r.log.Warn("mail to a name that no node can have; remove it with nats stream purge", "stream", r.cluster.MailStream(), "subject", r.cluster.AllMail(id), "err", err)
		return nil
	}
	b := mailbox{id: id, consumer: wire.NodeConsumer(id)}
	b.peer, b.standing = r.standing(id)
	if b.standing == Unsure {
		return nil
	}
	if b.standing == Present {
		kinds = slices.DeleteFunc(kinds, b.peer.handles)
		r.durable.sweeps.noteScan(id, 0)
	}
	if len(kinds) == 0 {
		return nil
	}
	covered, rest, err := r.covered(ctx, b, kinds)
	if err != nil {
		return err
	}
	var errs []error
	if len(covered) > 0 && b.standing != Present { // else the node is about to change the filters
		b.kinds = covered
		errs = append(errs, r.settleAll(ctx, b))
	}
	if len(rest) > 0 {
		b.kinds, b.consumer, b.made = rest, wire.MoverConsumer(id), true
		errs = append(errs, r.settleAll(ctx, b))
	}
	return errors.Join(errs...)
}

// covered tells the kinds that the node's own consumer brings from the others.
func (r *Router) covered(ctx context.Context, b mailbox, kinds []string) (covered, rest []string, err error) {
	var filters []string
	err = r.api(ctx, "$JS.API.CONSUMER.INFO."+r.cluster.MailStream()+"."+b.consumer, func(ctx context.Context) error {
		info, err := r.consumerInfo(ctx, r.cluster.MailStream(), b.consumer)
		if err == nil {
			filters = append(info.Config.FilterSubjects, info.Config.FilterSubject)
		}
		return err
	})
	if err != nil && !isNotFound(err) {
		return nil, nil, err
	}
	for _, kind := range kinds {
		if slices.Contains(filters, r.cluster.NodeMail(b.id, kind)) {
			covered = append(covered, kind)
		} else {
			rest = append(rest, kind)
		}
	}
	return covered, rest, nil
}

// sweepWork looks after shared work of a kind that nobody handles.
func (r *Router) sweepWork(ctx context.Context, kind string) (err error) {
	b := mailbox{consumer: wire.WorkConsumer(kind), kinds: []string{kind}}
	need, err := r.scan(ctx, b)
	if err != nil || need == 0 {
		return err
	}
	_, err = r.consumerInfo(ctx, r.cluster.WorkStream(), b.consumer)
	if isNotFound(err) { // another program stored it, and nobody ever handled it
		err = r.api(ctx, "$JS.API.CONSUMER.CREATE."+r.cluster.WorkStream()+"."+b.consumer, func(ctx context.Context) error {
			_, err := r.js.CreateConsumer(ctx, r.cluster.WorkStream(), r.workConsumer(kind))
			return err
		})
		if err == nil {
			defer func() { err = errors.Join(err, r.deleteConsumer(ctx, r.cluster.WorkStream(), b.consumer)) }()
		}
	}
	if err != nil {
		return err
	}
	_, err = r.move(ctx, b, need)
	return err
}

// settleAll settles a mailbox until nothing but what waits is left in it.
func (r *Router) settleAll(ctx context.Context, b mailbox) error {
	for ctx.Err() == nil && r.stands(b) {
		need := moveMost
		if !b.settlesAll() {
			var err error
			if need, err = r.scan(ctx, b); err != nil || need == 0 {
				return err
			}
		} else if fresh, err := r.isFresh(ctx, b); err != nil || fresh {
			return err
		}
		if settled, err := r.move(ctx, b, need); err != nil || settled == 0 {
			return err
		}
	}
	return nil
}

// isFresh reports whether mail to a node that nobody knows is too young to judge.
func (r *Router) isFresh(ctx context.Context, b mailbox) (fresh bool, err error) {
	if b.standing != Forgotten {
		return false, nil
	}
	fresh = true // also where there is none
	_, err = r.eachMail(ctx, b, 1, func(_ string, _ nats.Header, age time.Duration) bool {
		fresh = age < sweepFresh
		return false
	})
	return fresh, err
}

// scan looks through a mailbox without taking anything, and returns how many
// messages must be taken to have all that are not to wait: to take one and give
// it back costs it an attempt.
func (r *Router) scan(ctx context.Context, b mailbox) (need int, err error) {
	from, seen, waiting := uint64(1), 0, false
	if b.keeps() {
		from = r.durable.sweeps.scannedTo(b.id)
	}
	next, err := r.eachMail(ctx, b, from, func(kind string, h nats.Header, age time.Duration) bool {
		seen++
		where := selectorOf(h)
		if !b.fate(kind, where, age, r.cfg.Forget, r.peers.Load(), 0).waits() {
			need = seen
		} else if where != nil {
			waiting = true
		}
		return ctx.Err() == nil
	})
	if err == nil && b.keeps() && !b.made && need == 0 && !waiting {
		r.durable.sweeps.noteScan(b.id, next)
	}
	if need > 0 && from > 1 {
		need = moveMost // what was passed over comes first
	}
	return need, err
}

// kindIn is the kind of a message of the mailbox.
func (r *Router) kindIn(b mailbox, subject string) string {
	if b.id == "" {
		return b.kinds[0]
	}
	_, kind, _ := r.cluster.MailOfSubject(subject)
	return kind
}

// eachMail looks at the messages in a mailbox from seq on, some thousand at most,
// and returns from where to go on.
func (r *Router) eachMail(ctx context.Context, b mailbox, seq uint64, yield func(kind string, h nats.Header, age time.Duration) bool) (next uint64, err error) {
	stream, err := r.js.Stream(ctx, b.stream(r.cluster))
	if err != nil {
		return seq, err
	}
	subject := r.cluster.AllMail(b.id)
	switch {
	case b.id == "":
		subject = r.cluster.Work(b.kinds[0])
	case len(b.kinds) == 1:
		subject = r.cluster.NodeMail(b.id, b.kinds[0])
	}
	for range scanMost {
		m, err := stream.GetMsg(ctx, max(seq, 1), jetstream.WithGetMsgSubject(subject))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return seq, nil
		}
		if err != nil {
			return seq, err
		}
		seq = m.Sequence + 1
		if kind := r.kindIn(b, m.Subject); slices.Contains(b.kinds, kind) && !yield(kind, m.Header, time.Since(m.Time)) {
			return seq, nil
		}
	}
	return seq, nil
}

// sweepConsumers removes the mailboxes of forgotten nodes that have no mail.
func (r *Router) sweepConsumers(ctx context.Context, mail map[string][]string) error {
	var names []string
	err := r.api(ctx, "$JS.API.CONSUMER.NAMES."+r.cluster.MailStream(), func(ctx context.Context) error {
		stream, err := r.js.Stream(ctx, r.cluster.MailStream())
		if err != nil {
			return err
		}
		names = names[:0]
		lister := stream.ConsumerNames(ctx)
		for name := range lister.Name() {
			names = append(names, name)
		}
		return lister.Err()
	})
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		id, ok := strings.CutPrefix(name, wire.NodeConsumer(""))
		if !ok || wire.CheckNode(id) != nil || mail[id] != nil {
			continue
		}
		if _, standing := r.standing(id); standing != Forgotten || r.isThere(id) {
			continue
		}
		r.log.Info("removed the mailbox of a forgotten node", "of", id)
		errs = append(errs, r.deleteConsumer(ctx, r.cluster.MailStream(), name))
	}
	return errors.Join(errs...)
}
