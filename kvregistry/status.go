package kvregistry

import "time"

// Status is how this node's own membership stands.
type Status struct {
	// Ready means that the node has joined (or observes) and, unless it is light,
	// has a view. It
	// stays true while the store cannot be reached.
	Ready bool
	// State is the node's own state; empty for an observer and before Join.
	State State
	// Incarnation is the node's own incarnation; 0 for an observer and before Join.
	Incarnation uint64
	// Revision is the revision of the view; 0 for a light node that has none.
	Revision uint64
	// Stale means that the store cannot be reached or takes no writes, so that the
	// view may be behind.
	Stale bool
	// StaleSince is when it became so; zero when it is not.
	StaleSince time.Time
	// Evicted means that the node was declared gone and has not rejoined yet.
	Evicted bool
	// Armed means that a crash of this process would be noticed at once. When
	// it is false (no permission, no room, no server), probes notice it later.
	Armed bool
}
