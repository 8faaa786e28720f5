package kvregistry

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/catga/catga-go/internal/provision"
	"github.com/catga/catga-go/internal/wire"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// tripwireHeartbeat is how often the server says that the tripwire is
	// there: 0.09 core of the server for 10,000 nodes.
	tripwireHeartbeat = 5 * time.Second
	// tripwireSilence is how long it may be silent before it is armed again.
	tripwireSilence = 11 * time.Second
	// tripwireCheck is how often that is looked at.
	tripwireCheck = 1500 * time.Millisecond
	// tripwireRetry is when arming is tried again after it failed.
	tripwireRetry = 10 * time.Second
	// armLimit bounds one attempt to arm.
	armLimit = 2 * time.Second
)

// graceOf is how long a node with this connection may need to reconnect, also
// when a server that stands still is tried before another one.
func graceOf(nc *nats.Conn) time.Duration {
	jitter := nc.Opts.ReconnectJitter
	if nc.Opts.Secure || nc.Opts.TLSConfig != nil {
		jitter = nc.Opts.ReconnectJitterTLS
	}
	pause := nc.Opts.ReconnectWait + jitter
	grace := 3 * pause
	if nc.Opts.InProcessServer == nil && len(nc.Servers()) > 1 {
		grace = max(grace, attemptLimit(nc)+2*pause)
	}
	return min(max(grace, minGrace), maxGrace)
}

// attemptLimit is how long one attempt to connect may take where there is
// another server. The dialer of cluster.Dial says so; nats.go waits longer.
func attemptLimit(nc *nats.Conn) time.Duration {
	if d, ok := nc.Opts.CustomDialer.(interface{ AttemptLimit() time.Duration }); ok {
		return d.AttemptLimit()
	}
	return nc.Opts.Timeout
}

// tripwire is an ephemeral push consumer that delivers nothing to this
// process. When the process dies its interest is gone, and after the grace the
// server deletes the consumer and says so: kill to advisory took the grace
// plus 2 to 28 ms. A process that is still there re-arms it whenever it may
// have been lost.
//
// Its methods are called by the goroutine of the presence only, except those
// that read atomics.
type tripwire struct {
	s    *session
	life life
	n    uint64
	sub  *nats.Subscription
	name atomic.Pointer[string]
	// number is that of the newest one.
	number atomic.Uint64
	heard  atomic.Int64 // nanoseconds since 1970, by this host: only differences count
	tried  time.Time
	off    bool // not permitted: never tried again
	warn   sync.Once
}

func newTripwire(s *session) *tripwire { return &tripwire{s: s} }

// armed returns the name of the consumer, or "".
func (t *tripwire) armed() string {
	if name := t.name.Load(); name != nil {
		return *name
	}
	return ""
}

// silent tells whether the tripwire must be armed, again or at all.
func (t *tripwire) silent() bool {
	if t.off {
		return false
	}
	if t.armed() == "" {
		return time.Since(t.tried) > tripwireRetry
	}
	return time.Since(time.Unix(0, t.heard.Load())) > tripwireSilence
}

// arm makes a new tripwire under a new name: the same name can hang on a
// server that is gone. A node without one lives on probes and beats.
func (t *tripwire) arm(ctx context.Context, l life) {
	t.disarm()
	if t.off {
		return
	}
	if l != t.life {
		// Watchers of a new life know its first name.
		t.life, t.n = l, 0
	}
	t.n++
	t.tried = time.Now()
	name := tripwireName(l, t.n)
	ctx, cancel := t.s.store.bounded(ctx, armLimit)
	defer cancel()
	inbox := t.s.nc.NewInbox()
	sub, err := t.s.subscribe(inbox, func(*nats.Msg) { t.heard.Store(time.Now().UnixNano()) })
	if err != nil {
		t.s.log.Debug("tripwire not armed", "node", l.id, "err", err)
		return
	}
	stream := t.s.cluster.RecordStream()
	subject := "$JS.API.CONSUMER.CREATE." + stream + "." + name + "." + t.s.cluster.Tripwire()
	err = provision.Guard(ctx, t.s.nc, subject, func(ctx context.Context) error {
		_, err := t.s.store.js.CreateOrUpdatePushConsumer(ctx, stream, jetstream.ConsumerConfig{
			Name:              name,
			FilterSubject:     t.s.cluster.Tripwire(),
			DeliverSubject:    inbox,
			DeliverPolicy:     jetstream.DeliverNewPolicy,
			AckPolicy:         jetstream.AckNonePolicy,
			MemoryStorage:     true,
			Replicas:          1,
			InactiveThreshold: t.s.own.rec.grace(),
			IdleHeartbeat:     tripwireHeartbeat,
		})
		return err
	})
	if err != nil {
		_ = sub.Unsubscribe()
		t.off = errors.Is(err, ErrDenied)
		if t.off || errors.Is(err, jetstream.ErrMaximumConsumersLimit) {
			t.warn.Do(func() {
				t.s.log.Warn("no tripwire: a crash of this node is noticed by probes only", "node", l.id, "err", err)
			})
		}
		return
	}
	t.heard.Store(time.Now().UnixNano())
	t.sub = sub
	t.name.Store(&name)
	t.number.Store(t.n)
	if t.n > 1 {
		t.s.log.Info("tripwire armed again", "node", l.id, "tripwire", name)
		// Whoever wonders about this node looks for its newest tripwire, and its
		// watchers hear of that one only.
		t.s.tellTripwire(ctx, l)
		t.s.own.answers.tellWatchers(l)
	}
}

