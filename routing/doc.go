// Package routing decides where a message goes and brings it there: durable
// messages through four JetStream streams, calls and at-most-once messages
// over core NATS. It knows the members of the cluster only from what it is
// told with Update, and it knows nothing of how they are found.
//
// # Promises
//
//  1. Send returns nil only after the server stored the message. What is stored
//     is handled at least once or becomes a dead letter; a handler runs again
//     after a crash, a failure, or a hand-back, so it should tell repeats by
//     Msg.ID.
//  2. An error of a verb is one of three outcomes: ErrNotDelivered (nobody has
//     it and nobody will), ErrUnknown (repeat it with the same id), or a
//     *HandlerError (it ran and said no). The reason is wrapped. A ctx that
//     ended is a reason, never an outcome.
//  3. A node never holds more durable messages of a kind than it can run, apart
//     from those that its own mailbox brings on top, and it tells the server
//     every 5 s that it still has them.
//  4. When a node is lost, what it held runs elsewhere at once: one of the
//     other handlers of the kind asks the living what they hold and hands the
//     rest back to the server.
//  5. A message that fails more often than its kind allows, that cannot be
//     read, or that was delivered more than MaxAttempts times is a dead letter:
//     kept, listed, and replayed on demand.
//
// # Failure behaviour
//
// A server restart or an election delays sends and deliveries and loses
// neither: Send repeats with the same id until its ctx ends (30 s where it has
// no deadline), pulls are asked for anew, acks that could not be sent are sent
// when the connection is back. A server that forgot its streams (memory
// storage) gets them again, with the consumers, and void acks are dropped.
//
// # Concurrency
//
// A Router is safe for concurrent use. Handlers run side by side up to the
// concurrency of their kind. Update never blocks. Nothing here sets a callback
// of the connection, so the user's own stay in place.
//
// Users of the cluster import package cluster, which is this and the registry
// in one.
package routing
