package cluster

import "github.com/catga/catga-go/routing"

// Strategy is how Pick chooses: RoundRobin, LeastPending, LocalFirst or a
// PickFunc.
type Strategy interface{ strategy(*callOptions) }

// standard is a Strategy that routing has.
type standard uint8

const (
	// RoundRobin goes to the nodes in turn: to the caller's own where no other is
	// left, and to nodes that drain last of all. It is the default.
	RoundRobin standard = iota
	// LeastPending is RoundRobin with another choice among equals: of two at
	// random the one where fewer calls of this caller are in flight. It is for
	// handlers whose time varies much, and for nodes that are not equally fast.
	LeastPending
	// LocalFirst goes to the caller's own node where it handles the kind, and
	// else to the others in turn.
	LocalFirst
)

func (s standard) strategy(o *callOptions) {
	o.pick = nil
	switch s {
	case LeastPending:
		o.Pick = routing.LeastPending
	case LocalFirst:
		o.Pick = routing.LocalFirst
	default:
		o.Pick = routing.RoundRobin
	}
}

// PickFunc chooses the id of one of candidates, which are sorted by id. They
// handle the kind, match the target's selector, were not tried by this call, and
// drain only where no other is left. An id that is none of theirs, such as "",
// ends the call as not delivered: ErrNoMember.
//
// It is called by the goroutine of the call, possibly by many at once, and must
// not change what it is given.
type PickFunc func(kind string, candidates []Member) string

func (f PickFunc) strategy(o *callOptions) { o.pick = f }

// Pick chooses the node for each attempt of a call to Any. Whatever it says, a
// call does not go to a node that it has tried while another one is left.
func Pick(s Strategy) CallOption {
	return callOption(func(o *callOptions) {
		if s != nil {
			s.strategy(o)
		}
	})
}

// picker shows a user's function the candidates as members.
func (n *Node) picker(f PickFunc) routing.Strategy {
	return routing.PickFunc(func(kind string, candidates []routing.Peer) string {
		view := n.View()
		members := make([]Member, len(candidates))
		for i, p := range candidates {
			members[i] = member(view, p)
		}
		return f(kind, members)
	})
}

// member is p as the view has it. Routing hears of changes before the view
// shows them: then what routing knows has to do.
func member(view View, p routing.Peer) Member {
	if m, ok := view.Member(p.ID); ok && m.Incarnation == p.Incarnation && m.State != Offline {
		return m
	}
	m := Member{
		ID: p.ID, Incarnation: p.Incarnation, Kinds: p.Kinds, Metadata: p.Metadata,
		State: Online, Mail: MailPolicy(p.Mail),
	}
	if p.Draining {
		m.State = Draining
	}
	return m
}
