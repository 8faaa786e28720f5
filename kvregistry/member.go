package kvregistry

import (
	"slices"
	"time"
)

// State is what a member is doing.
type State string

const (
	// Online members take part.
	Online State = "online"
	// Draining members finish what they have and take nothing new.
	Draining State = "draining"
	// Offline members have left or were lost; they stay visible until they are forgotten.
	Offline State = "offline"
)

// Reason is why a member is offline.
type Reason string

const (
	// ReasonLeft is a goodbye after a soft stop.
	ReasonLeft Reason = "left"
	// ReasonClosed is a goodbye without a soft stop.
	ReasonClosed Reason = "closed"
	// ReasonCrashed means that nothing listened any more where the node answers probes.
	ReasonCrashed Reason = "crashed"
	// ReasonHung means that the node was connected and did not answer for seconds.
	ReasonHung Reason = "hung"
	// ReasonReplaced means that a new process has taken the name.
	ReasonReplaced Reason = "replaced"
	// ReasonUnknown means that the member ended and that no record tells any more
	// how: it may have left.
	ReasonUnknown Reason = "unknown"
)

// MailPolicy says what becomes of a node's mail when the node is gone. The
// registry only carries it, so that others know it when the node cannot tell.
type MailPolicy string

const (
	// MailKeep keeps the mail until the node is back or forgotten.
	MailKeep MailPolicy = "keep"
	// MailReroute gives the mail to other nodes that handle its kind.
	MailReroute MailPolicy = "reroute"
	// MailDeadLetter makes the mail dead letters.
	MailDeadLetter MailPolicy = "dead-letter"
)

// Member is one node as a view shows it. It is a value; its map and slice are
// shared with other readers and must not be modified.
type Member struct {
	// ID is the node's name.
	ID string
	// Incarnation tells the lives of one name apart: a later life has a
	// greater one. It is the revision of the claim of the name.
	Incarnation uint64
	// Endpoint is where the node's own service listens.
	Endpoint string
	// Started is when this incarnation joined, by the clock of its host.
	Started time.Time
	// Metadata is what the node says of itself.
	Metadata map[string]string
	// Kinds are the message kinds that it handles, sorted.
	Kinds []string
	// State is Online, Draining or Offline.
	State State
	// Reason is why an offline member is offline.
	Reason Reason
	// By is the node that wrote an offline member's end; itself for a goodbye. It
	// may be empty for ReasonUnknown.
	By string
	// LastSeen is when an offline member was last known to be alive.
	LastSeen time.Time
	// Mail is what becomes of its mail.
	Mail MailPolicy
	// Anonymous nodes have a name made up at start and are forgotten soon.
	Anonymous bool
	// Light members watch nobody, see Config.Light.
	Light bool
	// Revision is the revision of the record that this was read from.
	Revision uint64
}

// Handles tells whether the member handles kind.
func (m Member) Handles(kind string) bool {
	_, ok := slices.BinarySearch(m.Kinds, kind)
	return ok
}
