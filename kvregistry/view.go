package kvregistry

import (
	"cmp"
	"maps"
	"slices"
	"time"
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
	// Stale means that the store cannot be reached or takes no writes, so that the
	// view may be behind.
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

// draft is the view that was read last, and what has changed since. The view of
// now is made of both by whoever reads it first: one that nobody reads costs
// nothing, and several changes cost one merge.
type draft struct {
	view     View
	revision uint64
	stale    bool
	// touched are the entries of the ids that may differ from view; nil for one
	// that is not in the table any more.
	touched map[string]*entry
}

// add takes what has changed up to revision.
func (d *draft) add(revision uint64, stale bool, touched map[string]*entry) {
	d.revision, d.stale = revision, stale
	if len(d.touched) == 0 {
		d.touched = touched
		return
	}
	maps.Copy(d.touched, touched)
}

// read returns the view of now. It costs a copy of the view before and some
// work for each id that was touched since, and nothing is copied when none was.
func (d *draft) read() View {
	v := d.view
	v.Revision, v.Stale = d.revision, d.stale
	if len(d.touched) > 0 {
		ids := slices.Sorted(maps.Keys(d.touched))
		alive := make([]*entry, len(ids))
		ended := make([]*entry, len(ids))
		for i, id := range ids {
			switch e := d.touched[id]; {
			case e == nil:
			case e.rec.State == Offline:
				ended[i] = e
			default:
				alive[i] = e
			}
		}
		v.Members = merge(v.Members, ids, alive)
		v.Offline = merge(v.Offline, ids, ended)
		d.touched = nil
	}
	d.view = v
	return v
}

// merge returns before, sorted by id, with each of ids replaced by its entry,
// or without it where that is nil. before is shared with readers: it stays as it is.
func merge(before []Member, ids []string, entries []*entry) []Member {
	if len(before) == 0 && !slices.ContainsFunc(entries, func(e *entry) bool { return e != nil }) {
		return nil
	}
	after := make([]Member, 0, len(before)+len(ids))
	for i, id := range ids {
		at, found := slices.BinarySearchFunc(before, id, compareID)
		after = append(after, before[:at]...)
		before = before[at:]
		if found {
			before = before[1:]
		}
		if e := entries[i]; e != nil {
			after = append(after, e.rec.member(e.read))
		}
	}
	after = append(after, before...)
	if len(after) == 0 {
		return nil
	}
	return after
}

const (
	// viewShare bounds what views cost: the pause after one that was read is so
	// many times as long as it took to make it. A view of 50 nodes is there at once, and one of
	// 10,000 has the changes of some 20 ms.
	viewShare = 20
	// maxViewPause bounds that pause, also where the machine is overloaded.
	maxViewPause = 250 * time.Millisecond
	// freeView is what a view may cost without a pause.
	freeView = 200 * time.Microsecond
)

// viewPause is the pause after a view that took so long to make.
func viewPause(took time.Duration) time.Duration {
	if took <= freeView {
		return 0
	}
	return min(viewShare*took, maxViewPause)
}
