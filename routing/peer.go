package routing

import (
	"maps"
	"slices"
	"sync/atomic"

	"github.com/catga/catga-go/internal/wire"
)

// Peer is what routing knows of a node: who it is and what it can do.
type Peer struct {
	ID          string
	Incarnation uint64 // grows with every join under the id
	Kinds       []string
	Metadata    map[string]string
	Draining    bool   // it takes no new calls, and its mail is stored as before
	Mail        string // what becomes of its mail when it is gone
	Left        bool   // of one that is gone: it said goodbye
}

// ChangeKind says what happened to a peer.
type ChangeKind int

// What happens to peers.
const (
	// Up: the peer is a member as described, new or changed.
	Up ChangeKind = iota + 1
	// Left: the peer said goodbye, or is forgotten; mail to it is refused.
	Left
	// Lost: the peer is gone without a goodbye; mail to it goes by its policy.
	Lost
)

// String returns the name of the kind of change.
func (k ChangeKind) String() string {
	switch k {
	case Up:
		return "up"
	case Left:
		return "left"
	case Lost:
		return "lost"
	default:
		return "invalid"
	}
}

// Change is one change of the membership.
type Change struct {
	Peer Peer
	Kind ChangeKind
}

// peer is one incarnation of a node in a snapshot. Nothing in it changes but
// pending and addresses; gone is closed when that incarnation is lost, left, or replaced.
type peer struct {
	Peer
	lost bool // gone without a goodbye: only its mail is of interest
	gone chan struct{}
	// pending is how many calls of this router wait for its answer. It belongs
	// to the incarnation, as gone and addresses do.
	pending *atomic.Int64
	// addresses is where it answers calls, by kind: those that were asked for.
	addresses *atomic.Pointer[map[string]*address]
}

// address returns how messages of kind go to p. It is made once: to put a subject
// together for each message takes longer than everything else that is done to
// choose a node.
func (p *peer) address(c wire.Cluster, kind string) *address {
	for {
		have := p.addresses.Load()
		var known map[string]*address
		if have != nil {
			known = *have
		}
		if a := known[kind]; a != nil {
			return a
		}
		next := maps.Clone(known)
		if next == nil {
			next = make(map[string]*address, 1)
		}
		next[kind] = &address{node: p.ID, subject: c.CallNode(p.ID, kind)}
		p.addresses.CompareAndSwap(have, &next)
	}
}

func (p Peer) handles(kind string) bool { return slices.Contains(p.Kinds, kind) }

// peers is an immutable snapshot of the membership.
type peers struct {
	byID     map[string]*peer   // online and lost ones
	handlers map[string][]*peer // by kind: online ones, draining or not, by id
	callable map[string][]*peer // by kind: those of handlers that are not draining
	online   []*peer            // by id
}

func newPeers() *peers {
	return &peers{byID: map[string]*peer{}, handlers: map[string][]*peer{}, callable: map[string][]*peer{}}
}

// with returns the snapshot after the changes, and the incarnations that ended
// by them; the caller closes their gone once the snapshot is published, so that
// whoever is woken by it sees the new one.
func (s *peers) with(changes []Change) (next *peers, ended []*peer) {
	next = newPeers()
	next.byID = maps.Clone(s.byID)
	end := func(old *peer) {
		if old != nil && !old.lost {
			ended = append(ended, old)
		}
	}
	for _, c := range changes {
		old := next.byID[c.Peer.ID]
		if old != nil && c.Peer.Incarnation < old.Incarnation {
			continue // late news of an incarnation that is history
		}
		switch c.Kind {
		case Up:
			p := &peer{Peer: c.Peer.clone()}
			if old != nil && !old.lost && old.Incarnation == p.Incarnation {
				p.gone, p.pending, p.addresses = old.gone, old.pending, old.addresses // the same life with other properties
			} else {
				end(old)
				p.gone, p.pending, p.addresses = make(chan struct{}), new(atomic.Int64), new(atomic.Pointer[map[string]*address])
			}
			next.byID[p.ID] = p
		case Left:
			end(old)
			delete(next.byID, c.Peer.ID)
		case Lost:
			end(old)
			p := &peer{Peer: c.Peer.clone(), lost: true, gone: closedChan}
			next.byID[p.ID] = p
		}
	}
	for _, id := range slices.Sorted(maps.Keys(next.byID)) {
		p := next.byID[id]
		if p.lost {
			continue
		}
		next.online = append(next.online, p)
		for _, kind := range p.Kinds {
			next.handlers[kind] = append(next.handlers[kind], p)
			if !p.Draining {
				next.callable[kind] = append(next.callable[kind], p)
			}
		}
	}
	return next, ended
}

func (p Peer) clone() Peer {
	p.Kinds = slices.Clone(p.Kinds)
	p.Metadata = maps.Clone(p.Metadata)
	return p
}

var closedChan = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()
