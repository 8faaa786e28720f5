package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/kvregistry"
)

// Status is how a node stands, from memory.
type Status struct {
	// Live is false when the node has ended, by Leave, by Close or for what Err
	// says: this process cannot bring it back.
	Live bool `json:"live"`
	// Ready means that the node has joined (or observes) and works. It is false
	// before that, while the node leaves, while it comes back from an eviction,
	// and when it has ended. It stays true while the store cannot be reached.
	Ready bool `json:"ready"`
	// Reason says why the node is not ready; empty when it is.
	Reason string `json:"reason,omitempty"`
	// Connected means that there is a connection to NATS at present.
	Connected bool `json:"connected"`
	// State is the node's own state; empty for an observer and before Join.
	State State `json:"state,omitempty"`
	// Incarnation is the node's own incarnation; 0 for an observer and before Join.
	Incarnation uint64 `json:"incarnation,omitempty"`
	// Revision is that of the view.
	Revision uint64 `json:"revision,omitempty"`
	// Stale means that the store cannot be reached or takes no writes, so that the
	// view may be behind.
	Stale bool `json:"stale"`
	// StaleSince is when it became so; zero when it is not.
	StaleSince time.Time `json:"stale_since,omitzero"`
	// Evicted means that the others took the node for dead and that it has not
	// come back yet.
	Evicted bool `json:"evicted"`
	// Armed means that a crash of this process would be noticed at once. When
	// it is false (no permission, no room, no server), probes notice it later.
	Armed bool `json:"armed"`
}

// Status says how the node stands: whether it is ready for work, why not, and
// since when its view is stale. It does no I/O. Ready stays true through an
// outage of the store: all nodes would be taken out of service at once then,
// and none of them would be the better for it.
func (n *Node) Status() Status {
	n.mu.Lock()
	phase := n.phase
	n.mu.Unlock()
	var st kvregistry.Status
	if reg := n.registry.Load(); reg != nil {
		st = reg.Status()
	}
	out := Status{
		Live: true, Connected: n.nc.IsConnected(), State: st.State, Incarnation: st.Incarnation,
		Revision: st.Revision, Stale: st.Stale, StaleSince: st.StaleSince, Evicted: st.Evicted, Armed: st.Armed,
	}
	select {
	case <-n.done:
		phase, out.Live = phaseClosed, false
	default:
	}
	switch {
	case phase == phaseNew:
		out.Reason = "not joined"
	case phase == phaseJoining:
		out.Reason = "joining"
	case phase == phaseLeaving:
		out.Reason = "leaving"
	case phase == phaseClosed:
		out.Reason = "closed"
		if err := n.Err(); err != nil {
			out.Reason = "ended: " + err.Error()
		}
	case st.Evicted:
		out.Reason = "evicted: the others took the node for dead, and it is coming back"
	case !st.Ready:
		out.Reason = "ending"
	case n.working.Load() != st.Incarnation:
		out.Reason = "beginning to work as a new incarnation"
	}
	out.Ready = out.Reason == ""
	return out
}

// Check makes the round trips that Status does not make: JetStream can be
// written, it has this node's record, and every consumer of the node is there
// and is consumed. It is for a person or a slow monitor; an orchestrator's
// readiness is Status. ctx bounds it.
//
// Errors, more than one maybe: ErrNotJoined, ErrClosed, ErrLeaving, ErrEvicted,
// or what NATS said.
func (n *Node) Check(ctx context.Context) error {
	var all error
	for _, p := range n.check(ctx) {
		switch {
		case p.err == nil:
		case all == nil:
			all = p.err
		default:
			all = fmt.Errorf("%w; %w", all, p.err)
		}
	}
	return all
}

// part is one thing that a check looked at.
type part struct {
	name string
	err  error
}

// check looks at the parts of the node, those behind the connection at once.
func (n *Node) check(ctx context.Context) []part {
	reg, err := n.joined()
	if err != nil {
		return []part{{"membership", err}}
	}
	if !n.nc.IsConnected() {
		return []part{{"connection", fmt.Errorf("cluster: check: %w (%v)", nats.ErrDisconnected, n.nc.Status())}}
	}
	inbox := make(chan error, 1)
	go func() { inbox <- n.router.Check(ctx) }()
	parts := []part{{"connection", nil}, {"registry", reg.Check(ctx)}}
	err = <-inbox
	if errors.Is(err, ErrNotJoined) { // Join has not come so far
		return append(parts, part{"membership", err})
	}
	return append(parts, part{"inbox", err})
}
