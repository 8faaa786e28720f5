package kvregistry

import (
	"cmp"
	"hash/fnv"
	"maps"
	"slices"
)

// ring orders members by a hash of their ids. Each member is watched by its
// successors among those that guard, so every member is watched by the same
// number of others, and where all guard each watches as many: rendezvous hashing
// left 62 of 1,000 members without a watcher and gave one of them nine to watch.
//
// It is pure. Source: design measurements, see docs/decisions.md.
type ring struct {
	// members are all, with whether they guard.
	members map[string]bool
	// guards are those that guard, in order.
	guards []point
}

type point struct {
	hash uint64
	id   string
}

func newRing() *ring { return &ring{members: map[string]bool{}} }

func pointOf(id string) point {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id))
	x := h.Sum64()
	// Ids often differ in the last digit only, which FNV leaves close together.
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	x ^= x >> 33
	return point{hash: x, id: id}
}

func (p point) compare(q point) int {
	return cmp.Or(cmp.Compare(p.hash, q.hash), cmp.Compare(p.id, q.id))
}

// add puts in a member; guards tells whether it watches others.
func (r *ring) add(id string, guards bool) {
	if was, ok := r.members[id]; ok && was != guards {
		r.remove(id)
	}
	r.members[id] = guards
	if !guards {
		return
	}
	p := pointOf(id)
	if i, ok := slices.BinarySearchFunc(r.guards, p, point.compare); !ok {
		r.guards = slices.Insert(r.guards, i, p)
	}
}

func (r *ring) remove(id string) {
	guards := r.members[id]
	delete(r.members, id)
	if !guards {
		return
	}
	if i, ok := slices.BinarySearchFunc(r.guards, pointOf(id), point.compare); ok {
		r.guards = slices.Delete(r.guards, i, i+1)
	}
}

// len is the number of members.
func (r *ring) len() int { return len(r.members) }

// watchers returns the k guards after id: those that watch it. Fewer when there
// are fewer others.
func (r *ring) watchers(id string, k int) []string {
	ids := make([]string, 0, k)
	r.after(id, k, func(watcher string) bool {
		ids = append(ids, watcher)
		return true
	})
	return ids
}

// watches tells whether watcher is one of the k that watch id.
func (r *ring) watches(watcher, id string, k int) (found bool) {
	r.after(id, k, func(w string) bool {
		found = w == watcher
		return !found
	})
	return found
}

// wards returns those that watcher watches, sorted by id.
func (r *ring) wards(watcher string, k int) []string {
	if !r.members[watcher] {
		return nil
	}
	var ids []string
	for id := range maps.Keys(r.members) {
		if r.watches(watcher, id, k) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

func (r *ring) after(id string, k int, each func(string) bool) {
	at, among := slices.BinarySearchFunc(r.guards, pointOf(id), point.compare)
	others := len(r.guards)
	if among {
		at++
		others--
	}
	for i := range min(k, others) {
		if !each(r.guards[(at+i)%len(r.guards)].id) {
			return
		}
	}
}
