package cluster

import "github.com/catga/catga-go/routing"

// DeadLetter is a message that could not be handled, with how it ended.
type DeadLetter = routing.DeadLetter

// DeadLetters are the messages of the cluster that could not be handled: listed,
// read, sent again or dropped.
type DeadLetters = routing.DeadLetters

// DeadLetters returns the dead letters of the whole cluster, whichever node
// they ended on. It needs Join or Observe.
func (n *Node) DeadLetters() DeadLetters { return n.router.DeadLetters() }
