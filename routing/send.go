package routing

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/wire"
)

// sendTimeout bounds a verb whose ctx has no deadline.
const sendTimeout = 30 * time.Second

// SendOptions are the options of one Send.
type SendOptions struct {
	// ID is the caller's id of the message, scoped to kind and target and not
	// to the sender: a repeat within Config.DedupWindow is ErrDuplicate. Empty
	// is a generated one.
	ID string
	// AtMostOnce sends the message now or not at all, without storing it.
	AtMostOnce bool
	// At is when the message is to be delivered; the zero time, or one that is
	// over, is now. See Router.Cancel.
	At time.Time
	// Header is added to the message. Names that begin with Nats- or Catga- are
	// refused.
	Header nats.Header
}

// Send gives a message to the cluster. Nil means that it is stored: it will be
// handled at least once by its target, or become a dead letter, whatever
// happens to this node. It is tried with the same id through elections and
// server restarts until ctx ends, or for 30 s where ctx has no deadline.
//
// Errors: ErrNotDelivered, which wraps ErrNoMember (the node was never seen, or
// left), ErrNoHandler (the node, or for Any nobody ever, handles the kind),
// ErrTooLarge, ErrNotJoined, ErrClosed, or what ended ctx; ErrUnknown, where the
// server's word was not seen: repeating with the same id is safe; ErrDuplicate
// for a caller's id that is stored already. Mail to a node that was lost is
// stored, and goes by the node's Mail policy: as a rule it waits for its return.
//
// Any with a selector is one of the members that handle the kind and that the
// selector chooses, in turn; the message is mail to that node from then on.
// Should the node be lost or leave, it goes to another one that the selector
// chooses; where there is none it waits until the node is forgotten, and then is
// a dead letter. Where no member is chosen it is ErrNoMember. A selector of All and Others is judged by each
// receiver when the message reaches it, by the metadata that it has then.
//
// All and Others reach every node that handles the kind and whose fan-out
// consumer was there when the message was stored: every member, and those that
// are about to join.
func (r *Router) Send(ctx context.Context, to Target, m Raw, o SendOptions) error {
	if o.AtMostOnce {
		return r.cast(ctx, to, m, o)
	}
	msg, err := r.prepared(ctx, to, m, o)
	if err != nil {
		return notDelivered(err)
	}
	s, err := r.store(ctx, msg)
	return sent(s, err, o)
}

// prepared makes the message to store, or says why nothing is to be stored.
func (r *Router) prepared(ctx context.Context, to Target, m Raw, o SendOptions) (*nats.Msg, error) {
	if err := r.admits(ctx); err != nil {
		return nil, err
	}
	if to == nil {
		return nil, errNoTarget
	}
	if ctx.Err() != nil {
		return nil, ctxReason(ctx)
	}
	if err := checkCallerID(o.ID); err != nil {
		return nil, err
	}
	if err := wire.CheckKind(m.Name); err != nil {
		return nil, err
	}
	t, err := r.aim(ctx, to.target(), m.Name)
	if err != nil {
		return nil, err
	}
	msg, err := r.envelope(ctx, t, m, o)
	if err != nil {
		return nil, err
	}
	if o.delayed() {
		if err := r.delay(msg, t, m.Name, o); err != nil {
			return nil, err
		}
	}
	if most := r.nc.MaxPayload() - deadRoom; most > deadRoom && int64(msg.Size()) > most {
		return nil, fmt.Errorf("%w: %d bytes, %d at most", ErrTooLarge, msg.Size(), most)
	}
	return msg, nil
}

// sent is what the sender is told of a message that was stored or not.
func sent(s stored, err error, o SendOptions) error {
	if err != nil {
		return delayError(err, o)
	}
	if s.duplicate && o.ID != "" && !s.repeated {
		return ErrDuplicate
	}
	return nil
}

// aim refuses what nobody would handle, and chooses the node of a message to
// any that a selector chooses.
func (r *Router) aim(ctx context.Context, t target, kind string) (target, error) {
	view := r.peers.Load()
	if err := t.where.problem(); err != nil {
		return t, err
	}
	switch t.to {
	case toNode:
		return t, r.checkMailbox(view, t.id, kind)
	case toNodes:
		if len(t.ids) == 0 {
			return t, fmt.Errorf("%w: no node is named", ErrNoMember)
		}
		for _, id := range t.ids {
			if err := r.checkMailbox(view, id, kind); err != nil {
				return t, err
			}
		}
	case toAny:
		if t.where == nil {
			return t, r.checkHandled(ctx, view, kind)
		}
		handlers, err := view.candidates(kind, t.where)
		if err != nil {
			return t, err
		}
		// Stored work is everybody's, the sender's own node included.
		t.id = pick(handlers, "", nil, r.turn(kind)).ID
	}
	return t, nil
}

