package routing

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/wire"
)

const (
	// absentAfter is when those who have not answered one request to all are looked
	// for: the server says of a message to one node that nobody is there, and not
	// of one to many.
	absentAfter = 25 * time.Millisecond
	// absentGrace is how long a node that is not there has for its answer: its
	// connection may be on its way back.
	absentGrace = dropGrace
)

// collection is one Gather on its way.
type collection struct {
	r     *Router
	kind  string
	yield func(Answer[Raw], error) bool
	end   time.Time
	late  error // what is wrong after end

	in     *replies
	g      *gathering  // who is asked
	until  []time.Time // by node: when it is given up, if before end; nil is none of them
	done   []bool      // by node: its pair was yielded
	left   int         // how many are not done
	moved  bool        // next is another time
	look   time.Time   // when those who have not answered are looked for; zero is never
	failed []failure   // known from the start

	// What may end the wait; taken before anybody was asked.
	departures, back <-chan struct{}
}

// failure is a node that cannot be asked.
type failure struct {
	node string
	err  error
}

// begin settles who is meant and asks them.
func (c *collection) begin(ctx context.Context, to Many, m Raw, o GatherOptions) error {
	r := c.r
	if err := r.sendable(); err != nil {
		return err
	}
	if to == nil {
		return errNoTarget
	}
	if ctx.Err() != nil {
		return ctxReason(ctx)
	}
	t := to.target()
	if err := t.where.problem(); err != nil {
		return err
	}
	c.end, c.late = time.Now().Add(callTimeout), errDeadline
	extra := 0
	deadline, timed := ctx.Deadline()
	if timed {
		extra = 1
		if deadline.Before(c.end) {
			c.end, c.late = deadline, context.DeadlineExceeded
		}
	}
	h, err := newHeader(ctx, m, o.Header, extra)
	if err != nil {
		return err
	}
	if timed {
		left := time.Until(c.end)
		if left <= 0 {
			return c.late
		}
		h[wire.HeaderTimeout] = []string{left.String()}
	}
	c.departures, c.back = r.departures.next(), r.calls.drops.back()
	view := r.peers.Load()
	nodes, err := c.meant(view, t)
	if err != nil || len(nodes) == 0 {
		return err
	}
	// A reconnect buffer would send the request later.
	c.in = r.calls.replies.Load()
	if c.in == nil || !r.nc.IsConnected() {
		return nats.ErrDisconnected
	}
	toAll := t.where == nil && t.to != toNodes && len(nodes) > 1
	c.g = c.in.gather(nodes, toAll)
	c.done, c.left = make([]bool, len(nodes)), len(nodes)
	if toAll {
		return c.askAll(t, m, h)
	}
	return c.askEach(m, h)
}

// meant returns the nodes to ask, and notes those that cannot be.
func (c *collection) meant(view *peers, t target) ([]*peer, error) {
	var nodes []*peer
	if t.to == toNodes {
		if len(t.ids) == 0 {
			return nil, fmt.Errorf("%w: no node is named", ErrNoMember)
		}
		for _, id := range t.ids {
			if p, err := memberFor(view, id, c.kind); err != nil {
				c.failed = append(c.failed, failure{id, notDelivered(err)})
			} else {
				nodes = append(nodes, p)
			}
		}
		return nodes, nil
	}
	handlers := view.handlers[c.kind]
	if len(handlers) == 0 {
		return nil, noHandler(c.kind)
	}
	for _, p := range handlers {
		if t.where.matches(p.Metadata) && (t.to == toAll || p.ID != c.r.id) {
			nodes = append(nodes, p)
		}
	}
	return nodes, nil
}

// askAll sends one request to all handlers of the kind.
func (c *collection) askAll(t target, m Raw, h nats.Header) error {
	if t.to == toOthers {
		if h == nil {
			h = make(nats.Header, 1)
		}
		h[wire.HeaderExcept] = []string{c.r.id}
	}
	err := c.r.publishCore(c.r.cluster.CallAll(c.kind), c.g.replyOfAll(), h, m.Data)
	if errors.Is(err, ErrUnknown) {
		c.fail(err)
		return nil
	}
	c.look = c.g.asked.Add(absentAfter)
	return err
}

// lookForAbsent sends something that is for nobody to each node that has not
// answered one request to all, where it listens for its own. Of those that are
// not there the server says so; nobody knows whether they ever had the request.
func (c *collection) lookForAbsent() {
	c.look = time.Time{}
	h := nats.Header{wire.HeaderOnly: {""}}
	for i, p := range c.g.nodes {
		if !c.done[i] {
			// Where it cannot be sent, the end of the connection ends the wait.
			_ = c.r.publishCore(p.address(c.r.cluster, c.kind).subject, c.g.reply(i), h, nil)
		}
	}
}

// askEach sends a request to each node.
func (c *collection) askEach(m Raw, h nats.Header) error {
	for i, p := range c.g.nodes {
		err := c.r.publishCore(p.address(c.r.cluster, c.kind).subject, c.g.reply(i), h, m.Data)
		switch {
		case err == nil:
		case i == 0 && errors.Is(err, ErrNotDelivered):
			return err // nor would any other take it
		default:
			c.done[i] = true
			c.left--
			c.failed = append(c.failed, failure{p.ID, err})
		}
	}
	return nil
}

// fail notes that no node that is left can be asked.
func (c *collection) fail(err error) {
	for i, p := range c.g.nodes {
		if !c.done[i] {
			c.done[i] = true
			c.failed = append(c.failed, failure{p.ID, err})
		}
	}
	c.left = 0
}

