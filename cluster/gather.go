package cluster

import (
	"context"
	"fmt"
	"iter"

	"github.com/catga/catga-go/routing"
)

// Answer is the answer of one node to a Gather.
type Answer[R any] = routing.Answer[R]

// Gather asks many nodes at once and yields their answers as they come; R is
// inferred from q. It asks when the loop begins:
//
//	for a, err := range cluster.Gather(ctx, node, cluster.All(), GetLoad{}) {
//		if err != nil {
//			log.Println(a.Node, "did not answer:", err)
//			continue
//		}
//		fmt.Println(a.Node, a.Body)
//	}
//
// There is one pair for each node that is meant, its answer or why there is
// none, and the loop ends with the last of them: it never waits for silence, and
// it may be left at any time. All, Others and their selectors are the members
// that handle q's kind when the loop begins; they may be nobody. Nodes is each of
// the nodes that it names.
//
// The error of a pair is that of its node, as of Call: *HandlerError,
// ErrNotDelivered (it is no member, does not handle the kind, is busy or is
// leaving; of Nodes and selectors, it is not there) or ErrUnknown (it was lost or
// left before it answered; of All and Others, it is not there any more; or ctx
// ended; without a deadline that is after 30 s). No node is asked twice. The error
// of a pair without a Node is that of the whole and the only one, ErrNotDelivered:
// nobody was asked, for nobody handles the kind (ErrNoHandler), the selector is
// none, and so on.
//
// The request, and each answer, may be as large as the server takes. Answers wait
// in memory until the loop takes them: at most one of each node.
func Gather[Q Request[R], R any](ctx context.Context, n *Node, to Many, q Q, opts ...GatherOption) iter.Seq2[Answer[R], error] {
	return func(yield func(Answer[R], error) bool) {
		raw, err := n.encode(q)
		if err != nil {
			yield(Answer[R]{}, err)
			return
		}
		for a, err := range n.GatherRaw(ctx, to, raw, opts...) {
			answer := Answer[R]{Node: a.Node}
			if err == nil {
				err = n.router.Decode(a.Body, &answer.Body)
				if err != nil {
					err = fmt.Errorf("cluster: the answer of %s to %s cannot be read: %w", a.Node, raw.Name, err)
				}
			}
			if !yield(answer, err) {
				return
			}
		}
	}
}

// GatherRaw is Gather for a kind that is known only at run time.
func (n *Node) GatherRaw(ctx context.Context, to Many, r Raw, opts ...GatherOption) iter.Seq2[Answer[Raw], error] {
	var o routing.GatherOptions
	for _, opt := range opts {
		opt.gather(&o)
	}
	return n.router.Gather(ctx, to, r, o)
}
