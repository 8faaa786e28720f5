package kvregistry

import (
	"cmp"
	"slices"
)

// View is the membership at one revision. It is immutable: its slices are
// shared between readers and must not be modified.
type View struct {
	// Revision is the revision of the store up to which this view is complete.
	Revision uint64
	// Members are the online and draining members, sorted by id.
	Members []Member
	// Offline are the members that left or were lost and are not forgotten yet, sorted by id.
	Offline []Member
	// Stale means that the store cannot be reached, so that the view may be behind.
	Stale bool
}

// Member returns the member with that id, online or offline.
func (v View) Member(id string) (Member, bool) {
	if m, ok := find(v.Members, id); ok {
		return m, true
	}
	return find(v.Offline, id)
}

// Handlers returns the members that handle kind and take new work, sorted by id.
func (v View) Handlers(kind string) []Member {
	var handlers []Member
	for _, m := range v.Members {
		if m.State == Online && m.Handles(kind) {
			handlers = append(handlers, m)
		}
	}
	return handlers
}

func find(sorted []Member, id string) (Member, bool) {
	i, ok := slices.BinarySearchFunc(sorted, id, compareID)
	if !ok {
		return Member{}, false
	}
	return sorted[i], true
}

func compareID(m Member, id string) int { return cmp.Compare(m.ID, id) }
