package routing

import (
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/wire"
)

// gathering is one Gather that waits: the nodes that were asked, and what has
// arrived of them. Each node answers once: a second answer, and one of anybody
// else, is dropped, and so is a second word that it is not there. So there is room
// for every answer, and the inbox never blocks.
//
// Shape of a reply subject: that of a call, then "-" and the number of the node;
// or "=", where one request went to all of them: each answer has a reply subject
// that says whose it is. Ten answers on one subject cost the server less than
// each on its own, which it has never seen.
type gathering struct {
	number  uint64
	subject string  // of its answers, up to the mark
	nodes   []*peer // sorted by id
	answers chan gathered
	asked   time.Time

	toAll bool // by one request; then a word about one node is that it is not there

	mu     sync.Mutex
	heard  []bool // by node
	absent []bool // by node: it was heard that it is not there
	none   bool   // it was heard that nobody is there
}

// gathered is what has arrived for a gathering.
type gathered struct {
	node int       // or everybody
	msg  *nats.Msg // nil says that the node is not there
}

const (
	// everybody stands for all nodes: the server says that nobody is there.
	everybody = -1
	// gatherMark is between the number of a gathering and that of a node. Numbers
	// have neither it nor wire.AnswerMark.
	gatherMark = '-'
)

// gather registers a gathering. Every gather is followed by one endGather.
func (r *replies) gather(nodes []*peer, toAll bool) *gathering {
	number := r.calls.Add(1)
	g := &gathering{
		number:  number,
		subject: r.subject(number),
		nodes:   nodes,
		toAll:   toAll,
		answers: make(chan gathered, 2*len(nodes)+1),
		heard:   make([]bool, len(nodes)),
		absent:  make([]bool, len(nodes)),
		asked:   time.Now(),
	}
	s := r.shard(number)
	s.mu.Lock()
	s.gatherings[number] = g
	s.mu.Unlock()
	return g
}

// endGather ends a gathering, whatever has arrived.
func (r *replies) endGather(g *gathering) {
	s := r.shard(g.number)
	s.mu.Lock()
	delete(s.gatherings, g.number)
	s.mu.Unlock()
}

// deliverGathered hands an answer to the gathering that waits for it; its reply
// subject had number and node around the mark.
func (r *replies) deliverGathered(number string, mark byte, node string, m *nats.Msg) {
	n, ok := parseNumber(number)
	if !ok {
		return
	}
	s := r.shard(n)
	s.mu.Lock()
	g := s.gatherings[n]
	s.mu.Unlock()
	if g == nil {
		return
	}
	switch {
	case mark == gatherMark && g.toAll:
		if isNoResponders(m) {
			g.miss(g.numbered(node))
		}
	case mark == gatherMark:
		g.put(g.numbered(node), m)
	case node != "": // nobody's
	case isNoResponders(m):
		g.put(everybody, m)
	default:
		if id, ok := wire.CasterOf(m.Reply); ok {
			g.put(g.named(id), m)
		}
	}
}

// nobody stands for none of the nodes.
const nobody = -2

// put takes an answer of a node, of everybody or of nobody.
func (g *gathering) put(i int, m *nats.Msg) {
	if i == nobody {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	heard := &g.none
	if i != everybody {
		heard = &g.heard[i]
	}
	if !*heard {
		*heard = true
		g.answers <- gathered{node: i, msg: m}
	}
}

// miss takes the word that a node is not there. It may have answered before.
func (g *gathering) miss(i int) {
	if i == nobody {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.absent[i] {
		g.absent[i] = true
		g.answers <- gathered{node: i}
	}
}

// numbered returns the node whose number that is, or nobody.
func (g *gathering) numbered(text string) int {
	n, err := strconv.ParseUint(text, numberBase, 31)
	if err != nil || n >= uint64(len(g.nodes)) {
		return nobody
	}
	return int(n)
}

// named returns the node with that id, or nobody.
func (g *gathering) named(id string) int {
	i, ok := slices.BinarySearchFunc(g.nodes, id, func(p *peer, id string) int { return strings.Compare(p.ID, id) })
	if !ok {
		return nobody
	}
	return i
}

// reply is the reply subject of the request to one node.
func (g *gathering) reply(node int) string {
	b := make([]byte, 0, len(g.subject)+5)
	b = append(append(b, g.subject...), gatherMark)
	return string(strconv.AppendInt(b, int64(node), numberBase))
}

// replyOfAll is the reply subject of one request to all nodes.
func (g *gathering) replyOfAll() string { return g.subject + string(wire.AnswerMark) }
