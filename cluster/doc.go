// Package cluster makes a Go service a node of a cluster over NATS JetStream:
// the nodes see each other, what they are (metadata) and what they can do (the
// kinds of message that they handle); messages reach one node, every node, or
// whichever node can do the work; and when a node is lost its work moves.
//
// The smallest program:
//
//	nc, err := cluster.Dial(ctx, "nats://127.0.0.1:4222")
//	node, err := cluster.New(nc, cluster.Config{Cluster: "demo", Node: "n1"})
//	cluster.Handle(node, func(ctx context.Context, m *cluster.Msg[Greeting]) error {
//		fmt.Println(m.From, "says", m.Body.Text)
//		return nil
//	})
//	err = node.Join(ctx)
//	err = node.Send(ctx, cluster.To("n2"), Greeting{"hello"})
//
// [New] checks the configuration and does nothing else; [Handle] and
// [HandleCall] register handlers; [Node.Join] makes the node visible. Handlers
// may run before Join has returned, because there may be work waiting.
//
// # Guarantees
//
//  1. Send returns nil when the message is stored: it is handled at least once,
//     or ends as a dead letter. [ErrNotDelivered] means that nothing was stored
//     and nobody received it. [ErrUnknown] means that the answer of the store
//     was not seen: repeat with the same [ID].
//  2. Call returns an answer, a [*HandlerError], or one of those two errors. It
//     goes to another node by itself only where nothing was delivered, and
//     where the outcome is unknown only with [Idempotent].
//  3. Gather asks many nodes and names each of them: its answer, or why there is
//     none. It ends with the last of them.
//  4. The view is ordered: for one incarnation of a member Joined comes first,
//     then Updated, then exactly one of Left or Lost. Equal revisions of a
//     [View] are equal views.
//  5. A store outage buries nobody: the view stays and says that it is stale.
//
// docs/guarantees.md has all promises, each with the test that shows it.
//
// # Concurrency
//
// All methods of [Node] may be called from any goroutine, after [New]. Handle,
// HandleCall and HandleRaw come before Join. Handlers of one kind run
// concurrently, bounded by [Concurrency].
//
// # Failure
//
// The node reconnects for ever if its connection does ([Dial] sees to that).
// A node that was taken for dead while it was cut off comes back by itself as a
// new incarnation, after an Evicted event. [Node.Done] is closed when the node
// has ended for good; [Node.Err] says why.
package cluster
