package routing

import (
	"fmt"
	"math/rand/v2"
)

// Strategy chooses the node for an attempt of a call to Any: RoundRobin,
// LeastPending, LocalFirst, or a PickFunc. Whatever it is, a call does not go to
// a node that it has tried while another one is left.
type Strategy interface{ strategy() }

// standard is the type of the strategies that are here.
type standard uint8

const (
	// RoundRobin goes to the nodes in turn: to the caller's own where no other is
	// left, and to nodes that drain last of all. It is the default.
	RoundRobin standard = iota
	// LeastPending is RoundRobin with another choice among equals: of two at
	// random the one where fewer calls of this caller are in flight. It is for
	// handlers whose time varies much, or nodes that are not equally fast.
	LeastPending
	// LocalFirst goes to the caller's own node where it handles the kind, and
	// else to the others in turn.
	LocalFirst
)

// PickFunc chooses the id of one of candidates, which are sorted by id. They
// handle the kind, match the target's selector, were not tried by this call, and
// drain only where no other is left. A name that is none of theirs, such as "",
// ends the call as not delivered: ErrNoMember.
//
// It is called by the goroutine of the call, possibly by many at once, and must
// not change what it is given.
type PickFunc func(kind string, candidates []Peer) string

func (standard) strategy() {}
func (PickFunc) strategy() {}

// pick chooses for one attempt among handlers; nil is nobody untried.
func (c *call) pick(handlers, tried []*peer) (*peer, error) {
	rank := ranking{handlers: handlers, tried: tried, self: c.r.id}
	switch s := c.strategy.(type) {
	case PickFunc:
		if s != nil {
			return rank.own(s, c.msg.Name)
		}
	case standard:
		switch s {
		case LeastPending:
			return rank.leastPending(rand.Uint64()), nil
		case LocalFirst:
			rank.localFirst = true
		}
	}
	return rank.inTurn(c.r.turn(c.msg.Name)), nil
}

// own asks the user's own function.
func (r *ranking) own(f PickFunc, kind string) (*peer, error) {
	var left []*peer
	for _, draining := range []bool{false, true} {
		for _, p := range r.handlers {
			if p.Draining == draining && !containsPeer(r.tried, p) {
				left = append(left, p)
			}
		}
		if len(left) > 0 {
			break
		}
	}
	if len(left) == 0 {
		return nil, nil
	}
	candidates := make([]Peer, len(left))
	for i, p := range left {
		candidates[i] = p.Peer
	}
	id := f(kind, candidates)
	for _, p := range left {
		if p.ID == id {
			return p, nil
		}
	}
	return nil, fmt.Errorf("%w: the pick function chose %.100q, which is no candidate", ErrNoMember, id)
}
