package routing

import (
	"strconv"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/wire"
)

// gathering is one Gather that waits: the nodes that were asked, and what has
// arrived of them. Each node answers once: a second answer, and one of anybody
// else, is dropped. So there is room for every answer, and the inbox never
// blocks.
//
// Shape of a reply subject: that of a call, then "-" and the number of the node;
// or "-" alone where one request went to all of them: then the answer tells its
// node in a header.
type gathering struct {
	number  uint64
	prefix  string // of the reply subjects, with the "-"
	nodes   []*peer
	answers chan gathered

	mu    sync.Mutex
	heard []bool // by node
	none  bool   // it was heard that nobody is there
}

// gathered is what has arrived for a gathering.
type gathered struct {
	node int // or everybody
	msg  *nats.Msg
}

const (
	// everybody stands for all nodes: the server says that nobody is there.
	everybody = -1
	// gatherMark is between the number of a gathering and that of a node, none of
	// which has one.
	gatherMark = "-"
)

// gather registers a gathering. Every gather is followed by one endGather.
func (r *replies) gather(nodes []*peer) *gathering {
	number := r.calls.Add(1)
	g := &gathering{
		number:  number,
		prefix:  r.subject(number) + gatherMark,
		nodes:   nodes,
		answers: make(chan gathered, len(nodes)+1),
		heard:   make([]bool, len(nodes)),
	}
	r.gatherings.Store(number, g)
	return g
}

// endGather ends a gathering, whatever has arrived.
func (r *replies) endGather(g *gathering) { r.gatherings.Delete(g.number) }

// deliverGathered hands an answer to the gathering that waits for it; its reply
// subject had number and node around the mark.
func (r *replies) deliverGathered(number, node string, m *nats.Msg) {
	n, ok := parseNumber(number)
	if !ok {
		return
	}
	if g, ok := r.gatherings.Load(n); ok {
		g.(*gathering).put(node, m)
	}
}

// put takes an answer.
func (g *gathering) put(node string, m *nats.Msg) {
	i := everybody
	switch {
	case node != "":
		n, err := strconv.ParseUint(node, numberBase, 31)
		if err != nil || n >= uint64(len(g.nodes)) {
			return
		}
		i = int(n)
	case !isNoResponders(m):
		if i = g.find(m.Header.Get(wire.HeaderFrom)); i < 0 {
			return
		}
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

// find returns the number of the node with that id; negative is none.
func (g *gathering) find(id string) int {
	for i, p := range g.nodes {
		if p.ID == id {
			return i
		}
	}
	return -1
}

// reply is the reply subject of the request to one node.
func (g *gathering) reply(node int) string {
	b := make([]byte, 0, len(g.prefix)+4)
	return string(strconv.AppendInt(append(b, g.prefix...), int64(node), numberBase))
}
