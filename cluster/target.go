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

// Any is any one node that handles the kind.
func Any() One { return routing.Any() }

// All is every node that handles the kind, the sender included if it does.
func All() Many { return routing.All() }

// Others is every node but the sender that handles the kind.
func Others() Many { return routing.Others() }

// Nodes is the nodes with those ids, as far as they handle the kind.
func Nodes(ids ...string) Many { return routing.Nodes(ids...) }
