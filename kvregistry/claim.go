package kvregistry

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/catga/catga-go/internal/provision"
	"github.com/catga/catga-go/internal/wire"
)

const (
	// claimRetry is the pause before a claim whose outcome is not known is looked at again.
	claimRetry = 100 * time.Millisecond
	// rejoinRetry is the longest pause between attempts to rejoin.
	rejoinRetry = 2 * time.Second
	// goodbyeLimit bounds the goodbye of Close.
	goodbyeLimit = time.Second
)

// presence is this node's own part in the registry: its name, its record, its
// tripwire. One goroutine owns it, so claiming, arming, healing, eviction and
// goodbye are never two at once: a tripwire armed beside an eviction would be
// that of a dead incarnation.
type presence struct {
	s *session

	// tasks are run by the goroutine, one after the other.
	tasks chan func()
	// look asks for a comparison of the own record with the store.
	look chan struct{}
	// reconnected tells that the connection was lost and is back, and when record
	// and tripwire are to be looked at.
	reconnected chan time.Duration

	// begun means that the goroutine runs.
	begun atomic.Bool

	// What others read.
	self    atomic.Pointer[Member]
	evicted atomic.Bool
	stored  atomic.Uint64 // revision of the own record
	answers *responder
	trip    *tripwire

	// Owned by the goroutine.
	rec      record
	revision uint64
	// past is what ended the life before this one, in the same process; the zero
	// record in its first life.
	past record
}

func newPresence(s *session) *presence {
	p := &presence{
		s:           s,
		tasks:       make(chan func()),
		look:        make(chan struct{}, 1),
		reconnected: make(chan time.Duration, 1),
		answers:     newResponder(s),
		rec: record{
			Version: wire.Version, ID: s.cfg.Node, Endpoint: s.cfg.Endpoint, Metadata: s.cfg.Metadata,
			Kinds: s.cfg.Kinds, State: Online, Mail: s.cfg.Mail, Anonymous: s.cfg.Anonymous, Light: s.cfg.Light,
			ForgetSeconds: int64(s.cfg.Forget / time.Second),
		},
	}
	p.trip = newTripwire(s)
	return p
}

// run is the goroutine of the presence.
func (p *presence) run() {
	ctx := p.s.ctx
	check := time.NewTicker(tripwireCheck)
	defer check.Stop()
	back := time.NewTimer(0)
	defer back.Stop()
	<-back.C
	defer p.trip.disarm()
	defer p.answers.stop()
	for {
		select {
		case <-ctx.Done():
			return
		case task := <-p.tasks:
			task()
		case <-p.look:
			p.reconcile(ctx)
		case spread := <-p.reconnected:
			if err := p.answers.speak(ctx); err != nil {
				p.s.log.Debug("not speaking for the server", "err", err)
			}
			back.Reset(spread)
		case <-back.C:
			p.reconcile(ctx)
			if p.revision != 0 {
				p.trip.check(ctx, p.life())
			}
		case <-check.C:
			if p.revision != 0 && p.trip.silent() {
				p.trip.arm(ctx, p.life())
			}
		}
	}
}

// do runs task in the goroutine and waits for its end. When ctx ends first the
// task still ends by itself, because it got ctx too.
func (p *presence) do(ctx context.Context, task func(context.Context) error) error {
	result := make(chan error, 1)
	select {
	case p.tasks <- func() { result <- task(ctx) }:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-p.s.ctx.Done():
		return p.s.ended()
	}
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		// The task may have ended at the same moment.
		select {
		case err := <-result:
			return err
		default:
			return context.Cause(ctx)
		}
	case <-p.s.ctx.Done():
		return p.s.ended()
	}
}

func (p *presence) life() life { return life{p.rec.ID, p.rec.Incarnation} }

// keep notes what is in the store as this node's record.
func (p *presence) keep(rec record, revision uint64) {
	p.rec, p.revision = rec, revision
	p.stored.Store(revision)
	m := rec.member(revision)
	p.self.Store(&m)
}

