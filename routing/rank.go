package routing

// pick chooses the node that a call tries next, out of handlers, the nodes that
// handle its kind. It returns nil where nobody is left.
//
// Nodes of the best class that has any share the calls round robin, by turn:
// others before the local node, whose work costs the caller's own process; both
// before the same that are draining, which are about to refuse.
// A node that this call has tried is never chosen: a turn that is shared by
// many calls would lead one of them back to the same dead node.
//
// It is pure and does not allocate.
func pick(handlers []*peer, self string, tried []*peer, turn uint64) *peer {
	var size [classes]uint64
	for _, p := range handlers {
		if !containsPeer(tried, p) {
			size[classOf(p, self)]++
		}
	}
	best := 0
	for best < classes && size[best] == 0 {
		best++
	}
	if best == classes {
		return nil
	}
	nth := turn % size[best]
	for _, p := range handlers {
		if classOf(p, self) != best || containsPeer(tried, p) {
			continue
		}
		if nth == 0 {
			return p
		}
		nth--
	}
	return nil
}

const classes = 4

// classOf is the rank of a node for a caller, 0 is the best.
func classOf(p *peer, self string) int {
	c := 0
	if p.ID == self {
		c++
	}
	if p.Draining {
		c += 2
	}
	return c
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
