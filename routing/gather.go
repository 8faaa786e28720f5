package routing

import (
	"context"
	"iter"

	"github.com/nats-io/nats.go"
)

// Answer is the answer of one node to a Gather.
type Answer[T any] struct {
	Node string
	Body T
}

// GatherOptions are the options of one Gather.
type GatherOptions struct {
	// Header is added to the request. Names that begin with Nats- or Catga- are
	// refused.
	Header nats.Header
}

// Gather asks many nodes at once and yields their answers as they come: one pair
// for each node that is meant, with its answer or with why there is none. It
// asks when the loop begins, and again for each loop. It ends with the last of
// the nodes and never waits for silence. A loop that is left early leaves
// nothing behind.
//
// Who is meant is settled at the start, by the view of that moment. All, Others
// and their selectors are the members that handle the kind, draining ones too;
// they may be nobody. Nodes is each of the nodes that it names.
//
// The error of a pair with a Node is that of this node, as of a call:
// *HandlerError where its handler failed; ErrNotDelivered where its handler was
// not run, because the node is no member (ErrNoMember), does not handle the kind
// (ErrNoHandler), is busy, or is leaving, and, of Nodes and selectors, where it is
// not there (nats.ErrNoResponders); ErrUnknown where the node was lost or left
// before it answered, or, of All and Others, is not there any more, where the own
// connection broke meanwhile, and where ctx ended, or, if it has no deadline,
// after 30 s. No node is asked twice.
//
// The error of a pair without a Node is that of the whole, and the only pair:
// nobody was asked. It is ErrNotDelivered with a reason: ErrNoHandler (nobody at
// all handles the kind), ErrSelector, ErrTooLarge, ErrNotJoined, ErrClosed, what
// ended ctx, and so on.
//
// The request and each answer may be as large as the server takes. What has
// arrived waits in memory until the loop takes it.
func (r *Router) Gather(ctx context.Context, to Many, m Raw, o GatherOptions) iter.Seq2[Answer[Raw], error] {
	return func(yield func(Answer[Raw], error) bool) {
		c := collection{r: r, kind: m.Name, yield: yield}
		defer c.close()
		if err := c.begin(ctx, to, m, o); err != nil {
			yield(Answer[Raw]{}, notDelivered(err))
			return
		}
		if c.report() {
			c.collect(ctx)
		}
	}
}
