package soak_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"

	"github.com/catga/catga-go/cluster"
)

// history is everything that was done and everything that was seen, by the
// clock of the one machine that all of it runs on.
type history struct {
	runs []*run
	// away is when each node could not be reached, or could not have answered.
	away map[string][]span
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

// reconnected takes when a node had no connection. Where the script closed it,
// the node was away until it had another one. Where a server was down it counts
// for nothing: nobody is Lost for that.
func (h *history) reconnected(id string, p period) {
	for i, s := range h.away[id] {
		if s.closed && !p.From.Before(s.from.Add(-tick)) && p.From.Before(s.to.Add(time.Second)) && p.To.After(s.to) {
			h.away[id][i].to = p.To
			return
		}
	}
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
