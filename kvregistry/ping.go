package kvregistry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/catga/catga-go/internal/wire"
	"github.com/nats-io/nats.go"
)

// pingLimit is how long the answer to a probe may take.
const pingLimit = time.Second

// ping is the question on catga.<cluster>.ping.<id>.<incarnation>, as JSON.
type ping struct {
	Version int    `json:"v"`
	From    string `json:"from,omitempty"`
	// Revision is that of the sender's view: who is behind catches up.
	Revision uint64 `json:"rev,omitempty"`
}

// pong is the answer to a ping, as JSON.
type pong struct {
	Version     int    `json:"v"`
	ID          string `json:"id"`
	Incarnation uint64 `json:"inc"`
	Revision    uint64 `json:"rev,omitempty"`
	// Server is the id of the NATS server that the node is connected to, and
	// Addr where that server listens.
	Server string `json:"server,omitempty"`
	Addr   string `json:"addr,omitempty"`
	// Tripwire is the name of the consumer that goes when the node goes.
	Tripwire string `json:"tripwire,omitempty"`
}

func decodePing(data []byte) (ping, error) {
	var p ping
	if len(data) == 0 {
		// A question by hand, with `nats request`.
		return ping{Version: wire.Version}, nil
	}
	if err := json.Unmarshal(data, &p); err != nil {
		return ping{}, fmt.Errorf("ping: %w", err)
	}
	if p.Version < 1 {
		return ping{}, fmt.Errorf("ping: wire version %d", p.Version)
	}
	return p, nil
}

func decodePong(data []byte) (pong, error) {
	var p pong
	if err := json.Unmarshal(data, &p); err != nil {
		return pong{}, fmt.Errorf("pong: %w", err)
	}
	if p.Version < 1 {
		return pong{}, fmt.Errorf("pong: wire version %d", p.Version)
	}
	if err := wire.CheckNode(p.ID); err != nil {
		return pong{}, fmt.Errorf("pong: %w", err)
	}
	return p, nil
}

// probe asks whether incarnation l of a node is there. It returns the answer
// of an alive one, when it can be read.
func (s *session) probe(ctx context.Context, l life) (answer, pong) {
	before := s.nc.Stats().Reconnects
	if !s.nc.IsConnected() {
		return void, pong{}
	}
	question, err := json.Marshal(ping{Version: wire.Version, From: s.cfg.Node, Revision: s.hub.view.Load().Revision})
	if err != nil {
		return void, pong{}
	}
	limited, cancel := s.store.bounded(ctx, pingLimit)
	defer cancel()
	msg, err := s.nc.RequestWithContext(limited, s.cluster.Ping(l.id, l.incarnation), question)
	switch {
	case err == nil:
		p, _ := decodePong(msg.Data)
		return alive, p
	case s.nc.Stats().Reconnects != before || !s.nc.IsConnected() || ctx.Err() != nil:
		return void, pong{}
	case errors.Is(err, nats.ErrNoResponders):
		return nobody, pong{}
	case errors.Is(err, context.DeadlineExceeded):
		return silence, pong{}
	}
	return void, pong{}
}

// maxHeld bounds the probes that wait for the end of a claim.
const maxHeld = 256

// responder answers probes of this node. While a claim is on its way its
// incarnation is not known: probes wait for the claim's end, a few
// milliseconds. Its subscriptions are handled by one goroutine, the
// presence's.
type responder struct {
	s *session

	any   *nats.Subscription // every incarnation, during a claim
	exact *nats.Subscription // this incarnation

	mu       sync.Mutex
	claiming bool
	life     life
	held     []*nats.Msg
}

func newResponder(s *session) *responder { return &responder{s: s} }

// await listens for probes of any incarnation of node id. When it returns, the
// server knows.
func (r *responder) await(ctx context.Context, id string) error {
	r.mu.Lock()
	r.claiming, r.life = true, life{id: id}
	r.mu.Unlock()
	if r.any == nil {
		sub, err := r.s.subscribe(r.s.cluster.PingAny(id), r.handle)
		if err != nil {
			return err
		}
		r.any = sub
	}
	return r.s.flush(ctx)
}

// settle listens for probes of l only, and answers those that came during the claim.
func (r *responder) settle(ctx context.Context, l life) error {
	sub, err := r.s.subscribe(r.s.cluster.Ping(l.id, l.incarnation), r.handle)
	if err != nil {
		return err
	}
	if r.exact != nil {
		_ = r.exact.Unsubscribe()
	}
	r.exact = sub
	r.mu.Lock()
	held := r.held
	r.claiming, r.life, r.held = false, l, nil
	r.mu.Unlock()
	for _, msg := range held {
		r.handle(msg)
	}
	err = r.s.flush(ctx)
	if r.any != nil {
		_ = r.any.Unsubscribe()
		r.any = nil
	}
	return err
}

// stop answers no more: from now on the server knows of no listener.
func (r *responder) stop() {
	r.mu.Lock()
	r.claiming, r.life, r.held = false, life{}, nil
	r.mu.Unlock()
	for _, sub := range []*nats.Subscription{r.any, r.exact} {
		if sub != nil {
			_ = sub.Unsubscribe()
		}
	}
	r.any, r.exact = nil, nil
}

func (r *responder) handle(msg *nats.Msg) {
	r.mu.Lock()
	l := r.life
	if r.claiming {
		if len(r.held) < maxHeld {
			r.held = append(r.held, msg)
		}
		r.mu.Unlock()
		return
	}
	r.mu.Unlock()
	if l.id == "" || msg.Subject != r.s.cluster.Ping(l.id, l.incarnation) {
		return
	}
	question, err := decodePing(msg.Data)
	if err != nil {
		r.s.log.Debug("a ping that cannot be read", "err", err)
	}
	p := pong{
		Version: wire.Version, ID: l.id, Incarnation: l.incarnation, Revision: r.s.hub.view.Load().Revision,
		Server: r.s.nc.ConnectedServerId(), Addr: r.s.nc.ConnectedAddr(), Tripwire: r.s.own.trip.armed(),
	}
	data, err := json.Marshal(p)
	if err != nil {
		return
	}
	if err := msg.Respond(data); err != nil {
		r.s.log.Debug("ping not answered", "err", err)
	}
	r.s.heard(question.Revision)
}
