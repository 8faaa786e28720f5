// Package kvregistry knows who is in a cluster: node records and heartbeats in
// two JetStream KV buckets, a live view of them in every node, and the
// detection of nodes that are gone.
//
// The smallest program:
//
//	reg, err := kvregistry.New(nc, kvregistry.Config{Cluster: "shop", Node: "orders-1"})
//	if err != nil { ... }
//	if err := reg.Join(ctx); err != nil { ... }
//	defer reg.Close()
//	for event := range reg.Watch(ctx) {
//		fmt.Println(event.Kind, event.Member.ID)
//	}
//
// # Guarantees
//
//  1. A view has a revision. Equal revisions are equal views, on every node.
//  2. The events of one incarnation come in order: Joined, Updated..., then
//     exactly one of Left or Lost. A watcher that reads too slowly sees the
//     latest state of each member, never a wrong order and never a stale end.
//  3. When Join has returned, the node is in its own view and in the store.
//     When Leave has returned, its goodbye is in the store.
//  4. A member is Lost as crashed only after its probe subject had no listener,
//     its grace (stated in its record) was over, its tripwire was gone, and
//     still nobody listened; as hung only after seconds of silence in which the
//     prober's own path was proven to work and another member heard nothing
//     either. The NATS server that it is connected to is blamed first. The last
//     act before the verdict is a fresh probe; the verdict is one
//     compare-and-set.
//  5. A store that cannot be reached, is slow, restarts, or comes back empty
//     buries nobody. The view stays and is marked stale until it is true again.
//  6. One name, one live node. A second process with the name of a live node
//     gets ErrNodeTaken; the name of a dead one is taken over at once.
//
// # Failure
//
// A crash is seen by all in about half a second: the process's tripwire (an
// ephemeral consumer) goes with its connection, its watchers probe it and one
// of them writes the verdict. A node that finds itself declared dead raises
// Evicted and rejoins as a new incarnation. Whatever is deleted from the store
// by hand is put back by its owner.
//
// # Concurrency
//
// All methods of Registry are safe for concurrent use. One goroutine owns the
// state; readers get immutable snapshots. No callback of the connection is
// set or replaced: they stay the user's.
package kvregistry
