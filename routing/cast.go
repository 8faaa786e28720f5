package routing

import (
	"context"
	"errors"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/wire"
)

// cast sends a message now or not at all. nil says that it has left, or is about
// to with others, see bundles; who is away, or is too slow, misses it.
func (r *Router) cast(ctx context.Context, to Target, m Raw, o SendOptions) error {
	if err := r.sendable(); err != nil {
		return notDelivered(err)
	}
	if to == nil {
		return notDelivered(errNoTarget)
	}
	if ctx.Err() != nil {
		return notDelivered(ctxReason(ctx))
	}
	if err := checkCallerID(o.ID); err != nil {
		return notDelivered(err)
	}
	if o.delayed() {
		return notDelivered(errors.New("a message at most once cannot be delayed: it is not stored"))
	}
	extra := 0
	if o.ID != "" {
		extra++
	}
	t := to.target()
	if err := t.where.problem(); err != nil {
		return notDelivered(err)
	}
	if t.where != nil {
		extra++
	}
	if t.to == toOthers || t.to == toNodes {
		extra++
	}
	h, err := newHeader(ctx, m, o.Header, extra)
	if err != nil {
		return notDelivered(err)
	}
	if o.ID != "" {
		h[wire.HeaderID] = []string{o.ID}
	}
	if r.calls.replies.Load() == nil {
		return notDelivered(nats.ErrDisconnected)
	}
	a, err := r.castAddress(t, m.Name, h)
	if err != nil {
		return notDelivered(err)
	}
	if a != nil && h == nil {
		return r.bundles.send(a, m.Data)
	}
	// A reconnect buffer would turn "now or not at all" into "later".
	if !r.nc.IsConnected() {
		return notDelivered(nats.ErrDisconnected)
	}
	subject := r.cluster.CallAll(m.Name)
	if a != nil {
		subject = a.subject
	}
	return r.publishCore(subject, r.bundles.reply, h, m.Data)
}

// castAddress returns the address of the node that a message is for; nil is every
// listener, and then it writes into h which of them are meant.
func (r *Router) castAddress(t target, kind string, h nats.Header) (*address, error) {
	view := r.peers.Load()
	switch t.to {
	case toNode:
		p, err := memberFor(view, t.id, kind)
		if err != nil {
			return nil, err
		}
		return p.address(r.cluster, kind), nil
	case toAny:
		handlers, err := view.candidates(kind, t.where)
		if err != nil {
			return nil, err
		}
		return pick(handlers, r.id, nil, r.turn(kind)).address(r.cluster, kind), nil
	case toOthers:
		h[wire.HeaderExcept] = []string{r.id}
	case toNodes:
		for _, id := range t.ids {
			if _, err := memberFor(view, id, kind); err != nil {
				return nil, err
			}
		}
		h[wire.HeaderOnly] = []string{strings.Join(t.ids, ",")}
	}
	if t.where != nil {
		h[wire.HeaderSelect] = []string{t.where.String()}
	}
	return nil, wire.CheckKind(kind)
}

// castsFailed reports messages that were taken and did not leave.
func (r *Router) castsFailed(n int, err error) {
	r.log.Warn("at-most-once messages were not sent", "messages", n, "err", err)
}
