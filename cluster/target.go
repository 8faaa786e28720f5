package cluster

import "github.com/catga/catga-go/routing"

// Target says who a message is for. It is a One or a Many.
type Target = routing.Target

// One is a target that one node answers: To, Any.
type One = routing.One

// Many is a target of any number of nodes: All, Others, Nodes.
type Many = routing.Many

// To is the node with that id.
func To(id string) One { return routing.To(id) }

// Any is any one node that handles the kind; with selectors, one that all of
// them choose. The sender of a durable message then picks the node, in turn, and
// the message is that node's mail; where the node is lost or leaves before it has
// handled it, it goes to another one that the selectors choose.
func Any(where ...Selector) One { return routing.Any(where...) }

// All is every node that handles the kind, the sender included if it does; with
// selectors, those that all of them choose.
func All(where ...Selector) Many { return routing.All(where...) }

// Others is All without the sender.
func Others(where ...Selector) Many { return routing.Others(where...) }

// Nodes is the nodes with those ids. Each of them must be a member that handles
// the kind: what is sent to one that is not is refused, and Gather says so of
// that node.
func Nodes(ids ...string) Many { return routing.Nodes(ids...) }

// Selector chooses nodes by their metadata. It is made by Where; the zero
// Selector chooses every node.
type Selector = routing.Selector

// Where chooses the nodes whose metadata meets every requirement of expr, in the
// syntax of Kubernetes label selectors:
//
//	zone            there is a zone
//	!canary         there is no canary
//	zone = a        the zone is a; also zone == a
//	zone != a       the zone is not a, or there is none
//	zone in (a, b)  the zone is a or b
//	zone notin (a)  the zone is not a, or there is none
//
// Requirements are joined by commas: "zone in (a,b), !canary". Keys and values
// are any text without space and = ! ( ) , < >; numbers are not compared. A
// selector has 1,024 bytes at most. A bad one fails the verb that it is used
// with: ErrSelector says where it is wrong and what was expected.
func Where(expr string) Selector { return routing.Where(expr) }