// claim takes the name: by compare-and-set over nothing, over an ended record,
// or over that of a holder that does not answer. The probe subject has its
// listener before the record is there, so nobody can find a record whose owner
// seems not to be there.
func (p *presence) claim(ctx context.Context) error {
	rec := p.rec
	rec.Incarnation, rec.Token, rec.Started = 0, rand.Text(), time.Now().UTC()
	// By now the connection knows all servers.
	rec.GraceMillis = graceOf(p.s.nc).Milliseconds()
	prepared := false
	for {
		held, err := p.holder(ctx, rec.Token)
		switch {
		case err != nil && (errors.Is(err, ErrNodeTaken) || !retryable(err)):
			return err
		case err != nil:
			if err := p.again(ctx, err); err != nil {
				return err
			}
			continue
		case held.own:
			// An earlier write was stored although its answer was not seen.
			return p.won(ctx, held.rec, held.revision)
		}
		if !prepared && p.s.cfg.BeforeClaim != nil {
			if err := p.s.cfg.BeforeClaim(ctx); err != nil {
				return err
			}
			prepared = true
			// It may have taken long: look again who holds the name.
			continue
		}
		prepared = true
		if err := p.answers.await(ctx, rec.ID); err != nil {
			return err
		}
		beat := p.s.cluster.BeatSubject(rec.ID)
		// Only a refusal ends the claim: the next beat comes soon.
		if err := provision.Guard(ctx, p.s.nc, beat, func(ctx context.Context) error {
			return p.s.store.putBeat(ctx, rec.ID, p.s.newBeat(0), beatLives*minBeat)
		}); errors.Is(err, ErrDenied) {
			p.answers.stop()
			return fmt.Errorf("kvregistry: %w", err)
		}
		last := held.rec
		if last.Incarnation < p.past.Incarnation {
			last = p.past // the store has lost it
		}
		rec = rec.following(last)
		revision, err := p.s.store.put(ctx, rec, held.revision, 0)
		if err == nil {
			rec.Incarnation = revision
			return p.won(ctx, rec, revision)
		}
		if errors.Is(err, errConflict) {
			p.answers.stop()
			continue
		}
		if !retryable(err) {
			p.answers.stop()
			return err
		}
		if err := p.again(ctx, err); err != nil {
			p.answers.stop()
			p.revoke(ctx, rec.Token)
			return err
		}
	}
}

// revoke ends a claim that was given up before it was known whether it is in
// the store: nothing of it may be left.
func (p *presence) revoke(ctx context.Context, token string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbyeLimit)
	defer cancel()
	c, ok, err := p.s.store.last(ctx, p.rec.ID)
	if err != nil || !ok || c.gone {
		return
	}
	if rec, err := decodeRecord(c.id, c.revision, c.data); err == nil && rec.Token == token {
		end := rec.ended(ReasonClosed, rec.ID, time.Now())
		if _, err := p.s.store.put(ctx, end, c.revision, end.forget()); err != nil {
			p.s.log.Debug("claim not revoked", "node", rec.ID, "err", err)
		}
	}
}

// won settles a claim that is in the store.
func (p *presence) won(ctx context.Context, rec record, revision uint64) error {
	p.keep(rec, revision)
	if err := p.answers.settle(ctx, p.life()); err != nil {
		return err
	}
	p.evicted.Store(false)
	p.s.wrote(nil) // the store takes writes
	p.s.log.Info("claimed", "node", rec.ID, "incarnation", rec.Incarnation)
	return nil
}

// again waits before a claim is looked at again; it returns cause with ctx's
// error when ctx ends first.
func (p *presence) again(ctx context.Context, cause error) error {
	if err := pause(ctx, claimRetry); err != nil {
		return fmt.Errorf("kvregistry: %w (%w)", cause, err)
	}
	return nil
}

// holding is what is stored under this node's name.
type holding struct {
	// revision is that of the key; 0 when there is none.
	revision uint64
	// rec is the record; the zero record when there is none that can be read.
	rec record
	// own means that it is this very claim's.
	own bool
}

// holder looks who has the name: this very claim, nobody who answers, or a live
// process, which is ErrNodeTaken.
func (p *presence) holder(ctx context.Context, token string) (holding, error) {
	c, ok, err := p.s.store.last(ctx, p.rec.ID)
	if err != nil || !ok {
		return holding{}, err
	}
	held := holding{revision: c.revision}
	if c.gone {
		return held, nil
	}
	rec, err := decodeRecord(c.id, c.revision, c.data)
	if err != nil {
		p.s.log.Warn("claiming over a record that cannot be read", "node", p.rec.ID, "err", err)
		return held, nil
	}
	// One that was buried before its own process saw that it was stored is claimed over.
	held.rec, held.own = rec, rec.Token == token && rec.State != Offline
	if held.own || rec.State == Offline {
		return held, nil
	}
	// This process may be waiting on the same subject itself.
	p.answers.stop()
	// Silence is asked about twice: somebody listens, and may be slow.
	for range 2 {
		switch result, _ := p.s.probe(ctx, life{rec.ID, rec.Incarnation}, nil); result {
		case alive:
			return held, fmt.Errorf("%w: %s, incarnation %d, since %s: stop that process or choose another name", ErrNodeTaken, rec.ID, rec.Incarnation, rec.Started.Format(time.RFC3339))
		case nobody:
			return held, nil
		case void:
			return held, errVoid
		case silence:
		}
	}
	if err := provision.PublishDenied(p.s.nc, p.s.cluster.Ping(rec.ID, rec.Incarnation)); err != nil {
		return held, err // nobody was asked
	}
	return held, nil
}

var errVoid = errors.New("kvregistry: the connection was lost during a probe")

