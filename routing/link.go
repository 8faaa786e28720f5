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
	noted, ok := d.p.letGo(d, body[0] == ackNak[0])
	if !ok {
		return true
	}
	if err := d.p.r.nc.Publish(d.msg.Reply, body); err != nil {
		d.p.keep(d)
		return false
	}
	d.p.forget(d)
	d.p.backSent(noted)
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
// go on. A connection that goes away again ends that at once.
func (r *Router) watchLink(statuses chan nats.Status) {
	defer r.nc.RemoveStatusListener(statuses)
	var (
		stop = func() {}
		done = closedChan // of the restore under way
		last time.Time    // when the last one began that was not after a reconnect
	)
	begin := func(reconnected bool) {
		stop()
		<-done
		ctx, cancel := context.WithCancel(r.ctx)
		ended := make(chan struct{})
		stop, done = cancel, ended
		r.wg.Go(func() {
			defer close(ended)
			defer cancel()
			r.restore(ctx, reconnected)
		})
	}
	missed := make(<-chan time.Time)
	for {
		select {
		case <-r.ctx.Done():
			stop()
			return
		case status, ok := <-statuses:
			switch {
			case !ok:
				statuses = nil
			case status == nats.CONNECTED:
				r.calls.drops.mended()
				begin(true)
			default:
				r.calls.drops.broke()
				stop()
				r.durable.link.lower()
			}
		case <-r.durable.missing:
			missed = time.After(time.Until(last.Add(restoreEvery)))
		case <-missed:
			missed = nil
			select {
			case <-done:
				last = time.Now()
				begin(false)
			default: // the one under way looks at the same
			}
		}
	}
}

const (
	// restoreLimit bounds one attempt to make what is missing.
	restoreLimit = 15 * time.Second
	// restoreEvery bounds how often all is looked at because something is
	// missed: in an election everybody misses everything.
	restoreEvery = time.Second
)

// restore makes the streams and consumers that are not there, until it works or
// ctx ends, because the connection went away again.
func (r *Router) restore(ctx context.Context, reconnected bool) {
	wait := newPause()
	for !r.observes() && !r.left.Load() {
		limited, cancel := context.WithTimeout(ctx, restoreLimit)
		err := r.provision(limited)
		cancel()
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return
		}
		r.log.Warn("streams or consumers cannot be made; trying again", "err", err)
		if !wait.wait(ctx) {
			return
		}
	}
	if ctx.Err() != nil {
		return
	}
	r.durable.link.raise()
	if r.observes() {
		return
	}
	if !reconnected {
		for _, p := range r.pullers() {
			p.wake(lookAgain)
		}
		return
	}
	for _, p := range r.pullers() {
		p.wake(newConnection)
	}
	r.releaseAfterReconnect()
}
