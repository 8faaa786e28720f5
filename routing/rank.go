package routing

import "fmt"

// candidates returns the members that handle kind and that where chooses. The
// error says why there are none. It does not allocate where there is no
// selector.
func (s *peers) candidates(kind string, where *selector) ([]*peer, error) {
	handlers := s.handlers[kind]
	if len(handlers) == 0 {
		return nil, noHandler(kind)
	}
	if where == nil {
		return handlers, nil
	}
	chosen := make([]*peer, 0, len(handlers))
	for _, p := range handlers {
		if where.matches(p.Metadata) {
			chosen = append(chosen, p)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("%w: no node that handles %s matches %q", ErrNoMember, kind, where)
	}
	return chosen, nil
}

// ranking is who may get a message next: handlers, the nodes that handle its
// kind, but for those that it has tried. They are in classes, of which the best
// that has any shares the messages: others before the local node, whose work
// costs the caller's own process (or, with localFirst, the other way round),
// and both before the same that are draining, which are about to refuse.
//
// A node that was tried is never chosen: a turn that is shared by many calls
// would lead one of them back to the same dead node.
//
// It is pure and does not allocate.
type ranking struct {
	handlers   []*peer
	tried      []*peer
	self       string
	localFirst bool
}

// best returns the best class that has any, and how many it has; 0 is nobody.
func (r *ranking) best() (class int, size uint64) {
	var sizes [classes]uint64
	for _, p := range r.handlers {
		if !containsPeer(r.tried, p) {
			sizes[r.classOf(p)]++
		}
	}
	for class, size = range sizes {
		if size > 0 {
			break
		}
	}
	return class, size
}

// nth returns member n of a class, from 0.
func (r *ranking) nth(class int, n uint64) *peer {
	for _, p := range r.handlers {
		if r.classOf(p) != class || containsPeer(r.tried, p) {
			continue
		}
		if n == 0 {
			return p
		}
		n--
	}
	return nil
}

// inTurn returns whose turn it is; nil where nobody is left.
func (r *ranking) inTurn(turn uint64) *peer {
	class, size := r.best()
	if size == 0 {
		return nil
	}
	return r.nth(class, turn%size)
}

// leastPending takes two different ones of the best class, as random says, and
// returns the one that has fewer calls of this caller in flight. Two choices
// are nearly as good as looking at all, and callers that know only of their own
// calls do not all run to the same node (Mitzenmacher, "The Power of Two Choices
// in Randomized Load Balancing", 2001).
func (r *ranking) leastPending(random uint64) *peer {
	class, size := r.best()
	if size == 0 {
		return nil
	}
	i := random % size
	a := r.nth(class, i)
	if size == 1 {
		return a
	}
	j := random >> 32 % (size - 1)
	if j >= i {
		j++
	}
	if b := r.nth(class, j); b.pending.Load() < a.pending.Load() {
		return b
	}
	return a
}

const classes = 4

// classOf is the rank of a node, 0 is the best.
func (r *ranking) classOf(p *peer) int {
	c := 0
	if (p.ID == r.self) != r.localFirst {
		c++
	}
	if p.Draining {
		c += 2
	}
	return c
}

// pick chooses the node for a message, round robin by turn, local last.
func pick(handlers []*peer, self string, tried []*peer, turn uint64) *peer {
	r := ranking{handlers: handlers, tried: tried, self: self}
	return r.inTurn(turn)
}

// containsPeer compares incarnations: a node that came back is another node.
func containsPeer(list []*peer, p *peer) bool {
	for _, q := range list {
		if q.ID == p.ID && q.Incarnation == p.Incarnation {
			return true
		}
	}
	return false
}
