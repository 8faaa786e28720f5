package kvregistry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/provision"
	"github.com/catga/catga-go/internal/wire"
)

const (
	// pingLimit is how long the answer to a probe may take.
	pingLimit = time.Second
	// controlAfter is when a prober that waits begins to doubt its own path,
	// and probes itself through its server.
	controlAfter = 300 * time.Millisecond
	// lateAnswer is for how long an answer still shows that somebody lives, from
	// the question on: every round of a suspicion is open until its verdict.
	lateAnswer = hungAfter + 2*time.Second
	// overrun is how much longer a probe may have taken than its limit; beyond
	// that this process itself was stopped.
	overrun = 500 * time.Millisecond
)

// ping is the question on catga.<cluster>.ping.<id>.<incarnation>, as JSON.
type ping struct {
	Version int    `json:"v"`
	From    string `json:"from,omitempty"`
	// Revision is that of the sender's view: who is behind catches up.
	Revision uint64 `json:"rev,omitempty"`
	// Size is the number of members that the sender sees: who keeps no view
	// learns from it how often to beat.
	Size int `json:"size,omitempty"`
}

// pong is the answer to a ping, as JSON.
type pong struct {
	Version     int    `json:"v"`
	ID          string `json:"id"`
	Incarnation uint64 `json:"inc"`
	// Revision is absent when the node keeps no view.
	Revision uint64 `json:"rev,omitempty"`
	// Server is the id of the NATS server that the node is connected to, and
	// Addr where that server listens.
	Server string `json:"server,omitempty"`
	Addr   string `json:"addr,omitempty"`
	// Embedded means that this server runs in the node's own process.
	Embedded bool `json:"embedded,omitempty"`
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
// of an alive one, when it can be read. One that comes too late goes to late,
// if that is not nil.
func (s *session) probe(ctx context.Context, l life, late func(pong)) (answer, pong) {
	begin, epoch := time.Now(), s.nc.Stats().Reconnects
	if !s.nc.IsConnected() {
		return void, pong{}
	}
	data, err := json.Marshal(ping{Version: wire.Version, From: s.cfg.Node, Revision: s.hub.revision.Load(), Size: int(s.size.Load())})
	if err != nil {
		return void, pong{}
	}
	limited, cancel := s.store.bounded(ctx, pingLimit)
	defer cancel()
	worked := make(chan bool, 1)
	control := time.AfterFunc(controlAfter, func() { worked <- s.pathWorks(limited) })
	msg, err := s.question(ctx, limited, s.cluster.Ping(l.id, l.incarnation), data, late)
	path := true
	if !control.Stop() {
		path = <-worked
	}
	switch {
	case err == nil:
		p, _ := decodePong(msg.Data)
		return alive, p
	case s.nc.Stats().Reconnects != epoch || !s.nc.IsConnected():
		return void, pong{}
	case errors.Is(err, nats.ErrNoResponders):
		return nobody, pong{}
	case !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) > pingLimit+overrun:
		return void, pong{}
	case path && provision.PublishDenied(s.nc, s.cluster.Ping(l.id, l.incarnation)) == nil:
		return silence, pong{}
	}
	return muffled, pong{}
}

// question is a request that ends with limited. An answer after that goes to
// late, if that is not nil, for as long as it shows something.
func (s *session) question(ctx, limited context.Context, subject string, data []byte, late func(pong)) (*nats.Msg, error) {
	if late == nil {
		return s.nc.RequestWithContext(limited, subject, data)
	}
	type end struct {
		msg *nats.Msg
		err error
	}
	ended := make(chan end)
	ctx, cancel := s.store.bounded(ctx, lateAnswer)
	s.wg.Go(func() {
		defer cancel()
		msg, err := s.nc.RequestWithContext(ctx, subject, data)
		select {
		case ended <- end{msg, err}:
		case <-limited.Done(): // nobody waits any more
			if err == nil {
				p, _ := decodePong(msg.Data)
				late(p)
			}
		}
	})
	select {
	case e := <-ended:
		return e.msg, e.err
	case <-limited.Done():
	}
	return nil, limited.Err()
}

// pathWorks tells whether a message from this node reaches a listener of this
// very node through its server and back.
func (s *session) pathWorks(ctx context.Context) bool {
	if s.own == nil {
		return true
	}
	self := s.own.self.Load()
	if self == nil {
		return true // joining: there is no own probe subject yet
	}
	_, err := s.nc.RequestWithContext(ctx, s.cluster.Ping(self.ID, self.Incarnation), nil)
	return err == nil
}

// maxHeld bounds the probes that wait for the end of a claim.
const maxHeld = 256