// report yields those that could not be asked; false is a loop that was left.
func (c *collection) report() bool {
	for _, f := range c.failed {
		if !c.yield(Answer[Raw]{Node: f.node}, f.err) {
			return false
		}
	}
	return true
}

// close forgets the gathering.
func (c *collection) close() {
	if c.g != nil {
		c.in.endGather(c.g)
	}
}

// collect yields what comes until nothing is left to come.
func (c *collection) collect(ctx context.Context) {
	if c.left == 0 {
		return
	}
	timer := time.NewTimer(time.Until(c.next()))
	defer timer.Stop()
	for ok := true; ok; {
		// Answers come in bursts, and one channel alone is cheap to look at.
		if ok = c.takeArrived(); !ok || c.left == 0 {
			return
		}
		if c.moved {
			c.moved = false
			timer.Reset(time.Until(c.next()))
		}
		select {
		case a := <-c.g.answers:
			ok = c.take(a)
		case <-c.departures:
			ok = c.departed()
		case <-c.back:
			c.back = nil
			if end := time.Now().Add(dropGrace); end.Before(c.end) {
				c.end, c.late, c.moved = end, errDropped, true
			}
		case <-timer.C:
			ok = c.expired(time.Now())
			c.moved = true
		case <-ctx.Done():
			ok = c.giveUp(ctxReason(ctx))
		case <-c.in.closed:
			ok = c.giveUp(ErrClosed)
		}
	}
}

// take yields an answer; false is a loop that was left.
func (c *collection) take(a gathered) bool {
	if a.node != everybody {
		if c.done[a.node] {
			return true
		}
		if a.msg == nil {
			c.missed(a.node)
			return true
		}
		body, err := decodeAnswer(a.msg, c.g.nodes[a.node].ID, c.kind)
		return c.settle(a.node, body, err)
	}
	for i, p := range c.g.nodes {
		if _, err := decodeAnswer(a.msg, p.ID, c.kind); !c.done[i] && !c.settle(i, Raw{}, err) {
			return false
		}
	}
	return true
}

// missed gives a node that is not there a moment. One that leaves may not listen
// any more while it still works: its end is for departed to see.
func (c *collection) missed(i int) {
	p := c.r.peers.Load().byID[c.g.nodes[i].ID]
	if p == nil || p.Draining || c.ends(i) {
		return
	}
	c.endAt(i, absentGrace)
}

// ends reports whether it is known when node i is given up.
func (c *collection) ends(i int) bool { return c.until != nil && !c.until[i].IsZero() }

// endAt gives node i up after d.
func (c *collection) endAt(i int, d time.Duration) {
	if c.until == nil {
		c.until = make([]time.Time, len(c.g.nodes))
	}
	c.until[i] = time.Now().Add(d)
	c.moved = true
}

// takeArrived takes the answers that are there: they go before any reason to
// give a node up.
func (c *collection) takeArrived() bool {
	for {
		select {
		case a := <-c.g.answers:
			if !c.take(a) {
				return false
			}
		default:
			return true
		}
	}
}

func (c *collection) settle(i int, body Raw, err error) bool {
	c.done[i] = true
	c.left--
	return c.yield(Answer[Raw]{Node: c.g.nodes[i].ID, Body: body}, err)
}

// departed gives up the nodes that are lost, or that another incarnation took
// the place of. One that left may have answered: see leaveGrace.
func (c *collection) departed() bool {
	c.departures = c.r.departures.next()
	if !c.takeArrived() {
		return false
	}
	view := c.r.peers.Load()
	for i, p := range c.g.nodes {
		if c.done[i] {
			continue
		}
		select {
		case <-p.gone:
			if view.byID[p.ID] == nil {
				if !c.ends(i) {
					c.endAt(i, leaveGrace)
				}
			} else if !c.settle(i, Raw{}, unknown(errGone(p))) {
				return false
			}
		default:
		}
	}
	return true
}

// next is when the next node is given up or looked for.
func (c *collection) next() time.Time {
	next := c.end
	if !c.look.IsZero() && c.look.Before(next) {
		next = c.look
	}
	for i, until := range c.until {
		if !c.done[i] && !until.IsZero() && until.Before(next) {
			next = until
		}
	}
	return next
}

// expired gives up the nodes whose time is over.
func (c *collection) expired(now time.Time) bool {
	if !now.Before(c.end) {
		return c.giveUp(c.late)
	}
	if !c.takeArrived() {
		return false
	}
	if !c.look.IsZero() && !now.Before(c.look) {
		c.lookForAbsent()
	}
	for i, until := range c.until {
		if c.done[i] || until.IsZero() || now.Before(until) {
			continue
		}
		p := c.g.nodes[i]
		reason := errGone(p)
		if c.r.peers.Load().byID[p.ID] != nil { // of missed
			reason = fmt.Errorf("node %s: %w", p.ID, nats.ErrNoResponders)
		}
		if !c.settle(i, Raw{}, unknown(reason)) {
			return false
		}
	}
	return true
}

// giveUp names all who have not answered.
func (c *collection) giveUp(reason error) bool {
	if !c.takeArrived() {
		return false
	}
	for i := range c.g.nodes {
		if !c.done[i] && !c.settle(i, Raw{}, unknown(reason)) {
			return false
		}
	}
	return true
}

// errGone is why a node is not waited for any more.
func errGone(p *peer) error { return fmt.Errorf("node %s was gone before it answered", p.ID) }
