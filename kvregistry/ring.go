package kvregistry

import (
	"cmp"
	"hash/fnv"
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
	// arcs are the parts of the ring, in order, so that neither a change nor a
	// look at a neighbourhood costs anything for the members elsewhere.
	arcs   [arcs]arc
	guards int
}

// arcs is into how many parts a ring is cut, by the highest byte of the hash.
const arcs = 256

// arc is a part of a ring.
type arc struct {
	// members are all, in no order.
	members []point
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

func (p point) arc() int { return int(p.hash >> 56) }

// between tells whether p lies in the part of a ring that begins with from and
// ends before to. From a point to itself is all of the ring.
func (p point) between(from, to point) bool {
	if from.compare(to) < 0 {
		return from.compare(p) <= 0 && p.compare(to) < 0
	}
	return from.compare(p) <= 0 || p.compare(to) < 0
}

// add puts in a member; guards tells whether it watches others.
func (r *ring) add(id string, guards bool) {
	if was, ok := r.members[id]; ok {
		if was == guards {
			return
		}
		r.remove(id)
	}
	r.members[id] = guards
	p := pointOf(id)
	a := &r.arcs[p.arc()]
	a.members = append(a.members, p)
	if guards {
		i, _ := slices.BinarySearchFunc(a.guards, p, point.compare)
		a.guards = slices.Insert(a.guards, i, p)
		r.guards++
	}
}

func (r *ring) remove(id string) {
	guards, ok := r.members[id]
	if !ok {
		return
	}
	delete(r.members, id)
	p := pointOf(id)
	a := &r.arcs[p.arc()]
	i := slices.Index(a.members, p)
	last := len(a.members) - 1
	a.members[i] = a.members[last]
	a.members[last] = point{}
	a.members = a.members[:last]
	if guards {
		i, _ := slices.BinarySearchFunc(a.guards, p, point.compare)
		a.guards = slices.Delete(a.guards, i, i+1)
		r.guards--
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

// guarding tells whether a member watches others.
func (r *ring) guarding(id string) bool { return r.members[id] }

// watches tells whether watcher is one of the k that watch id.
func (r *ring) watches(watcher, id string, k int) (found bool) {
	r.after(id, k, func(w string) bool {
		found = w == watcher
		return !found
	})
	return found
}

// wards returns those that watcher watches, sorted by id: those from the k-th
// guard before it up to itself.
func (r *ring) wards(watcher string, k int) []string {
	if !r.members[watcher] {
		return nil
	}
	self := pointOf(watcher)
	from, all := r.before(self, k)
	var ids []string
	for n := range arcs {
		i := (from.arc() + n) % arcs
		for _, p := range r.arcs[i].members {
			if p != self && (all || p.between(from, self)) {
				ids = append(ids, p.id)
			}
		}
		// Where it begins behind its end in one arc, it goes all around.
		if !all && i == self.arc() && (n > 0 || from.compare(self) < 0) {
			break
		}
	}
	slices.Sort(ids)
	return ids
}

// before returns the k-th guard before p; all tells that there are no more than
// k, so that each watches everybody.
func (r *ring) before(p point, k int) (from point, all bool) {
	if r.guards <= k {
		return p, true
	}
	at := p.arc()
	i, _ := slices.BinarySearchFunc(r.arcs[at].guards, p, point.compare)
	for {
		for i--; i >= 0; i-- {
			if k--; k == 0 {
				return r.arcs[at].guards[i], false
			}
		}
		at = (at + arcs - 1) % arcs
		i = len(r.arcs[at].guards)
	}
}

// after calls each with the k guards after id, in order, until it says false.
func (r *ring) after(id string, k int, each func(string) bool) {
	p := pointOf(id)
	at := p.arc()
	i, among := slices.BinarySearchFunc(r.arcs[at].guards, p, point.compare)
	others := r.guards
	if among {
		i++
		others--
	}
	for left := min(k, others); left > 0; {
		for ; i < len(r.arcs[at].guards) && left > 0; i++ {
			if !each(r.arcs[at].guards[i].id) {
				return
			}
			left--
		}
		at, i = (at+1)%arcs, 0
	}
}
