package routing

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// link is what the durable side knows of the connection. While it is down no
// answer is sent: a server that restarts with an empty store counts its
// sequences from 1 again, and an old ack would take a new message away. Only
// after the streams were looked at, what is still valid is sent.
type link struct {
	up atomic.Bool

	mu     sync.Mutex
	unsent []unsent
	// back is closed and replaced whenever the connection came back: an answer
	// that somebody waits for is then lost, and waiting longer is in vain.
	back chan struct{}
}

type unsent struct {
	d      *delivery
	answer []byte
}

func (l *link) init() { l.back = make(chan struct{}) }

// answer sends the answer of a delivery, now or when the link is up again.
func (l *link) answer(d *delivery, body []byte) {
	if l.up.Load() && l.send(d, body) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	// Looked at again under the lock: raise takes it after it set up.
	if l.up.Load() && l.send(d, body) {
		return
	}
	l.unsent = append(l.unsent, unsent{d, body})
}

// send reports whether the answer needs no further care.
func (l *link) send(d *delivery, body []byte) bool {
	if d.p.isVoid(d) {
		return true
	}
	if err := d.p.r.nc.Publish(d.msg.Reply, body); err != nil {
		return false
	}
	d.p.forget(d)
	return true
}

// lower stops answers: the connection is away.
func (l *link) lower() { l.up.Store(false) }

// raise sends what has waited and lets answers through again.
func (l *link) raise() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.up.Store(true)
	waiting := l.unsent
	l.unsent = nil
	for _, u := range waiting {
		if !l.send(u.d, u.answer) {
			l.unsent = append(l.unsent, u)
		}
	}
	close(l.back)
	l.back = make(chan struct{})
}

// lost returns a channel that is closed when the connection has been away and
// is back.
func (l *link) lost() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.back
}

// watchLink looks after the connection, with a listener of its own and no
// callback of the connection, which is the user's. After each reconnect, and
// whenever a consumer is missed, it makes what is not there and lets everybody
// go on.
func (r *Router) watchLink(statuses chan nats.Status) {
	defer r.nc.RemoveStatusListener(statuses)
	for {
		select {
		case <-r.ctx.Done():
			return
		case status, ok := <-statuses:
			switch {
			case !ok:
				statuses = nil
			case status == nats.CONNECTED:
				r.restore(true)
			default:
				r.durable.link.lower()
			}
		case <-r.durable.missing:
			r.restore(false)
		}
	}
}

// restoreLimit bounds one attempt to make what is missing.
const restoreLimit = 15 * time.Second

// restore makes the streams and consumers that are not there, until it works or
// the connection goes away again.
func (r *Router) restore(reconnected bool) {
	wait := newPause()
	for r.ctx.Err() == nil && r.nc.IsConnected() {
		if r.observes() || r.left.Load() {
			break
		}
		ctx, cancel := context.WithTimeout(r.ctx, restoreLimit)
		err := r.provision(ctx)
		cancel()
		if err == nil {
			break
		}
		if r.ctx.Err() != nil {
			return
		}
		r.log.Warn("streams or consumers cannot be made; trying again", "err", err)
		if !wait.wait(r.ctx) {
			return
		}
	}
	if !r.nc.IsConnected() {
		return // its return comes as a status
	}
	r.durable.link.raise()
	if r.observes() {
		return
	}
	for _, p := range r.pullers() {
		p.wake(reconnected)
	}
	if reconnected {
		r.releaseAfterReconnect()
	}
}