// responder answers probes of this node. While a claim is on its way its
// incarnation is not known: probes wait for the claim's end, a few
// milliseconds. Its subscriptions are handled by one goroutine, the
// presence's.
type responder struct {
	s *session

	any    *nats.Subscription // every incarnation, during a claim
	exact  *nats.Subscription // this incarnation
	on     *nats.Subscription // as one of those that speak for a server
	server string             // that server

	mu       sync.Mutex
	claiming bool
	life     life
	held     []*nats.Msg
	// askers are who probed this node latest, the latest last: its watchers.
	askers []string
}

// maxAskers is how many are kept: the watchers, and some that wondered once.
const maxAskers = 2 * watchersPerMember

// askedBy notes who has sent a probe.
func (r *responder) askedBy(id string) {
	if wire.CheckNode(id) != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.askers = append(slices.DeleteFunc(r.askers, func(a string) bool { return a == id }), id)
	if len(r.askers) > maxAskers {
		r.askers = slices.Delete(r.askers, 0, 1)
	}
}

// tellWatchers makes those who watch this node probe it, so that they hear of
// its new tripwire now.
func (r *responder) tellWatchers(l life) {
	data, err := json.Marshal(question{Version: wire.Version, ID: l.id, Incarnation: l.incarnation})
	if err != nil {
		return
	}
	r.mu.Lock()
	askers := slices.Clone(r.askers)
	r.mu.Unlock()
	for _, id := range askers {
		if err := r.s.nc.Publish(r.s.cluster.Ask(id), data); err != nil {
			r.s.log.Debug("a watcher was not told of the tripwire", "watcher", id, "err", err)
		}
	}
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
	return r.hearItself(ctx, id)
}

// hearItself probes the life that is about to be claimed: nobody takes a name
// under which it could not be asked, or could not answer.
func (r *responder) hearItself(ctx context.Context, id string) error {
	subject := r.s.cluster.Ping(id, 0)
	return r.s.persist(ctx, func(ctx context.Context) error {
		err := provision.Guard(ctx, r.s.nc, subject, func(ctx context.Context) error {
			_, err := r.s.nc.RequestWithContext(ctx, subject, nil)
			return err
		})
		if err == nil {
			return nil
		}
		if denied := provision.SubscribeDenied(r.s.nc, r.any.Subject); denied != nil {
			err = denied
		} else if last := r.s.nc.LastError(); errors.Is(last, nats.ErrPermissionViolation) && !errors.Is(err, ErrDenied) {
			err = fmt.Errorf("%w: this user may not answer a probe: grant it allow_responses (%w)", ErrDenied, last)
		}
		return fmt.Errorf("kvregistry: %w", err)
	})
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

// speak answers for the NATS server that this node is connected to now.
func (r *responder) speak(ctx context.Context) error {
	server := r.s.nc.ConnectedServerId()
	if server == "" || server == r.server {
		return nil
	}
	if r.on != nil {
		_ = r.on.Unsubscribe()
		r.on = nil
	}
	sub, err := r.s.subscribeQueue(r.s.cluster.On(server), "on", func(msg *nats.Msg) {
		// A reconnect takes the subscription along to another server, and a store
		// that is away may hold up this node for long before it ends it.
		if r.s.nc.ConnectedServerId() == server {
			_ = msg.Respond(nil)
		}
	})
	if err != nil {
		return fmt.Errorf("kvregistry: %w", err)
	}
	r.on, r.server = sub, server
	if err := r.s.flush(ctx); err != nil {
		return err
	}
	if err := provision.SubscribeDenied(r.s.nc, sub.Subject); err != nil {
		return fmt.Errorf("kvregistry: %w", err)
	}
	return nil
}

func (r *responder) handle(msg *nats.Msg) {
	r.mu.Lock()
	l := r.life
	if r.claiming && msg.Subject == r.s.cluster.Ping(l.id, 0) {
		r.mu.Unlock()
		_ = msg.Respond(nil) // who asked is this very process
		return
	}
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
		Version: wire.Version, ID: l.id, Incarnation: l.incarnation, Revision: r.s.hub.revision.Load(),
		Server: r.s.nc.ConnectedServerId(), Addr: r.s.nc.ConnectedAddr(), Embedded: embedded(r.s.nc), Tripwire: r.s.own.trip.armed(),
	}
	data, err := json.Marshal(p)
	if err != nil {
		return
	}
	if err := msg.Respond(data); err != nil {
		r.s.log.Debug("ping not answered", "err", err)
	}
	r.askedBy(question.From)
	r.s.heard(question)
}
