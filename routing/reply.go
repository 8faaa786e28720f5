package routing

import (
	"context"
	"crypto/rand"
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/wire"
)

// replies is the reply inbox of one incarnation of a node: one wildcard
// subscription under the node's own prefix, and a table of the calls that wait.
// It is our own rather than the connection's, because the connection is the
// user's and may be shared, and because the prefix tells who calls.
//
// Shape of a reply subject: catga.<cluster>.inbox.<id>.<incarnation>.<token>,
// where the token is <random of this inbox><number of the call, base 36>. The
// random part keeps two observers of one name apart. A token is used once: an
// answer that comes late, or twice, finds nobody and is dropped. The tokens of a
// gathering have more at their end.
type replies struct {
	base   string // what the inbox was made for
	prefix string // up to the number
	sub    *nats.Subscription

	calls  atomic.Uint64
	shards [replyShards]replyShard
	// Per inbox, not per process: a channel belongs to the test bubble that it
	// was made in.
	pool sync.Pool

	closed chan struct{}
	once   sync.Once
}

const (
	replyShards = 16
	// numberBase writes the number of a call in few bytes.
	numberBase = 36
)

// replyShard is a part of the table with its own lock, so that callers on
// several cores do not queue for one.
type replyShard struct {
	mu         sync.Mutex
	waiting    map[uint64]*pending
	gatherings map[uint64]*gathering
	_          [40]byte // the next shard is on another cache line
}

// pending is one call that waits. Its channel holds one message, so the inbox
// never blocks on a caller.
type pending struct {
	number uint64
	answer chan *nats.Msg
	timer  *time.Timer
	to     *peer // who was asked, where it is a node; see farewell
	asked  time.Time
}

// newReplies makes a table for the inbox under prefix, which ends in a dot. It
// does no I/O: see subscribe.
func newReplies(prefix string) *replies {
	r := &replies{
		base:   prefix,
		prefix: prefix + strings.ToLower(rand.Text()[:stemLength]),
		closed: make(chan struct{}),
	}
	for i := range r.shards {
		r.shards[i].waiting = make(map[uint64]*pending)
		r.shards[i].gatherings = make(map[uint64]*gathering)
	}
	r.pool.New = func() any {
		t := time.NewTimer(time.Hour)
		t.Stop()
		return &pending{answer: make(chan *nats.Msg, 1), timer: t}
	}
	return r
}

// subscribe opens the inbox. It returns when the server knows of it.
func (r *replies) subscribe(ctx context.Context, nc *nats.Conn) error {
	// One wildcard for all tokens of the incarnation: the random part is a part
	// of the token and cannot be in the subject of a subscription.
	sub, err := nc.Subscribe(r.base+"*", r.deliver)
	if err != nil {
		return err
	}
	r.sub = sub
	// An answer is never dropped for want of room: those who wait bound it.
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return err
	}
	return flush(ctx, nc)
}

// await registers what a server is to answer, and returns its reply subject.
// Every await is followed by one release.
func (r *replies) await() (*pending, string) { return r.awaitPeer(nil, time.Time{}) }

// awaitPeer is await for a call that is about to be sent to a node.
func (r *replies) awaitPeer(to *peer, now time.Time) (*pending, string) {
	p := r.pool.Get().(*pending)
	p.number = r.calls.Add(1)
	p.to, p.asked = to, now
	s := r.shard(p.number)
	s.mu.Lock()
	s.waiting[p.number] = p
	s.mu.Unlock()
	return p, r.subject(p.number)
}

// release ends a call, answered or not.
func (r *replies) release(p *pending, answered bool) {
	if !answered && r.take(p.number) == nil {
		// deliver has taken it already and is about to put the late answer into
		// the channel, if it has not yet: only then the channel is empty for good.
		<-p.answer
	}
	p.timer.Stop()
	r.pool.Put(p)
}

// deliver hands an answer to the call that waits for it.
func (r *replies) deliver(m *nats.Msg) {
	token, ok := strings.CutPrefix(m.Subject, r.prefix)
	if !ok {
		if m.Subject == r.base+wire.FarewellToken {
			r.deliverFarewell(m)
		}
		return
	}
	i := strings.IndexByte(token, wire.AnswerMark)
	if i < 0 { // before the other mark: ids have that, too
		i = strings.IndexByte(token, gatherMark)
	}
	if i >= 0 {
		r.deliverGathered(token[:i], token[i], token[i+1:], m)
		return
	}
	number, ok := parseNumber(token)
	if !ok {
		return
	}
	if p := r.take(number); p != nil {
		p.answer <- m
	}
}

func (r *replies) take(number uint64) *pending {
	s := r.shard(number)
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.waiting[number]
	delete(s.waiting, number)
	return p
}

func (r *replies) shard(number uint64) *replyShard { return &r.shards[number%replyShards] }

func (r *replies) subject(number uint64) string {
	b := make([]byte, 0, len(r.prefix)+13)
	return string(strconv.AppendUint(append(b, r.prefix...), number, numberBase))
}

// parseNumber reads the number of a call as subject writes it.
func parseNumber(text string) (n uint64, ok bool) {
	if text == "" || text[0] == '0' {
		return 0, false
	}
	n, err := strconv.ParseUint(text, numberBase, 64)
	return n, err == nil
}

// waiting counts the calls and gatherings that wait.
func (r *replies) waiting() int {
	n := 0
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		n += len(s.waiting) + len(s.gatherings)
		s.mu.Unlock()
	}
	return n
}

// close ends the inbox: calls that wait see it at once.
func (r *replies) close() {
	r.once.Do(func() {
		close(r.closed)
		if r.sub != nil {
			// The only error is a connection that is closed already.
			_ = r.sub.Unsubscribe()
		}
	})
}

// wantsAnswer says whether whoever sent a message with that reply subject
// waits for an answer.
func wantsAnswer(reply string) bool {
	return reply != "" && !wire.IsCastReply(reply)
}

// flush waits until the server has processed what was sent before, as far as a
// connection that breaks meanwhile has not lost it. A ctx without a deadline gets
// flushLimit.
func flush(ctx context.Context, nc *nats.Conn) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, flushLimit)
		defer cancel()
	}
	for wait := newPause(); ; {
		err := nc.FlushWithContext(ctx)
		// A connection that broke says closed, too, and comes back.
		if !errors.Is(err, nats.ErrConnectionClosed) || nc.IsClosed() || !wait.wait(ctx) {
			return err
		}
	}
}

// flushLimit bounds a flush where ctx does not: the time that a connection may
// be away and come back.
const flushLimit = 10 * time.Second
