package routing

import (
	"context"
	"fmt"
)

// Pause stops the work of a kind on this node until Resume: for a dependency
// that is down, or to take load off. Runs that have begun go on. A pause is of
// this process: others do not see it, and it outlives an eviction.
//
//   - Shared work (Any) is not ordered any more. Orders that stand at the server
//     end; what arrives of them meanwhile, and what waits for a place, is handed
//     back at once for other nodes, which counts as an attempt. Where no other
//     node handles the kind, the work waits at the server.
//   - Messages to this node (To, All, Others, Nodes) wait at the server, or in
//     its hand, where they are kept alive, however long it takes; after Resume
//     they run in their first attempt. As with a kind that is slow, the node
//     holds no more of its mail than its kinds have places together: beyond that
//     the mail of the other kinds waits behind them.
//   - Calls are answered busy: they are not delivered, and go to another node.
//     At-most-once messages are dropped.
//
// A kind that this node does not handle is an error that wraps ErrNoHandler. To
// pause twice is to pause.
func (r *Router) Pause(kind string) error {
	k, err := r.ownKind(kind)
	if err != nil {
		return fmt.Errorf("routing: pause: %w", err)
	}
	k.lane.pause()
	return nil
}

// Resume ends a Pause: what was held runs, and the node takes work of the kind
// again. A kind that this node does not handle is an error that wraps
// ErrNoHandler. It does nothing for a kind that is not paused.
func (r *Router) Resume(kind string) error {
	k, err := r.ownKind(kind)
	if err != nil {
		return fmt.Errorf("routing: resume: %w", err)
	}
	k.lane.resume()
	return nil
}

// ownKind returns a kind of this node's own.
func (r *Router) ownKind(name string) (*kind, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if k := r.kinds[name]; k != nil {
		return k, nil
	}
	return nil, fmt.Errorf("this node does not handle %.100q: %w", name, ErrNoHandler)
}

// pause lets nothing begin any more.
func (l *lane) pause() {
	l.mu.Lock()
	if !l.closed {
		l.paused.Store(true)
	}
	l.mu.Unlock()
	l.tell()
}

// handBackShared hands back what waits in a paused lane and another node can do.
func (l *lane) handBackShared() {
	l.mu.Lock()
	if !l.paused.Load() {
		l.mu.Unlock()
		return
	}
	var kept, back []*delivery
	for _, d := range l.waiting[l.head:] {
		if d.p.mixed {
			kept = append(kept, d)
		} else {
			back = append(back, d)
		}
	}
	l.waiting, l.head = kept, 0
	l.mu.Unlock()
	l.size.Add(int64(-len(back)))
	for _, d := range back {
		d.finish(ackNak)
	}
}

// resume lets what is held begin.
func (l *lane) resume() {
	l.mu.Lock()
	l.paused.Store(false)
	start := max(min(l.kind.opts.Concurrency-l.running, len(l.waiting)-l.head), 0)
	l.running += start
	l.mu.Unlock()
	for range start {
		l.r.wg.Go(l.work)
	}
	l.tell()
}

// tell makes those who order messages for the lane look at it.
func (l *lane) tell() {
	for _, p := range l.sources {
		p.lookNow()
	}
}

// heedPause ends the orders for shared work of a kind that was paused since, and
// hands back what has not begun. In this order: a message that is handed back
// while an order stands would come back to it, again and again, and each time
// counts as an attempt.
func (p *puller) heedPause(ctx context.Context) {
	paused := !p.mixed && p.kinds[0].lane.paused.Load()
	if paused && !p.quiet {
		if p.sub != nil && p.r.durable.link.up.Load() {
			p.endOrders(ctx)
		}
		p.resubscribe()
		p.kinds[0].lane.handBackShared()
	}
	p.quiet = paused
}
