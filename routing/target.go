package routing

import "slices"

// Target is whom a message is for: One node or Many. The targets are made by
// To, Any, All, Others and Nodes, and by nothing else.
type Target interface{ target() target }

// One is a target that is one node.
type One interface {
	Target
	one()
}

// Many is a target that is any number of nodes.
type Many interface {
	Target
	many()
}

// To is the node with that id. Durable messages survive its restart.
func To(id string) One { return oneTarget{target{to: toNode, id: id}} }

// Any is any one node that handles the kind; with selectors, one that all of
// them choose.
func Any(where ...Selector) One {
	if len(where) == 0 {
		return anyNode
	}
	return oneTarget{target{to: toAny, where: allOf(where)}}
}

// anyNode is made once: nearly every call has it.
var anyNode One = oneTarget{target{to: toAny}}

// All is every node that handles the kind, the sender included; with selectors,
// those that all of them choose.
func All(where ...Selector) Many { return manyTarget{target{to: toAll, where: allOf(where)}} }

// Others is All without the sender.
func Others(where ...Selector) Many { return manyTarget{target{to: toOthers, where: allOf(where)}} }

// Nodes is the nodes with those ids. Each of them must be a member that
// handles the kind.
func Nodes(ids ...string) Many {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	return manyTarget{target{to: toNodes, ids: slices.Compact(ids)}}
}

// targetKind is which of the constructors made a target.
type targetKind uint8

const (
	toNode targetKind = iota + 1
	toAny
	toAll
	toOthers
	toNodes
)

// target is what the verbs look at.
type target struct {
	to  targetKind
	id  string   // toNode; toAny with a selector once its node is chosen
	ids []string // toNodes: sorted, each once
	// where narrows toAny, toAll and toOthers; nil is everybody.
	where *selector
}

type oneTarget struct{ t target }

func (o oneTarget) target() target { return o.t }
func (oneTarget) one()             {}

type manyTarget struct{ t target }

func (m manyTarget) target() target { return m.t }
func (manyTarget) many()            {}
