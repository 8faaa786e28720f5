package routing

// Standing is how a node stands to the cluster, as far as it matters for its mail.
type Standing int

const (
	// Unsure says that the view may be behind: nothing is concluded from it.
	Unsure Standing = iota
	// Present nodes are members, draining or not.
	Present
	// Absent nodes left or were lost, and are remembered: they may come back.
	Absent
	// Forgotten nodes were never seen, or their end is longer ago than they
	// wanted to be remembered.
	Forgotten
)

// String returns the name of the standing.
func (s Standing) String() string {
	switch s {
	case Unsure:
		return "unsure"
	case Present:
		return "present"
	case Absent:
		return "absent"
	case Forgotten:
		return "forgotten"
	default:
		return "invalid"
	}
}

// standing tells how a node stands, and what is known of it unless it is
// forgotten. What this router was told goes before Config.Standing where it says
// that the node is there.
func (r *Router) standing(id string) (Peer, Standing) {
	if p := r.peers.Load().byID[id]; p != nil && !p.lost {
		return p.Peer, Present
	}
	if id == r.id && !r.observes() {
		return Peer{ID: id, Kinds: r.Kinds(), Mail: r.cfg.Mail}, Present
	}
	if r.cfg.Standing != nil {
		return r.cfg.Standing(id)
	}
	if p := r.peers.Load().byID[id]; p != nil {
		return p.Peer, Absent
	}
	return Peer{}, Forgotten
}

// stands reports whether the node of a mailbox still stands as it did when the
// mailbox was looked at.
func (r *Router) stands(b mailbox) bool {
	if b.id == "" {
		return true
	}
	_, now := r.standing(b.id)
	return now == b.standing
}
