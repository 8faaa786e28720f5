package cluster

import (
	"context"
	"fmt"

	"github.com/catga/catga-go/routing"
)

// Call sends q to one node and returns its answer; R is inferred from q. Any
// means the handlers of q's kind in turn, the caller's own node last; see Pick.
//
// Where nothing was delivered (the node is gone, busy or leaving) Call goes to
// another node by itself, three times at most. Where the node is lost while it
// works, the outcome is unknown, and Call goes elsewhere only with Idempotent.
// All of it takes at most ctx, or 30 s if ctx has no deadline.
//
// Errors: *HandlerError (the handler's own answer, never retried),
// ErrNotDelivered, ErrUnknown, each with its reason.
func Call[Q Request[R], R any](ctx context.Context, n *Node, to One, q Q, opts ...CallOption) (R, error) {
	var answer R
	raw, err := n.encode(q)
	if err != nil {
		return answer, err
	}
	reply, err := n.CallRaw(ctx, to, raw, opts...)
	if err != nil {
		return answer, err
	}
	if err := n.router.Decode(reply, &answer); err != nil {
		return answer, fmt.Errorf("cluster: the answer to %s cannot be read: %w", raw.Name, err)
	}
	return answer, nil
}

// CallRaw is Call for a kind that is known only at run time.
func (n *Node) CallRaw(ctx context.Context, to One, r Raw, opts ...CallOption) (Raw, error) {
	if len(opts) == 0 {
		return n.router.Call(ctx, to, r, routing.CallOptions{})
	}
	var o callOptions // on the heap: options are anybody's functions
	for _, opt := range opts {
		opt.call(&o)
	}
	if o.pick != nil {
		o.Pick = n.picker(o.pick)
	}
	return n.router.Call(ctx, to, r, o.CallOptions)
}
