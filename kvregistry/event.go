package kvregistry

// EventKind is what happened to a member.
type EventKind int

const (
	// Joined says that the member is there: the first event of an incarnation.
	Joined EventKind = iota + 1
	// Synced says that everything that was there when the watch began has been told.
	// The event's member is empty.
	Synced
	// Updated says that metadata, kinds, endpoint or state of the member changed.
	Updated
	// Left says that the member said goodbye. Member.Reason is ReasonLeft or ReasonClosed.
	Left
	// Lost says that the member is gone without a goodbye, or that nobody can tell any
	// more whether it said one. Member.Reason says why.
	Lost
	// Evicted says that this very node was declared gone, or its name was taken, while
	// it was alive. It rejoins as a new incarnation if it can.
	Evicted
)

// String returns the name of the constant, such as "Joined".
func (k EventKind) String() string {
	switch k {
	case Joined:
		return "Joined"
	case Synced:
		return "Synced"
	case Updated:
		return "Updated"
	case Left:
		return "Left"
	case Lost:
		return "Lost"
	case Evicted:
		return "Evicted"
	}
	return "EventKind(?)"
}

// Event is one change of the membership.
type Event struct {
	Kind EventKind
	// Member is the member after the change; for Left and Lost as it was last
	// known, with State Offline and the Reason. Empty for Synced.
	Member Member
}

// String returns the kind and the member's id, such as "Joined n1".
func (e Event) String() string {
	if e.Member.ID == "" {
		return e.Kind.String()
	}
	return e.Kind.String() + " " + e.Member.ID
}
