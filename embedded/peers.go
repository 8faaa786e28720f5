package embedded

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Peer is one server of a cluster, as another one knows it.
type Peer struct {
	// Name is the server's name; empty where it has not been seen since this
	// one was started. Then ID says which it is.
	Name string
	// ID is made of the name.
	ID string
	// Leader decides where streams are kept. One server has this office.
	Leader bool
	// Online means that it is connected to this one, which may take a moment when
	// Start has returned.
	Online bool
}

// Peers returns the servers that count in the cluster, sorted by name: those
// that are there, and those that are gone and not yet removed. A cluster can be
// changed while more than half of them are there.
//
// Errors: ErrClosed, ErrNotClustered.
func (s *Server) Peers() ([]Peer, error) {
	if err := s.clustered(); err != nil {
		return nil, err
	}
	return s.inst.peers()
}

// metaGroup is nats-server's name for the servers of a cluster as voters.
const metaGroup = "_meta_"

func (i *instance) peers() ([]Peer, error) {
	// Jsz lists the peers where there is a leader only.
	status := i.srv.Raftz(&server.RaftzOptions{GroupFilter: metaGroup})
	var meta server.RaftzGroup
	if status != nil {
		meta = (*status)[server.DEFAULT_SYSTEM_ACCOUNT][metaGroup]
	}
	if meta.ID == "" {
		return nil, &fault{is: ErrNotReady, text: "the cluster cannot be read: JetStream is not up on this server"}
	}
	online := i.routed()
	peers := []Peer{{Name: i.srv.Name(), ID: meta.ID, Leader: meta.Leader == meta.ID, Online: true}}
	for id, p := range meta.Peers {
		peers = append(peers, Peer{Name: p.Name, ID: id, Leader: meta.Leader == id, Online: online[p.Name]})
	}
	slices.SortFunc(peers, func(a, b Peer) int { return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.ID, b.ID)) })
	return peers, nil
}

// routed are the names of the servers that this one is connected to.
func (i *instance) routed() map[string]bool {
	names := map[string]bool{}
	if routes, err := i.srv.Routez(nil); err == nil {
		for _, r := range routes.Routes {
			names[r.RemoteName] = true
		}
	}
	return names
}

// Remove takes servers out of the cluster that are gone for ever, by name or
// id: until then each of them counts when the others vote. What they kept is
// copied to servers that have room for it, and Remove returns when all copies
// are complete. Until then no other machine may be replaced: what was
// acknowledged may be on one disk only, whatever the servers say of their
// replicas. It is for a lost machine whose place another one has taken; start
// that one first. A server that is connected is not removed: stop it first. One
// that was removed must not come back with its old directory.
//
// When ctx ends before the copies are complete, the servers are removed and the
// copying goes on; Remove without a name waits for it.
//
// It needs more than half of the servers; Rescue is for the case that they are
// gone.
//
// Errors: ErrClosed, ErrNotClustered, ErrPeer with what to do, ErrNotReady
// where there is no leader, or with what is not complete when ctx ends, or
// ctx's.
func (s *Server) Remove(ctx context.Context, lost ...string) error {
	if err := s.clustered(); err != nil {
		return err
	}
	nc, err := s.inst.system(ctx)
	if err != nil {
		return err
	}
	defer nc.Close()
	for _, name := range lost {
		if err := s.remove(ctx, nc, name); err != nil {
			return err
		}
	}
	return s.inst.settled(ctx, nc, allStreams)
}

const (
	subjectRemove = "$JS.API.SERVER.REMOVE"
	subjectRescue = "$JS.API.META.RESCUE"
	// systemWait bounds one request to the leader, which there may be none of.
	systemWait = 2 * time.Second
	// codeInFlight is the answer while another server is being removed.
	codeInFlight = 10202
)

