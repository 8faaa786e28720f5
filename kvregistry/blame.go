package kvregistry

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/wire"
)

const (
	// askLimit is how long a second opinion may take, and askedLimit how long
	// the one who is asked probes.
	askLimit   = 900 * time.Millisecond
	askedLimit = 600 * time.Millisecond
	// blameLimit is how long a NATS server may take to prove that it lives.
	blameLimit = 900 * time.Millisecond
	// maxInfo bounds what is read of a server's greeting.
	maxInfo = 64 << 10
)

// question asks a member for its opinion on another one, as JSON on
// catga.<cluster>.ask.<id>.
type question struct {
	Version     int    `json:"v"`
	ID          string `json:"id"`
	Incarnation uint64 `json:"inc"`
}

// reply is that opinion.
type reply struct {
	Version int  `json:"v"`
	Alive   bool `json:"alive"`
}

func decodeQuestion(data []byte) (question, error) {
	var q question
	if err := json.Unmarshal(data, &q); err != nil {
		return question{}, fmt.Errorf("question: %w", err)
	}
	if q.Version < 1 {
		return question{}, fmt.Errorf("question: wire version %d", q.Version)
	}
	if err := wire.CheckNode(q.ID); err != nil {
		return question{}, fmt.Errorf("question: %w", err)
	}
	return q, nil
}

func decodeReply(data []byte) (reply, error) {
	var r reply
	if err := json.Unmarshal(data, &r); err != nil {
		return reply{}, fmt.Errorf("reply: %w", err)
	}
	if r.Version < 1 {
		return reply{}, fmt.Errorf("reply: wire version %d", r.Version)
	}
	return r, nil
}

// onAsk answers with what a probe of this node's own finds.
func (s *session) onAsk(msg *nats.Msg) {
	q, err := decodeQuestion(msg.Data)
	if err != nil {
		s.log.Debug("a question that cannot be read", "err", err)
		return
	}
	s.work(func(ctx context.Context) func() {
		ctx, cancel := context.WithTimeout(ctx, askedLimit)
		defer cancel()
		l := life{q.ID, q.Incarnation}
		found, p := s.probe(ctx, l, nil)
		if msg.Reply == "" {
			// Asked by l itself, which has something new to tell.
			if found != alive {
				return nil
			}
			return func() { s.toldBy(l, p) }
		}
		if found == void && ctx.Err() == nil {
			return nil // knows nothing
		}
		data, err := json.Marshal(reply{Version: wire.Version, Alive: found == alive})
		if err != nil {
			return nil
		}
		if err := msg.Respond(data); err != nil {
			s.log.Debug("question not answered", "err", err)
		}
		return nil
	})
}

// toldBy takes a pong that l wanted this node to have.
func (s *session) toldBy(l life, p pong) {
	if e := s.table.entries[l.id]; e != nil && e.rec.State != Offline && e.rec.Incarnation == l.incarnation {
		s.answeredBy(l, p, time.Now())
	}
}

// second returns another member whose opinion on l is worth asking for, one of
// its watchers; a different one each time. There is none in a cluster of two.
// Whoever is connected to a third server goes first: between the servers of this
// node and of l the line may be dead, which all of the two see alike.
func (s *session) second(l life) string {
	own, its := s.nc.ConnectedServerId(), s.pongs[l].Server
	var others [3][]string // by how little their servers have to do with those two
	for _, id := range s.ring.watchers(l.id, 2*watchersPerMember) {
		if id == s.cfg.Node || id == l.id {
			continue
		}
		var server string
		if e := s.table.entries[id]; e != nil {
			server = s.pongs[life{id, e.rec.Incarnation}].Server
		}
		n := nearness(server, own, its)
		others[n] = append(others[n], id)
	}
	for _, some := range others {
		if len(some) > 0 {
			return some[rand.N(len(some))]
		}
	}
	return ""
}

// nearness tells how much the server of a member has to do with that of the
// watcher, own, and of the suspect, its: 0 is nothing, 2 that it is the watcher's.
func nearness(server, own, its string) int {
	switch server {
	case "", its:
		return 1
	case own:
		return 2
	}
	return 0
}

// ask asks member other whether l answers it.
func (s *session) ask(ctx context.Context, other string, l life) opinion {
	data, err := json.Marshal(question{Version: wire.Version, ID: l.id, Incarnation: l.incarnation})
	if err != nil {
		return unheard
	}
	ctx, cancel := s.store.bounded(ctx, askLimit)
	defer cancel()
	msg, err := s.nc.RequestWithContext(ctx, s.cluster.Ask(other), data)
	if err != nil {
		return unheard
	}
	r, err := decodeReply(msg.Data)
	switch {
	case err != nil:
		return unheard
	case r.Alive:
		return refuted
	}
	return confirmed
}

// embedded tells whether the NATS server of a connection runs in this process.
func embedded(nc *nats.Conn) bool { return nc.Opts.InProcessServer != nil }

// blame tells whether the NATS server that l was connected to is dead, by its
// last pong, or by its beat when this node never had a pong. A node whose
// server runs in its own process dies with it and has no server to blame; nor
// has one that has neither. When nobody can say, the server is to blame.
func (s *session) blame(ctx context.Context, l life, p pong) (dead bool) {
	if p.Server == "" {
		b, err := s.store.beatOf(ctx, l.id)
		if err != nil {
			return true
		}
		p.Server, p.Addr, p.Embedded = b.Server, b.Addr, b.Embedded
	}
	if p.Server == "" || p.Embedded || p.Server == s.nc.ConnectedServerId() {
		return false
	}
	ctx, cancel := s.store.bounded(ctx, blameLimit)
	defer cancel()
	// Somebody else on that server speaks for it; so does the server itself.
	// Both are asked at the same time: a server that hangs answers neither.
	dialled := make(chan bool, 1)
	go func() { dialled <- greets(ctx, p.Addr, p.Server) }()
	_, err := s.nc.RequestWithContext(ctx, s.cluster.On(p.Server), nil)
	if err == nil {
		cancel()
		<-dialled
		return false
	}
	return !<-dialled
}

// greets tells whether the NATS server with that id listens at addr.
func greets(ctx context.Context, addr, id string) bool {
	if addr == "" {
		return false
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	// The end of ctx ends the read.
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })()
	line, err := bufio.NewReader(io.LimitReader(conn, maxInfo)).ReadString('\n')
	if err != nil {
		return false
	}
	found, err := decodeGreeting(line)
	return err == nil && found == id
}

// decodeGreeting reads the id of a NATS server from its first line.
func decodeGreeting(line string) (id string, err error) {
	const prefix = "INFO "
	if len(line) < len(prefix) || line[:len(prefix)] != prefix {
		return "", errors.New("not the greeting of a NATS server")
	}
	var info struct {
		ID string `json:"server_id"`
	}
	if err := json.Unmarshal([]byte(line[len(prefix):]), &info); err != nil {
		return "", fmt.Errorf("greeting of a NATS server: %w", err)
	}
	return info.ID, nil
}
