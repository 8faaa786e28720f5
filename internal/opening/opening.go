// Package opening bounds how long a NATS server may take to greet a client that
// can go to another one.
//
// A server that stands still takes connections, because its kernel does, and
// says nothing. nats.go waits for its greeting for Options.Timeout, two seconds
// by itself: a client whose connection to a healthy server is dropped, and that
// tries the other one first, is away for that long.
package opening

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Shortest is the shortest limit of an attempt.
const Shortest = 200 * time.Millisecond

// slack is how many times as long as the latest greeting the next one may take.
const slack = 3

// Limits are those of the attempts of one connection. A server that greets late
// is tried again with twice the limit, and where greetings take long the limit
// is longer from the beginning. The zero value is ready to use.
type Limits struct {
	mu    sync.Mutex
	base  time.Duration
	tried map[string]int // attempts in vain since the last greeting, by address
}

// Of returns how long the attempt that begins now may take to hear from addr,
// most at most, and at least Shortest. The only address that was ever tried gets
// most: there is nowhere else to go.
func (l *Limits) Of(addr string, most time.Duration) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tried == nil {
		l.tried = map[string]int{}
	}
	n := l.tried[addr]
	l.tried[addr]++
	if len(l.tried) == 1 {
		return most
	}
	limit := max(l.base, Shortest)
	for ; n > 0 && limit < most; n-- {
		limit *= 2
	}
	return min(limit, most)
}

// greeted notes that a server was heard after a time.
func (l *Limits) greeted(after time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.base = slack * after
	for addr := range l.tried {
		l.tried[addr] = 0
	}
}

// Guard returns c, whose first read fails when nothing was heard by the end of
// limit after begin. Deadlines that are set on it hold as well.
func (l *Limits) Guard(c net.Conn, begin time.Time, limit time.Duration) net.Conn {
	return &conn{Conn: c, limits: l, begin: begin, until: begin.Add(limit)}
}

// conn is a connection whose server may not have been heard yet. Until it has
// been, one goroutine uses it.
type conn struct {
	net.Conn
	limits       *Limits
	begin, until time.Time
	heard        atomic.Bool
	deadline     time.Time // as it was set; zero for none
}

func (c *conn) Read(p []byte) (int, error) {
	if c.heard.Load() {
		return c.Conn.Read(p)
	}
	until := c.until
	if !c.deadline.IsZero() && c.deadline.Before(until) {
		until = c.deadline
	}
	if err := c.Conn.SetReadDeadline(until); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.limits.greeted(time.Since(c.begin))
		_ = c.Conn.SetReadDeadline(c.deadline)
		c.heard.Store(true)
	}
	return n, err
}

func (c *conn) SetDeadline(t time.Time) error {
	if !c.heard.Load() {
		c.deadline = t
	}
	return c.Conn.SetDeadline(t)
}

func (c *conn) SetReadDeadline(t time.Time) error {
	if !c.heard.Load() {
		c.deadline = t
	}
	return c.Conn.SetReadDeadline(t)
}
