package cluster

import (
	"context"

	"github.com/catga/catga-go/routing"
)

// Send sends m to a target and returns when it is stored, or, with AtMostOnce,
// when it is on its way. A stored message is handled at least once by each node
// that the target means, also by one that is down now and comes back under its
// id, or ends as a dead letter.
//
//	To(id)      the mailbox of that node
//	Any()       whichever handler has a free slot; moves on when its node is lost
//	All()       every node that handles the kind and was there when m was stored
//	Others()    the same without the sender
//	Nodes(ids)  the same, only those
//
// Errors: ErrNotDelivered (nothing is stored; wraps ErrNoMember, ErrNoHandler,
// ErrTooLarge, ErrLeaving, ErrClosed, ErrNotJoined or what NATS said),
// ErrUnknown (repeat with the same ID), ErrDuplicate (stored before). A ctx that
// ends is wrapped by one of the first two. Without a deadline Send gives up
// after 30 s.
func (n *Node) Send(ctx context.Context, to Target, m Message, opts ...SendOption) error {
	raw, err := n.encode(m)
	if err != nil {
		return err
	}
	if len(opts) == 0 {
		return n.router.Send(ctx, to, raw, routing.SendOptions{})
	}
	var o routing.SendOptions // on the heap: options are anybody's functions
	for _, opt := range opts {
		opt.send(&o)
	}
	return n.router.Send(ctx, to, raw, o)
}

// Broadcast is Send to All().
func (n *Node) Broadcast(ctx context.Context, m Message, opts ...SendOption) error {
	return n.Send(ctx, All(), m, opts...)
}