// update changes the own record in the store.
func (p *presence) update(ctx context.Context, change func(*record)) error {
	for {
		next := p.rec
		change(&next)
		if next.Incarnation == 0 {
			return ErrNotJoined
		}
		revision, err := p.s.store.put(ctx, next, p.revision, 0)
		if err == nil {
			p.keep(next, revision)
			return nil
		}
		if !errors.Is(err, errConflict) {
			if !retryable(err) {
				return fmt.Errorf("kvregistry: record of %s: %w", next.ID, err)
			}
			// Perhaps it was stored: what is there is looked at below, and
			// storing the same twice harms nobody.
			if err := p.again(ctx, err); err != nil {
				p.wantLook()
				return err
			}
		}
		// Somebody else wrote this node's record, or this node did.
		p.reconcile(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// wantLook asks the goroutine to compare the own record with the store.
func (p *presence) wantLook() { signal(p.look) }

// wantLater asks the goroutine to look at record and tripwire after a reconnect.
func (p *presence) wantLater(wait time.Duration) {
	select {
	case p.reconnected <- wait:
	default: // it has not yet begun with the reconnect before
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// reconcile makes the own record in the store true again: it writes back what
// was deleted or overwritten, adopts what was written without its answer being
// seen, and rejoins when the node was declared gone or its name was taken.
func (p *presence) reconcile(ctx context.Context) {
	if p.revision == 0 {
		return
	}
	for ctx.Err() == nil {
		c, ok, err := p.s.store.last(ctx, p.rec.ID)
		if err != nil {
			// The next beat looks again.
			return
		}
		if ok && c.revision == p.revision {
			return
		}
		var rec record
		readable := false
		if ok && !c.gone {
			rec, err = decodeRecord(c.id, c.revision, c.data)
			readable = err == nil
		}
		switch {
		case readable && rec.Token == p.rec.Token && rec.State != Offline:
			p.keep(rec, c.revision)
			return
		case readable && (rec.Incarnation != p.rec.Incarnation || rec.State == Offline):
			p.rejoin(ctx, rec)
			return
		}
		revision, err := p.s.store.put(ctx, p.rec, c.revision, 0)
		switch {
		case err == nil:
			log := p.s.log.With("node", p.rec.ID, "incarnation", p.rec.Incarnation)
			if ok && !c.gone {
				log.Warn("own record was overwritten in the store, written again", "overwritten_at", c.revision)
			} else {
				log.Warn("own record was gone from the store, written again")
			}
			p.keep(p.rec, revision)
			return
		case !errors.Is(err, errConflict):
			return
		}
	}
}

// rejoin comes back as a new incarnation. It gives up only when a live process
// has the name.
func (p *presence) rejoin(ctx context.Context, found record) {
	end := p.rec.ended(found.Reason, found.By, time.Time{})
	if found.Incarnation != p.rec.Incarnation {
		end = p.rec.endedBy(found)
		if end.Reason == ReasonUnknown {
			end.Reason, end.By = ReasonReplaced, found.ID
		}
	}
	old := end.member(p.revision)
	p.past = found
	p.evicted.Store(true)
	p.s.log.Warn("evicted, rejoining", "node", old.ID, "incarnation", old.Incarnation, "reason", string(old.Reason), "by", old.By)
	p.trip.disarm()
	p.answers.stop()
	p.revision = 0
	p.stored.Store(0)
	p.s.post(func() { p.s.tell(Event{Evicted, old}) })
	// The claim belongs to the node's life, not to the caller that met the eviction.
	wait := claimRetry
	for p.s.ctx.Err() == nil {
		err := p.claim(p.s.ctx)
		if err == nil {
			p.trip.arm(p.s.ctx, p.life())
			return
		}
		if errors.Is(err, ErrNodeTaken) {
			p.s.stop(err)
			return
		}
		p.s.log.Warn("rejoin failed, trying again", "node", p.rec.ID, "err", err)
		if pause(p.s.ctx, wait) != nil {
			return
		}
		wait = min(2*wait, rejoinRetry)
	}
}

// goodbye writes the end of this incarnation.
func (p *presence) goodbye(ctx context.Context, reason Reason) error {
	if p.revision == 0 {
		return nil
	}
	end := p.rec.ended(reason, p.rec.ID, time.Now())
	expected := p.revision
	for {
		_, err := p.s.store.put(ctx, end, expected, end.forget())
		switch {
		case err == nil:
			_ = p.s.store.dropBeat(p.rec.ID)
			return p.gone(end)
		case errors.Is(err, errConflict):
			c, ok, err := p.s.store.last(ctx, p.rec.ID)
			if err != nil {
				return fmt.Errorf("kvregistry: goodbye of %s: %w", p.rec.ID, err)
			}
			if ok && !c.gone {
				rec, err := decodeRecord(c.id, c.revision, c.data)
				if err == nil && (rec.State == Offline || rec.Incarnation != p.rec.Incarnation) {
					// Already ended, by somebody else.
					return p.gone(end)
				}
			}
			// Deleted, overwritten, or an own write whose answer was not seen.
			expected = c.revision
		case retryable(err):
			if err := p.again(ctx, err); err != nil {
				return err
			}
		default:
			return fmt.Errorf("kvregistry: goodbye of %s: %w", p.rec.ID, err)
		}
	}
}

func (p *presence) gone(end record) error {
	p.revision = 0
	p.stored.Store(0)
	m := end.member(0)
	p.self.Store(&m)
	return nil
}