// check arms the tripwire unless it is still there. After a reconnect within
// the grace it is: its interest is back. To replace it then would be worse than
// useless: the end of the old one would be told later, perhaps while the
// connection is down once more for a moment, and look like a grace that is over.
func (t *tripwire) check(ctx context.Context, l life) {
	if name := t.armed(); name != "" {
		limited, cancel := t.s.store.bounded(ctx, armLimit)
		defer cancel()
		if _, err := t.s.store.js.PushConsumer(limited, t.s.cluster.RecordStream(), name); err == nil {
			t.heard.Store(time.Now().UnixNano())
			return
		}
		if t.s.ctx.Err() != nil || !t.s.nc.IsConnected() {
			return // the next reconnect, or the silence of it, asks again
		}
	}
	t.arm(ctx, l)
}

// disarm lets go of the tripwire. The server deletes it after its grace, and
// whoever is told so finds the node alive, or ended.
func (t *tripwire) disarm() {
	t.name.Store(nil)
	t.number.Store(0)
	if t.sub != nil {
		_ = t.sub.Unsubscribe()
		t.sub = nil
	}
}

// inspectLimit bounds a look at somebody's tripwire.
const inspectLimit = 500 * time.Millisecond

// inspect looks for the newest tripwire of l, whose number is in its beat.
// known is the newest number that this node has heard of.
func (s *session) inspect(ctx context.Context, l life, known uint64) trace {
	ctx, cancel := s.store.bounded(ctx, inspectLimit)
	defer cancel()
	b, err := s.store.beatOf(ctx, l.id)
	if err != nil {
		return unsure
	}
	newest := known
	// none: its beat is there, and tells of no tripwire. It may have one by now.
	none := b.Version != 0 && known == 0
	if b.Incarnation == l.incarnation {
		newest, none = max(newest, b.Tripwire), b.Tripwire == 0
	}
	newest = max(newest, 1)
	_, err = s.store.js.PushConsumer(ctx, s.cluster.RecordStream(), tripwireName(l, newest))
	switch {
	case err == nil:
		return intact
	case none:
		return unsure
	case errors.Is(err, jetstream.ErrConsumerNotFound), errors.Is(err, jetstream.ErrStreamNotFound):
		return tripped
	}
	return unsure
}

// tripwireName is <id>-<incarnation>-<n>.
func tripwireName(l life, n uint64) string {
	return l.id + "-" + strconv.FormatUint(l.incarnation, 10) + "-" + strconv.FormatUint(n, 10)
}

// lifeOfTripwire is the inverse of tripwireName. An id may contain dashes.
func lifeOfTripwire(name string) (l life, n uint64, ok bool) {
	rest, number, ok := cutLast(name)
	if !ok {
		return l, 0, false
	}
	id, incarnation, ok := cutLast(rest)
	if !ok || wire.CheckNode(id) != nil {
		return l, 0, false
	}
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return l, 0, false
	}
	l.id = id
	l.incarnation, err = strconv.ParseUint(incarnation, 10, 64)
	return l, n, err == nil
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, '-')
	if i < 0 {
		return "", "", false
	}
	return s[:i], s[i+1:], true
}