// remove removes one server and waits until this one knows of it.
func (s *Server) remove(ctx context.Context, nc *nats.Conn, name string) error {
	p, err := s.gone(ctx, name)
	if err != nil {
		return err
	}
	// nats-server knows a peer that it has not seen since its start by id only.
	request := map[string]string{"peer": p.Name, "peer_id": p.ID}
	for {
		err := ask(ctx, nc, subjectRemove, request, nil)
		if err == nil {
			break
		}
		if !again(err) {
			return &fault{is: ErrPeer, errs: []error{err}, text: fmt.Sprintf("server %s cannot be removed: %v", name, err)}
		}
		if e := wait(ctx, retryPause); e != nil {
			return notReady(ctx, fmt.Sprintf("server %s cannot be removed: %v: more than half of the servers must be there; Rescue is for when they are lost", name, err))
		}
	}
	for {
		peers, err := s.inst.peers()
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(peers, func(q Peer) bool { return q.ID == p.ID }) {
			return nil
		}
		if wait(ctx, retryPause) != nil {
			return notReady(ctx, fmt.Sprintf("server %s is being removed", name))
		}
	}
}

// gone returns the peer of that name or id, if it may be removed: it was not
// connected for a while. One that was closed just now gets a moment to be seen as
// such, and one whose connection is just replaced by another is not gone.
func (s *Server) gone(ctx context.Context, name string) (Peer, error) {
	var away time.Time
	for begin := time.Now(); ; {
		peers, err := s.inst.peers()
		if err != nil {
			return Peer{}, err
		}
		now := time.Now()
		i := slices.IndexFunc(peers, func(p Peer) bool { return p.named(name) })
		switch {
		case i < 0:
			return Peer{}, &fault{is: ErrPeer, text: fmt.Sprintf("server %s is not in the cluster: Peers lists those that are", name)}
		case !peers[i].Online:
			if away.IsZero() {
				away = now
			}
			if now.Sub(away) >= goneFor {
				return peers[i], nil
			}
		case now.Sub(begin) > goneWait:
			return Peer{}, &fault{is: ErrPeer, text: fmt.Sprintf("server %s is connected: close it first", name)}
		default:
			away = time.Time{}
		}
		if wait(ctx, goneFor/5) != nil {
			return Peer{}, notReady(ctx, fmt.Sprintf("server %s may be connected", name))
		}
	}
}

const (
	// goneWait is how long a closed server may look connected.
	goneWait = time.Second
	// goneFor is how long one that is gone must not be connected.
	goneFor = 500 * time.Millisecond
)

// named tells whether the peer has that name or id. A server knows a peer that
// it has not seen since its start by id only.
func (p Peer) named(name string) bool {
	return name != "" && (p.Name == name || p.ID == name || p.Name == "" && p.ID == peerID(name))
}

// peerID is the id that nats-server makes of a name.
func peerID(name string) string {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	sum := sha256.Sum256([]byte(name))
	id := sum[:8]
	for i, b := range id {
		id[i] = digits[int(b)%len(digits)]
	}
	return string(id)
}

// Rescue makes a cluster work again that has lost half of its servers or more
// for ever: it lowers, for five minutes, the number of servers that must agree to
// those that are there, and removes the lost ones, named by name or id. Every
// server that is not connected must be named. Streams that had most of their
// copies on lost servers stay unavailable: restore them from a backup.
//
// It is for dead machines only. If one of them is alive and cut off, there are
// two clusters of one name afterwards, and what one of them stores is lost.
//
// Errors: those of Remove; ErrPeer where a server is missing that is not named,
// or where there is a leader, so that Remove does.
func (s *Server) Rescue(ctx context.Context, lost ...string) error {
	if err := s.clustered(); err != nil {
		return err
	}
	for _, name := range lost {
		// One that is not in the cluster was removed before; a slip of the pen
		// is seen by the server that is not named.
		if _, err := s.gone(ctx, name); err != nil && !s.unknown(name) {
			return err
		}
	}
	live, _, err := s.census(lost)
	if err != nil {
		return err
	}
	nc, err := s.inst.system(ctx)
	if err != nil {
		return err
	}
	defer nc.Close()
	for {
		err := ask(ctx, nc, subjectRescue, map[string]int{"quorum_needed": live}, nil)
		if err == nil {
			break
		}
		// A leader that lost the others notices after some seconds.
		if e := wait(ctx, retryPause); e != nil {
			return &fault{is: ErrPeer, errs: []error{err, context.Cause(ctx)}, text: fmt.Sprintf("the cluster cannot be rescued: %v", err)}
		}
	}
	for {
		_, dead, err := s.census(lost)
		if err != nil || len(dead) == 0 {
			return err
		}
		if err := s.remove(ctx, nc, dead[0]); err != nil && !s.unknown(dead[0]) {
			return err
		}
	}
}

