package soak_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"

	"github.com/catga/catga-go/cluster"
)

// history is everything that was done and everything that was seen, by the
// clock of the one machine that all of it runs on.
type history struct {
	runs []*run
	// away is when the script had each node not reached, or not answer.
	away map[string][]span
	// offline is when each node had no connection, as it says itself.
	offline map[string][]period
	// servers is when a NATS server was down or stood still.
	servers []span
	seers   []*seer
	// end is when the last of it was written.
	end time.Time
}

// span is a time.
type span struct {
	from, to time.Time
	// closed means that connections were closed, not only silent: a crash looks
	// the same from outside, and is seen after the grace of the connection.
	closed bool
}

// run is one process of a node, from its start to its end.
type run struct {
	id         string
	begin, end time.Time // end is zero for one that lives
	// left means that it left, and that Leave returned nil; killed, that it was.
	left, killed bool
	// lives are the incarnations that it had, in order.
	lives []uint64
}

// seer is one process that follows the cluster, a node or an observer.
type seer struct {
	id         string
	begin, end time.Time // end is zero for one that lives
	events     []sight
	views      []look
	// last is its view after the faults; nil where there was none.
	last *table
}

// sight is one event as a seer was told it.
type sight struct {
	At          time.Time
	Kind        string
	ID          string
	Incarnation uint64
	Reason      string
	By          string
}

// look is what a seer's view was at a revision.
type look struct {
	Revision uint64
	Digest   string
}

// table is a whole view: the incarnation of each member that is there.
type table struct {
	Stale   bool
	Members map[string]uint64
}

// disconnected takes since when a node has no connection.
func (h *history) disconnected(id string, from time.Time) {
	h.offline[id] = append(h.offline[id], period{From: from})
}

// reconnected takes since when it has one again.
func (h *history) reconnected(id string, to time.Time) {
	if n := len(h.offline[id]) - 1; n >= 0 && h.offline[id][n].To.IsZero() {
		h.offline[id][n].To = to
	}
}

// awayOf is when a node could not be reached, or could not have answered. Where
// the script closed its connection it was away until it had another one, which
// takes long where a server stands still that it tries first. Where a server
// took the connection with it that counts for nothing: nobody is Lost for that.
func (h *history) awayOf(id string) []span {
	spans := slices.Clone(h.away[id])
	for i, s := range spans {
		if !s.closed {
			continue
		}
		for _, p := range h.offline[id] {
			if p.From.Before(s.from.Add(-tick)) || p.From.After(s.to.Add(time.Second)) {
				continue
			}
			if to := h.backAt(id, p); to.After(spans[i].to) {
				spans[i].to = to
			}
		}
	}
	return spans
}

// backAt is when a time without a connection ended: with another connection,
// with the process, or not at all.
func (h *history) backAt(id string, p period) time.Time {
	if !p.To.IsZero() {
		return p.To
	}
	for _, r := range h.runs {
		if r.id == id && !r.begin.After(p.From) && r.end.After(p.From) {
			return r.end
		}
	}
	return h.end
}

func sightOf(e cluster.Event, at time.Time) sight {
	return sight{
		At: at, Kind: e.Kind.String(), ID: e.Member.ID, Incarnation: e.Member.Incarnation,
		Reason: string(e.Member.Reason), By: e.Member.By,
	}
}

// lookAt is the digest of everything that a view shows but whether it is stale.
func lookAt(v cluster.View) look {
	data, err := json.Marshal([][]cluster.Member{v.Members, v.Offline})
	if err != nil {
		panic(err) // plain values
	}
	sum := sha256.Sum256(data)
	return look{v.Revision, hex.EncodeToString(sum[:8])}
}

func tableOf(v cluster.View) *table {
	t := &table{Stale: v.Stale, Members: map[string]uint64{}}
	for _, m := range v.Members {
		t.Members[m.ID] = m.Incarnation
	}
	return t
}
