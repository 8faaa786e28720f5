package routing

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// dropGrace is how long a call that was in flight when the own connection broke
// is waited for after the connection is back. An answer that was sent meanwhile
// is lost with the connection, and nobody can tell it from one that is still to
// come: a handler that takes longer than this after the reconnect answers in
// vain. It is as long as a fast handler takes under load, and short enough for
// an idempotent call to be asked again within its time.
const dropGrace = 250 * time.Millisecond

// errDropped is why such a call ends.
var errDropped = fmt.Errorf("the connection broke while the answer was due: %w", nats.ErrDisconnected)

// drops tells those who wait for an answer that the connection has been away
// since they asked, and is back.
type drops struct {
	// present is closed when the connection has broken after now and is back.
	present atomic.Pointer[chan struct{}]
	// broken are those of connections that broke; of the watcher of the link alone.
	broken []chan struct{}
}

func (d *drops) init() {
	c := make(chan struct{})
	d.present.Store(&c)
}

// back is closed when the connection has broken after this call and is back.
func (d *drops) back() <-chan struct{} { return *d.present.Load() }

// broke is called when the connection is away: who asks later asks on the next.
func (d *drops) broke() {
	c := make(chan struct{})
	d.broken = append(d.broken, *d.present.Swap(&c))
}

// mended is called when the connection is back.
func (d *drops) mended() {
	for _, c := range d.broken {
		close(c)
	}
	d.broken = nil
}

// isDropped reports whether an attempt of a call ended because of the own
// connection: nothing is wrong with the node that was asked.
func isDropped(err error) bool { return errors.Is(err, errDropped) }