// unknown tells that no server of the cluster has that name or id.
func (s *Server) unknown(name string) bool {
	peers, err := s.inst.peers()
	return err == nil && !slices.ContainsFunc(peers, func(p Peer) bool { return p.named(name) })
}

// census counts the servers that are there and lists the ids of the others, all
// of whom must be among the lost.
func (s *Server) census(lost []string) (live int, dead []string, err error) {
	peers, err := s.inst.peers()
	if err != nil {
		return 0, nil, err
	}
	for _, p := range peers {
		switch {
		case p.Online:
			live++
		case !slices.ContainsFunc(lost, p.named):
			return 0, nil, &fault{is: ErrPeer, text: fmt.Sprintf("server %s is not connected and not named as lost: start it, or name it if it is gone for ever", cmp.Or(p.Name, p.ID))}
		default:
			dead = append(dead, p.ID)
		}
	}
	return live, dead, nil
}

// clustered returns an error where there is no cluster to rule.
func (s *Server) clustered() error {
	switch {
	case s.life.Err() != nil:
		return ErrClosed
	case s.inst == nil || s.inst.logins.system.user == "":
		return ErrNotClustered
	}
	return nil
}

// system connects to the account that rules the cluster.
func (i *instance) system(ctx context.Context) (*nats.Conn, error) {
	nc, err := nats.Connect("", nats.InProcessServer(i.srv), nats.UserInfo(i.logins.system.user, i.logins.system.password),
		nats.Name("catga embedded"))
	if err != nil {
		return nil, &fault{is: ErrFailed, errs: []error{err, ctx.Err()}, text: "no connection to the system account: " + err.Error()}
	}
	return nc, nil
}

// apiError is what JetStream answers when it refuses.
type apiError struct {
	Code        int    `json:"code"`
	ErrCode     int    `json:"err_code"`
	Description string `json:"description"`
}

func (e *apiError) Error() string { return fmt.Sprintf("%s (%d)", e.Description, e.ErrCode) }

// ask makes one request to the JetStream API and decodes the answer.
func ask(ctx context.Context, nc *nats.Conn, subject string, request, answer any) error {
	var body []byte
	if request != nil { // some requests must be empty
		var err error
		if body, err = json.Marshal(request); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, systemWait)
	defer cancel()
	msg, err := nc.RequestWithContext(ctx, subject, body)
	if err != nil {
		return err
	}
	return decode(msg.Data, answer)
}

func decode(data []byte, answer any) error {
	var refused struct {
		Error *apiError `json:"error"`
	}
	if err := json.Unmarshal(data, &refused); err != nil {
		return err
	}
	if refused.Error != nil {
		return refused.Error
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(data, answer)
}

// again tells whether a request may be answered later.
func again(err error) bool {
	if api, ok := errors.AsType[*apiError](err); ok {
		return api.ErrCode == codeInFlight || api.Code == codeUnavailable
	}
	return errors.Is(err, nats.ErrNoResponders) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout)
}

const (
	codeUnavailable = 503
	retryPause      = 50 * time.Millisecond
)

// wait waits for d, or returns ctx's error.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
