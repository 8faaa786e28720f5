package routing

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// The answers that a consumer takes; see docs/wire.md.
var (
	ackDone     = []byte("+ACK")
	ackNak      = []byte("-NAK")
	ackProgress = []byte("+WPI")
)

// nakAfter hands a message back until d has passed. The server counts from when
// it processes the nak, to about a millisecond.
func nakAfter(d time.Duration) []byte {
	return fmt.Appendf(nil, `-NAK {"delay":%d}`, d.Nanoseconds())
}

// ackTerm ends a message for good; reason goes into the server's advisory.
func ackTerm(reason string) []byte {
	const most = 200
	if len(reason) > most {
		reason = reason[:most]
	}
	return append([]byte("+TERM "), reason...)
}

// delivery is one message in hand: from its arrival until its answer is on its
// way to the server.
type delivery struct {
	p    *puller
	kind *kind
	life *life // in which it arrived
	msg  *nats.Msg
	ack  ackInfo

	began atomic.Int64 // the handler, in ns since p.born, 1 at least; 0 while it waits for a slot
	void  atomic.Bool  // the stream it came from is no more: it has no answer

	// Under p.mu.
	overdue bool // its time limit has been reported
	back    bool // it is being handed back: the next copy is another attempt

	// What the handler gets. They are here to be made in one piece.
	given Msg[Raw]
	time  limited
}

// gone reports that the message is not this node's any more: whatever became of
// the handler, it has no answer.
func (d *delivery) gone() bool {
	return d.life.over.Load() || d.void.Load()
}

// runs is how long the handler has run at now; 0 is that it has not begun.
func (d *delivery) runs(now time.Time) time.Duration {
	began := d.began.Load()
	if began == 0 {
		return 0
	}
	return now.Sub(d.p.born) - time.Duration(began)
}

// finish answers a delivery. What cannot be sent now is sent when the
// connection is back; until then the message counts as in hand.
func (d *delivery) finish(answer []byte) {
	d.p.r.durable.link.answer(d, answer)
}

func (d *delivery) kindLimit() time.Duration {
	if d.kind == nil {
		return 0
	}
	return d.kind.timeLimit()
}
