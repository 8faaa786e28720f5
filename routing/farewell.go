package routing

import (
	"encoding/json"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/wire"
)

// Between two servers a request may be lost without a word when a node stops to
// listen: the server of the caller has passed it on, and that of the node has
// nobody for it any more. With servers that are short of processor that was all
// that they had in their queues, 15 calls at once. So a node that has answered
// everything, and gets nothing more, tells those who call it which requests have
// arrived. Any other was never here: it is not delivered, and goes elsewhere.
//
// Requests of one caller have growing numbers, so the highest one that has
// arrived tells of all behind it. Callers that run side by side may send theirs
// in another order; so what came since the node began to leave is listed. No
// clock is compared with that of another: what is told is for how long the list
// is complete.

// farewell is what a node that leaves tells a caller. Subject: the caller's
// inbox, with wire.FarewellToken. Shape: {"node":"n1","incarnation":7,
// "stem":"abcdefgh","last":1234,"for":1200000000,"got":["xx","xy"]}.
type farewell struct {
	Node        string `json:"node"`
	Incarnation uint64 `json:"incarnation"`
	// Stem is the random part of the tokens that this is about; without one no
	// request with that inbox has ever arrived.
	Stem string        `json:"stem,omitempty"`
	Last uint64        `json:"last"`          // highest number that has arrived
	For  time.Duration `json:"for"`           // ns for which Got is complete
	Got  []string      `json:"got,omitempty"` // what comes behind the stem
}

const (
	// mostFarewell is how many requests of one caller are listed; of more than
	// that the older half is forgotten.
	mostFarewell = 8192
	// mostCallers bounds how many callers are remembered.
	mostCallers = 4096
	// stemLength is that of the random part of tokens.
	stemLength = 8
)

// callers is who calls this node.
type callers struct {
	root string // of all inboxes

	mu     sync.Mutex
	known  map[string]*caller // by inbox and stem
	forgot bool               // some were dropped from known
	since  time.Time          // when the node began to leave
}

// caller is one of them.
type caller struct {
	stem string // its inbox and the random part of its tokens
	// last is the highest number that has arrived; written by the leader of the
	// dispatcher alone.
	last atomic.Uint64

	// Since the node began to leave, under callers.mu.
	since time.Time // got is complete from here on
	got   []string
	at    []time.Time // when each came
}

// note remembers a request. last is the caller of the one before, or nil.
func (c *callers) note(reply string, last *caller, leaving bool) *caller {
	if last == nil || !strings.HasPrefix(reply, last.stem) {
		i := strings.LastIndexByte(reply, '.') + 1
		if len(reply) < i+stemLength || !strings.HasPrefix(reply, c.root) {
			return last // not a node's
		}
		last = c.caller(reply[:i+stemLength])
	}
	token := reply[len(last.stem):]
	last.last.Store(max(last.last.Load(), leadingNumber(token)))
	if leaving {
		c.list(last, token)
	}
	return last
}

func (c *callers) caller(stem string) *caller {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.known[stem]
	if known == nil {
		if len(c.known) >= mostCallers {
			clear(c.known)
			c.forgot = true
		}
		known = &caller{stem: stem}
		c.known[stem] = known
	}
	return known
}

// leadingNumber is the number of a call at the beginning of a token.
func leadingNumber(token string) (n uint64) {
	for i := range len(token) {
		switch b := token[i]; {
		case '0' <= b && b <= '9':
			n = n*numberBase + uint64(b-'0')
		case 'a' <= b && b <= 'z':
			n = n*numberBase + uint64(b-'a') + 10
		default: // of a gathering
			return n
		}
	}
	return n
}

// leave begins to list what comes.
func (c *callers) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.since = time.Now()
}

func (c *callers) list(from *caller, token string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.since.IsZero() {
		return // it came before
	}
	if len(from.got) == mostFarewell {
		const half = mostFarewell / 2
		from.since = from.at[half-1]
		from.got = append(from.got[:0], from.got[half:]...)
		from.at = append(from.at[:0], from.at[half:]...)
	}
	from.got, from.at = append(from.got, token), append(from.at, time.Now())
}

// farewells is what is to be told, by inbox and stem.
func (c *callers) farewells(f farewell) map[string]farewell {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make(map[string]farewell, len(c.known))
	for stem, one := range c.known {
		since := c.since
		if one.since.After(since) {
			since = one.since
		}
		complete := time.Since(since)
		f.Stem, f.Last = stem[len(stem)-stemLength:], one.last.Load()
		f.For, f.Got = complete-complete/100, one.got
		all[stem] = f
	}
	return all
}

// sayFarewell tells everybody who may call this node what has arrived of them.
// Nothing comes any more, and everything is answered.
func (d *dispatcher) sayFarewell() {
	r := d.r
	f := farewell{Node: r.id, Incarnation: r.currentIncarnation()}
	told := map[string]bool{}
	say := func(inbox string, f farewell) {
		told[inbox] = true
		data, err := json.Marshal(f)
		if err == nil {
			err = r.nc.Publish(inbox+wire.FarewellToken, data)
		}
		if err != nil {
			r.log.Info("a caller was not told which of its calls have arrived", "inbox", inbox, "err", err)
		}
	}
	for stem, f := range d.callers.farewells(f) {
		say(stem[:len(stem)-stemLength], f)
	}
	if d.callers.forgot {
		return
	}
	for _, p := range r.peers.Load().online {
		if inbox := r.cluster.InboxPrefix(p.ID, p.Incarnation); !told[inbox] {
			say(inbox, f)
		}
	}
}

// deliverFarewell ends what this node waits for and that one never got.
func (r *replies) deliverFarewell(m *nats.Msg) {
	var f farewell
	if json.Unmarshal(m.Data, &f) != nil || f.Stem != "" && r.base+f.Stem != r.prefix {
		return
	}
	since := time.Now().Add(-f.For)
	got := make(map[string]bool, len(f.Got))
	for _, token := range f.Got {
		got[token] = true
	}
	lost := func(number uint64, asked time.Time, token string) bool {
		return number > f.Last || asked.After(since) && !got[token]
	}
	meant := func(p *peer) bool { return p != nil && p.ID == f.Node && p.Incarnation == f.Incarnation }
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		for number, p := range s.waiting {
			if meant(p.to) && lost(number, p.asked, r.subject(number)[len(r.prefix):]) {
				delete(s.waiting, number)
				p.answer <- refusal(m.Subject, wire.RefusedLeaving)
			}
		}
		for number, g := range s.gatherings {
			for n, p := range g.nodes {
				reply := g.replyOfAll()
				if !g.toAll {
					reply = g.reply(n)
				}
				if meant(p) && lost(number, g.asked, reply[len(r.prefix):]) {
					g.put(n, refusal(m.Subject, wire.RefusedLeaving))
				}
			}
		}
		s.mu.Unlock()
	}
}
