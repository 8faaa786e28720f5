package routing

import (
	"bytes"
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/natstest"
)

// brittle dials connections of which a write breaks in the middle once armed.
type brittle struct{ armed atomic.Bool }

func (b *brittle) Dial(network, address string) (net.Conn, error) {
	c, err := net.Dial(network, address)
	return &brittleConn{c, b}, err
}

type brittleConn struct {
	net.Conn
	b *brittle
}

func (c *brittleConn) Write(p []byte) (int, error) {
	if len(p) < 32<<10 || !c.b.armed.CompareAndSwap(true, false) {
		return c.Conn.Write(p)
	}
	n, err := c.Conn.Write(p[:len(p)/2])
	if err != nil {
		return n, err
	}
	return n, &net.OpError{Op: "write", Net: "tcp", Err: syscall.EPIPE}
}

// A connection that breaks while a message is written has not sent it: what may
// wait is sent again, what may not was not delivered, and nothing comes twice.
func TestWriteThatBreaks(t *testing.T) {
	s := natstest.Start(t)
	w := &town{t: t}
	box := newInbox(t)
	w.nodeOn(natstest.Dial(t, s.URL()), Config{Cluster: "c", Node: "b"}, handling(box.handle, "work"))
	b := new(brittle)
	w.nodeOn(natstest.Dial(t, s.URL(), nats.SetCustomDialer(b)), Config{Cluster: "c", Node: "a"}, nil)
	w.open()
	a := w.nodes[1]
	ctx := t.Context()
	for i, verb := range []struct {
		name string
		n    int // how many are handled
		do   func(m Raw) error
		want error
	}{
		{"send", 1, func(m Raw) error { return a.Send(ctx, Any(), m, SendOptions{}) }, nil},
		{"batch", 5, func(m Raw) error { return a.SendBatch(ctx, Any(), []Raw{m, m, m, m, m}, SendOptions{}) }, nil},
		{"call", 1, func(m Raw) error { _, err := a.Call(ctx, Any(), m, CallOptions{}); return err }, nil},
		{"cast", 0, func(m Raw) error { return a.Send(ctx, Any(), m, SendOptions{AtMostOnce: true}) }, ErrNotDelivered},
	} {
		m := Raw{Name: "work", Data: bytes.Repeat([]byte{byte('0' + i)}, 128<<10)}
		natstest.Eventually(t, "connected", a.nc.IsConnected)
		b.armed.Store(true)
		if err := verb.do(m); !errors.Is(err, verb.want) || err != nil && !errors.Is(err, nats.ErrDisconnected) {
			t.Errorf("%s: %v, want %v", verb.name, err, verb.want)
		}
		if b.armed.Load() {
			t.Errorf("%s: no write broke", verb.name)
		}
		for range verb.n {
			if got := box.next(); !bytes.Equal(got.Body.Data, m.Data) {
				t.Errorf("%s: %.1q was handled", verb.name, got.Body.Data)
			}
		}
	}
	w.idle()
	box.nothing()
}
