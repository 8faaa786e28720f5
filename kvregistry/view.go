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

// view returns the table as users see it. It costs a copy of the view before
// and some work for each id that was touched since, and nothing is copied when
// none was.
func (t *table) view(stale bool) View {
	v := t.shown
	v.Revision, v.Stale = t.complete, stale
	if len(t.touched) > 0 {
		ids := slices.Sorted(maps.Keys(t.touched))
		clear(t.touched)
		alive := make([]*entry, len(ids))
		ended := make([]*entry, len(ids))
		for i, id := range ids {
			switch e := t.entries[id]; {
			case e == nil:
			case e.rec.State == Offline:
				ended[i] = e
			default:
				alive[i] = e
			}
		}
		v.Members = merge(v.Members, ids, alive)
		v.Offline = merge(v.Offline, ids, ended)
	}
	t.shown = v
	return v
}

// merge returns before, sorted by id, with each of ids replaced by its entry,
// or without it where that is nil. before is shared with readers: it stays as it is.
func merge(before []Member, ids []string, entries []*entry) []Member {
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
	// viewShare bounds what views cost: the pause after one is so many times as
	// long as it took to make it. A view of 50 nodes is there at once, and one of
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
