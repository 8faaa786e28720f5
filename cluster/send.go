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
	return n.router.Send(ctx, to, raw, sendOptions(opts))
}

func sendOptions(opts []SendOption) routing.SendOptions {
	var o routing.SendOptions // on the heap: options are anybody's functions
	for _, opt := range opts {
		opt.send(&o)
	}
	return o
}

// SendBatch sends many messages to a target without waiting for one before it
// sends the next, and returns when all are stored. They are stored one by one, in
// order as long as nothing fails; when one fails the others are stored
// nevertheless. With ID(id) the messages have the ids "<id>-0", "<id>-1" and so
// on: a batch that is repeated stores only what is missing, and is ErrDuplicate
// when nothing was.
//
// Errors: ErrNotDelivered, where nothing was sent because one of the messages
// cannot be; else *BatchError, which tells for each message what Send would have
// returned. Those with ErrUnknown may be stored.
func (n *Node) SendBatch(ctx context.Context, to Target, ms []Message, opts ...SendOption) error {
	raws := make([]Raw, len(ms))
	for i, m := range ms {
		var err error
		if raws[i], err = n.encode(m); err != nil {
			return err
		}
	}
	return n.router.SendBatch(ctx, to, raws, sendOptions(opts))
}

// Cancel takes back the delayed messages that were sent with ID(id), of every
// kind and target, by any node. One whose time has just come may be handled though
// Cancel returned nil.
//
// Errors: ErrNotDelayed (it was handed out, cancelled, or never sent), ErrDenied
// (a user needs STREAM.PURGE of the streams of work and mail for it; what one of
// them had is taken back all the same), ErrNotJoined, ErrClosed, or what ended ctx.
func (n *Node) Cancel(ctx context.Context, id string) error { return n.router.Cancel(ctx, id) }

// Broadcast is Send to All().
func (n *Node) Broadcast(ctx context.Context, m Message, opts ...SendOption) error {
	return n.Send(ctx, All(), m, opts...)
}