// checkMailbox refuses mail to a node that is not there and will not be back,
// or that does not handle the kind.
func (r *Router) checkMailbox(view *peers, id, kind string) error {
	p := view.byID[id]
	if p == nil && id == r.id && !r.observes() {
		if r.kinds[kind] != nil {
			return nil // this node, in the moment before it sees itself
		}
		return fmt.Errorf("node %s: %w", id, noHandler(kind))
	}
	if p == nil || p.lost {
		// Mail to one that was lost waits for it, as long as it is remembered.
		gone, ok := r.lostPeer(p, id)
		if !ok {
			return fmt.Errorf("%w: %.100q", ErrNoMember, id)
		}
		p = &peer{Peer: gone}
	}
	if !p.handles(kind) {
		return fmt.Errorf("node %s: %w", id, noHandler(kind))
	}
	return nil
}

// lostPeer is a node that was lost and is remembered; p is what this router was
// told of it, nil for nothing.
func (r *Router) lostPeer(p *peer, id string) (Peer, bool) {
	if r.cfg.Standing == nil {
		if p == nil {
			return Peer{}, false
		}
		return p.Peer, true
	}
	gone, standing := r.cfg.Standing(id)
	switch {
	case standing == Forgotten || gone.Left:
		return Peer{}, false
	case p != nil && gone.ID == "":
		return p.Peer, true // the view is behind
	}
	return gone, gone.ID != ""
}

// checkHandled refuses work of a kind that nobody ever handled. Who handles it
// makes its consumer, which stays when they are gone: work then waits for them.
func (r *Router) checkHandled(ctx context.Context, view *peers, kind string) error {
	if len(view.handlers[kind]) > 0 || r.kinds[kind] != nil && !r.observes() {
		return nil
	}
	if _, ok := r.handled.Load(kind); ok {
		return nil
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	err := r.api(ctx, "$JS.API.CONSUMER.INFO."+r.cluster.WorkStream()+"."+wire.WorkConsumer(kind), func(ctx context.Context) error {
		_, err := r.consumerInfo(ctx, r.cluster.WorkStream(), wire.WorkConsumer(kind))
		return err
	})
	switch {
	case err == nil:
		r.handled.Store(kind, struct{}{})
		return nil
	case isNotFound(err):
		return noHandler(kind)
	}
	return err
}

// envelope makes the message to store.
func (r *Router) envelope(ctx context.Context, t target, m Raw, o SendOptions) (*nats.Msg, error) {
	h, err := newHeader(ctx, m, o.Header, 5)
	if err != nil {
		return nil, err
	}
	msg := &nats.Msg{Subject: r.subject(t, m.Name), Header: h, Data: m.Data}
	switch t.to {
	case toOthers:
		h[wire.HeaderExcept] = []string{r.id}
	case toNodes:
		h[wire.HeaderOnly] = []string{strings.Join(t.ids, ",")}
	}
	if t.where != nil {
		h[wire.HeaderSelect] = []string{t.where.String()}
	}
	if o.ID == "" {
		h[wire.HeaderMsgID] = []string{r.ids.next()}
	} else {
		h[wire.HeaderMsgID] = []string{scopedID(t.scope(), m.Name, o.ID)}
		h[wire.HeaderID] = []string{o.ID}
		h[wire.HeaderFrom] = []string{r.id}
	}
	return msg, nil
}

// subject is where a durable message to t is stored.
func (r *Router) subject(t target, kind string) string {
	switch {
	case t.id != "": // toNode, and toAny with a selector
		return r.cluster.NodeMail(t.id, kind)
	case t.to == toAny:
		return r.cluster.Work(kind)
	default:
		return r.cluster.All(kind)
	}
}

// scope tells the targets apart in what the server knows a caller's id by.
// Others is one scope for all senders: a handler that runs again elsewhere and
// repeats its sends is the same sender to its caller.
func (t target) scope() string {
	where := ""
	if t.where != nil {
		where = "." + t.where.scope()
	}
	switch t.to {
	case toNode:
		return "node." + t.id
	case toAny:
		return "work" + where
	case toAll:
		return "all" + where
	case toOthers:
		return "others" + where
	default:
		sum := sha256.Sum256([]byte(strings.Join(t.ids, ",")))
		return "nodes." + hex.EncodeToString(sum[:8])
	}
}
