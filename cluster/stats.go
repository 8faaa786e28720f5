package cluster

import "github.com/catga/catga-go/routing"

// KindStats is what a node has done for one kind.
type KindStats = routing.KindStats

// Stats is what this node has done since New, by kind, sorted; kinds that it
// handles and nobody has used yet are there with zeros. It does no I/O.
func (n *Node) Stats() []KindStats { return n.router.Stats() }

// Pause stops the work of a kind on this node until Resume: for a dependency
// that is down, or to take load off. Handlers that run go on.
//
//   - Shared work goes to other nodes; where no other node handles the kind, it
//     waits.
//   - Messages to this node wait for Resume, however long it takes. They share
//     the mailbox with those of other kinds: when more of them have come than the
//     kinds of the node have places together, all of the mailbox waits.
//   - Calls are answered busy, so that callers go to another node; at-most-once
//     messages are dropped.
//
// A pause is of this process: the others do not see it, and it outlives an
// eviction. A kind that this node does not handle is an error that wraps
// ErrNoHandler.
func (n *Node) Pause(kind string) error { return n.router.Pause(kind) }

// Resume ends a Pause: what waited runs. It does nothing for a kind that is not
// paused; one that this node does not handle is an error that wraps
// ErrNoHandler.
func (n *Node) Resume(kind string) error { return n.router.Resume(kind) }
