package routing

import (
	"bytes"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/natstest"
)

// ways is a connection as between two servers: what goes to one of them does not
// hold up what goes to another, and may come later, or be lost.
type ways struct {
	net.Conn
	of func(subject string) way

	rest []byte // of Write: the beginning of the next operation
	mu   sync.Mutex
	slow chan late
	done chan struct{}
	once sync.Once
}

// way is what becomes of a publish.
type way struct {
	after time.Duration // in order with the others that are as slow
	lost  bool
}

type late struct {
	at   time.Time
	what []byte
}

// dialWays connects to a server by such a connection.
func dialWays(t *testing.T, url string, of func(subject string) way) *nats.Conn {
	return natstest.Dial(t, url, nats.SetCustomDialer(waysDialer{of}))
}

type waysDialer struct{ of func(string) way }

func (d waysDialer) Dial(network, address string) (net.Conn, error) {
	c, err := net.DialTimeout(network, address, 5*time.Second)
	if err != nil {
		return nil, err
	}
	w := &ways{Conn: c, of: d.of, slow: make(chan late, 10_000), done: make(chan struct{})}
	go w.deliver()
	return w, nil
}

// deliver writes what is slow.
func (w *ways) deliver() {
	for {
		select {
		case l := <-w.slow:
			select {
			case <-time.After(time.Until(l.at)):
				_ = w.write(l.what) // the connection may be gone
			case <-w.done:
				return
			}
		case <-w.done:
			return
		}
	}
}

func (w *ways) Close() error {
	w.once.Do(func() { close(w.done) })
	return w.Conn.Close()
}

func (w *ways) write(b []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err := w.Conn.Write(b)
	return err
}

// Write is called by one goroutine of nats.go at a time.
func (w *ways) Write(b []byte) (int, error) {
	w.rest = append(w.rest, b...)
	for {
		op, subject := nextOperation(w.rest)
		if op == 0 {
			return len(b), nil
		}
		what := bytes.Clone(w.rest[:op])
		w.rest = w.rest[op:]
		switch to := w.of(subject); {
		case subject == "" || to == way{}:
			if err := w.write(what); err != nil {
				return 0, err
			}
		case !to.lost:
			w.slow <- late{time.Now().Add(to.after), what}
		}
	}
}

// nextOperation returns the length of the first operation of the client protocol
// in b, 0 where it is not complete, and the subject of a publish.
func nextOperation(b []byte) (length int, subject string) {
	line, _, ok := bytes.Cut(b, []byte("\r\n"))
	if !ok {
		return 0, ""
	}
	length = len(line) + 2
	words := strings.Fields(string(line))
	if len(words) < 3 || words[0] != "PUB" && words[0] != "HPUB" {
		return length, ""
	}
	size, err := strconv.Atoi(words[len(words)-1])
	if err != nil || len(b) < length+size+2 {
		return 0, ""
	}
	return length + size + 2, words[1]
}

// slowAcks lets all answers to consumers take that long.
func slowAcks(d time.Duration) func(string) way {
	return func(subject string) way {
		if strings.HasPrefix(subject, ackPrefix) {
			return way{after: d}
		}
		return way{}
	}
}
