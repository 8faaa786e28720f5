package routing

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/wire"
)

const (
	// bundleWithin is how soon a message follows the one before where the two
	// share a bundle. It is a few times what a message takes: who sends less than
	// 50,000 a second waits for nothing.
	bundleWithin = 20 * time.Microsecond
	// bundleSize is how many bytes a bundle has when it is full.
	bundleSize = 16 << 10
	// bundleMost is the size of a message from which on it goes alone: the names
	// around it are little beside it.
	bundleMost = 1 << 10
)

// address is how calls and at-most-once messages of one kind go to one node.
type address struct {
	node    string
	subject string

	// Under bundles.mu.
	last   time.Duration // when the last message left, since bundles.born
	bundle []byte        // what has not left
	n      int           // how many messages that is
}

// bundles sends at-most-once messages to one node.
//
// One that comes by itself leaves at once. Those that follow each other faster
// than they could leave share a NATS message: names, a place in the queues and a
// look at the routes cost several times what 128 bytes cost. Such a bundle leaves
// when it is full, or when a goroutine that was started with it gets to run, which
// is after microseconds, or when the sender lets go of a busy processor.
//
// Messages to one node leave in the order in which they were sent, and a message
// that leaves alone, a call, a gather and an answer leave after all that was sent
// before: see flush.
type bundles struct {
	nc           *nats.Conn
	reply, whole string // the reply subjects: of a message, and of a bundle
	failed       func(n int, err error)
	born         time.Time

	// waiting says that open is not empty.
	waiting atomic.Bool

	mu      sync.Mutex
	open    []*address // with a bundle: one for a node at most
	running bool       // a goroutine is about to send them
	closed  bool       // nothing waits any more: each message leaves alone
	lost    int        // how many could not leave and nobody was told of, and why
	why     error
	wg      sync.WaitGroup // that goroutine
}

// send sends data, or keeps it for a moment. The error is an outcome. The lock is
// held while nats.go takes the bytes, which is what keeps the order; so does its own.
func (b *bundles) send(a *address, data []byte) error {
	b.mu.Lock()
	defer b.unlock()
	alone := len(data) > bundleMost
	if a.n == 0 || alone {
		// A reconnect buffer would turn "now or not at all" into "later".
		if !b.nc.IsConnected() {
			return notDelivered(nats.ErrDisconnected)
		}
		now := time.Since(b.born)
		follows := now-a.last < bundleWithin
		a.last = now
		if alone || !follows || b.closed || b.nc.MaxPayload() < 2*bundleSize {
			b.leaveTo("")
			return coreOutcome(b.nc.PublishRequest(a.subject, b.reply, data), data, nil)
		}
		b.leaveTo(a.node) // of another kind
		b.begin(a)
	}
	a.bundle = wire.AppendBundled(a.bundle, data)
	if a.n++; len(a.bundle) >= bundleSize {
		b.leaveTo(a.node)
	}
	return nil
}

// unlock unlocks b.mu, and tells what was lost: whoever hears of it may send.
func (b *bundles) unlock() {
	n, err := b.lost, b.why
	b.lost, b.why = 0, nil
	b.mu.Unlock()
	if n > 0 {
		b.failed(n, err)
	}
}

// begin opens a bundle; b.mu is held.
func (b *bundles) begin(a *address) {
	a.bundle = buffers.Get().(*buffer)[:0]
	b.open = append(b.open, a)
	b.waiting.Store(true)
	if !b.running {
		b.running = true
		b.wg.Go(func() {
			b.mu.Lock()
			defer b.unlock()
			b.running = false
			b.leaveTo("")
		})
	}
}

// buffer has room for a bundle: it is full before there is none for another
// message.
type buffer [bundleSize + 2*bundleMost]byte

var buffers = sync.Pool{New: func() any { return new(buffer) }}

// flush sends what waits. It is called before a call, a gather, an answer or a
// message to many is published, and costs a load while nothing waits.
func (b *bundles) flush() {
	if b.waiting.Load() {
		b.mu.Lock()
		defer b.unlock()
		b.leaveTo("")
	}
}

// close sends what waits, and returns when nobody is about to send any more.
func (b *bundles) close() {
	b.mu.Lock()
	b.closed = true
	b.leaveTo("")
	b.unlock()
	b.wg.Wait()
}

// leaveTo sends what waits for the node, or for all; b.mu is held.
func (b *bundles) leaveTo(node string) {
	if len(b.open) == 0 {
		return
	}
	kept := b.open[:0]
	for _, a := range b.open {
		if node == "" || a.node == node {
			b.leave(a)
		} else {
			kept = append(kept, a)
		}
	}
	clear(b.open[len(kept):])
	b.open = kept
	b.waiting.Store(len(kept) > 0)
}

// leave sends the bundle of a; b.mu is held.
func (b *bundles) leave(a *address) {
	reply, data := b.whole, a.bundle
	if a.n == 1 {
		reply = b.reply
		data, _, _ = wire.CutBundled(data)
	}
	err := nats.ErrDisconnected
	if b.nc.IsConnected() {
		err = b.nc.PublishRequest(a.subject, reply, data)
	}
	if err != nil {
		b.lost, b.why = b.lost+a.n, err
	}
	buffers.Put((*buffer)(a.bundle[:len(buffer{})]))
	a.bundle, a.n, a.last = nil, 0, time.Since(b.born)
}
