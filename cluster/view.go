package cluster

import "github.com/catga/catga-go/kvregistry"

// What a node sees of the others.
type (
	// Member is one node as its record says.
	Member = kvregistry.Member
	// View is who is in the cluster. Equal revisions are equal views.
	View = kvregistry.View
	// Event is one change of the view.
	Event = kvregistry.Event
	// EventKind is what an Event says.
	EventKind = kvregistry.EventKind
	// State is whether a member works, drains or is offline.
	State = kvregistry.State
	// Reason is why a member is offline.
	Reason = kvregistry.Reason
	// MailPolicy is what becomes of a node's mail when the node is gone.
	MailPolicy = kvregistry.MailPolicy
)

// The kinds of Event.
const (
	// Joined: a member is there, or a new incarnation of one.
	Joined = kvregistry.Joined
	// Synced: all members that were there when Watch began have been told.
	Synced = kvregistry.Synced
	// Updated: a member changed its metadata or state.
	Updated = kvregistry.Updated
	// Left: a member said goodbye.
	Left = kvregistry.Left
	// Lost: a member is gone without a goodbye, or nobody can tell any more
	// whether it said one; Member.Reason says how.
	Lost = kvregistry.Lost
	// Evicted: this node finds that the others took it for dead; it comes back
	// by itself as a new incarnation.
	Evicted = kvregistry.Evicted
)

// The states of a Member.
const (
	Online   = kvregistry.Online
	Draining = kvregistry.Draining
	Offline  = kvregistry.Offline
)

// The reasons of an offline Member.
const (
	ReasonLeft     = kvregistry.ReasonLeft
	ReasonClosed   = kvregistry.ReasonClosed
	ReasonCrashed  = kvregistry.ReasonCrashed
	ReasonHung     = kvregistry.ReasonHung
	ReasonReplaced = kvregistry.ReasonReplaced
	ReasonUnknown  = kvregistry.ReasonUnknown
)

// The mail policies.
const (
	// MailKeep keeps the mail until the node is back, Config.Forget at most.
	MailKeep = kvregistry.MailKeep
	// MailReroute gives the mail to other handlers of its kind.
	MailReroute = kvregistry.MailReroute
	// MailDeadLetter makes the mail dead letters.
	MailDeadLetter = kvregistry.MailDeadLetter
)
