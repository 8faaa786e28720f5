package routing

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// life is one incarnation of the node at work: from Start to Evict, to the next
// Start, or to Close. What arrives belongs to the life in which it arrived.
type life struct {
	incarnation uint64
	// ctx is what handlers' contexts come from. It ends with the cause of Evict,
	// or with that of Close.
	ctx context.Context
	end context.CancelCauseFunc
	// work is ctx as the handlers of durable messages get it.
	work context.Context
	// over says that Evict has ended it: others have its messages by now, and
	// nothing that it does counts any more.
	over atomic.Bool
}

// newLife makes the life of an incarnation within that of the router.
func (r *Router) newLife(incarnation uint64) *life {
	l := &life{incarnation: incarnation}
	l.ctx, l.end = context.WithCancelCause(r.ctx)
	l.work = context.WithValue(l.ctx, handlerKey{}, r)
	return l
}

// currentIncarnation is that of the last Start, 0 before it.
func (r *Router) currentIncarnation() uint64 {
	if l := r.life.Load(); l != nil {
		return l.incarnation
	}
	return 0
}

// lateRelease is when what an evicted life had is looked at again: somebody may
// not have answered the first time, or an order of that life took something yet.
const lateRelease = time.Second

// Evict ends the present incarnation, which the others took for dead: they have
// been handed its work. It never blocks, and is for the registry's loop; the
// next Start begins the new incarnation.
//
//   - The ctx of running handlers ends with cause. What they return is of no
//     consequence: a durable message is neither acked nor handed back nor a dead
//     letter, because by now it is in the hand of another node, or will be. A
//     handler that ignores its ctx goes on, takes a place of its kind until it
//     returns, and may have a twin.
//   - Durable messages that have not begun are dropped. What nobody else has
//     taken by the time of the next Start is handed back to the server then.
//   - Calls that have not begun are refused as not delivered, as are those that
//     arrive until the next Start; at-most-once messages are dropped. A call that
//     fails because its ctx ended is not answered: its caller knows that the node
//     is gone, and goes elsewhere if it may.
//   - Calls that this node itself waits for go on.
//
// It does nothing before Start, and nothing the second time.
func (r *Router) Evict(cause error) {
	l := r.life.Load()
	if l == nil || !l.over.CompareAndSwap(false, true) {
		return
	}
	l.end(cause)
	r.evicted.Store(true)
	if r.observes() {
		return
	}
	inHand := 0
	for _, p := range r.pullers() {
		inHand += p.letAllGo()
	}
	for _, k := range r.kinds { // settled since Prepare
		k.lane.dropOver()
	}
	for _, p := range r.pullers() {
		p.wake(newConnection) // the orders end with the interest in them
	}
	r.log.Warn("evicted: the work in hand is others' now", "incarnation", l.incarnation, "messages", inHand, "cause", cause)
}

// errNextLife is the cause of the end of a life that nobody has evicted.
var errNextLife = errors.New("routing: the node was started as another incarnation")

// begin makes the life of an incarnation the present one.
func (r *Router) begin(incarnation uint64) {
	earlier := r.life.Load()
	if earlier != nil && earlier.incarnation == incarnation && !earlier.over.Load() {
		return // a Start that failed is repeated
	}
	if earlier != nil {
		r.Evict(errNextLife)
	}
	r.life.Store(r.newLife(incarnation))
}

// startAgain begins to consume as the next incarnation. What an evicted one had
// and nobody has taken since is handed back.
func (r *Router) startAgain() {
	for _, p := range r.pullers() {
		p.wake(newConnection) // the reply subject of orders has the incarnation
	}
	if !r.evicted.Swap(false) || r.observes() {
		return
	}
	for kind := range r.kinds {
		r.durable.releases.add(kind, 0, lateRelease)
	}
	for _, p := range r.pullers() {
		if p.mixed {
			r.wg.Go(func() { r.releaseOwn(p) })
		}
	}
}
