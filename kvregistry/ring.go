package kvregistry

import (
	"cmp"
	"hash/fnv"
	"slices"
)

// ring orders members by a hash of their ids. Each member is watched by its
// successors, so every member is watched by the same number of others and
// watches as many: rendezvous hashing left 62 of 1,000 members without a
// watcher and gave one of them nine to watch.
//
// It is pure. Source: design measurements, see docs/decisions.md.
type ring struct {
	points []point
}

type point struct {
	hash uint64
	id   string
}

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

func (r *ring) add(id string) {
	p := pointOf(id)
	if i, ok := slices.BinarySearchFunc(r.points, p, point.compare); !ok {
		r.points = slices.Insert(r.points, i, p)
	}
}

func (r *ring) remove(id string) {
	if i, ok := slices.BinarySearchFunc(r.points, pointOf(id), point.compare); ok {
		r.points = slices.Delete(r.points, i, i+1)
	}
}

func (r *ring) len() int { return len(r.points) }

// before returns the k members before id: those that id watches. Fewer when
// the ring has fewer.
func (r *ring) before(id string, k int) []string { return r.walk(id, k, -1) }

// after returns the k members after id: those that watch id.
func (r *ring) after(id string, k int) []string { return r.walk(id, k, +1) }

func (r *ring) walk(id string, k, step int) []string {
	at, ok := slices.BinarySearchFunc(r.points, pointOf(id), point.compare)
	if !ok {
		return nil
	}
	n := len(r.points)
	k = min(k, n-1)
	ids := make([]string, 0, k)
	for i := 1; i <= k; i++ {
		ids = append(ids, r.points[((at+i*step)%n+n)%n].id)
	}
	return ids
}
