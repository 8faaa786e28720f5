package routing

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/natstest"
)

// The node comes back while its mail is moved: it and whoever got the mail
// handle each message once between them. A mover that goes on, and gives back
// what it takes, makes dead letters of mail that nobody has looked at.
func TestNodeComesBackWhileItsMailIsMoved(t *testing.T) {
	s := natstest.Start(t)
	w := &town{t: t}
	var c counter
	for _, id := range []string{"a", "b"} {
		w.nodeOn(natstest.Dial(t, s.URL()), Config{Cluster: "c", Node: id}, func(r *Router) { r.Handle("work", c.handle, HandleOptions{}) })
	}
	a := w.open()
	gone := w.lostNode(natstest.Dial(t, s.URL()), "reroute", "work")
	const n = 3000
	load(t, a, n, To("gone"))
	moving := make(chan error, 1)
	go func() { moving <- a.sweep(context.Background(), false) }()
	natstest.Eventually(t, "it has begun", func() bool { b, _ := c.distinct(); return b > 100 })
	back := w.nodeOn(natstest.Dial(t, s.URL()), Config{Cluster: "c", Node: "gone"}, func(r *Router) { r.Handle("work", c.handle, HandleOptions{}) })
	if err := errors.Join(back.Prepare(t.Context()), back.Start(t.Context(), 90)); err != nil {
		t.Fatal(err)
	}
	gone.Kind, gone.Peer.Incarnation = Up, 90
	w.tell(gone)
	if err := <-moving; err != nil {
		t.Error("the move:", err)
	}
	w.idle()
	if dead := len(letters(t, a, "work")); dead != 0 {
		t.Errorf("%d dead letters, want none", dead)
	}
	if _, calls := c.distinct(); calls != n {
		t.Errorf("%d handled, want %d", calls, n)
	}
}

// killer is a connection of a process that is killed in the moment in which it
// would send what is the word.
type killer struct {
	net.Conn
	word []byte
}

func (k *killer) Write(b []byte) (int, error) {
	if bytes.Contains(b, k.word) {
		p, _ := os.FindProcess(os.Getpid())
		_ = p.Kill()
		select {}
	}
	return k.Conn.Write(b)
}

// killerDialer makes such connections.
type killerDialer struct{ word string }

func (d killerDialer) Dial(network, address string) (net.Conn, error) {
	c, err := net.DialTimeout(network, address, 5*time.Second)
	return &killer{c, []byte(d.word)}, err
}

// A mover is killed after it has published a message and before it has acked it:
// the next mover ends it, and it is handled once.
func TestMoverKilledBetweenPublishAndAck(t *testing.T) {
	s := natstest.Start(t)
	w := &town{t: t}
	var c counter
	a := w.nodeOn(natstest.Dial(t, s.URL()), Config{Cluster: "c", Node: "a"}, func(r *Router) { r.Handle("work", c.handle, HandleOptions{}) })
	w.open()
	w.lostNode(natstest.Dial(t, s.URL()), "reroute", "work")
	const n = 20
	load(t, a, n, To("gone"))
	mover := startChild(t, s.URL(), "mover", "move")
	mover.wait()
	natstest.Eventually(t, "what it published is handled", func() bool { b, _ := c.distinct(); return b > 0 })
	left, err := a.stored(t.Context(), a.cluster.MailStream(), a.cluster.AllMail("gone"))
	if err != nil || left[a.cluster.NodeMail("gone", "work")] != n {
		t.Fatal("the mover acked something, and the scenario shows nothing:", left, err)
	}
	if err := a.sweep(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, "everything is handled", func() bool { b, _ := c.distinct(); return b == n })
	w.idle()
	if _, calls := c.distinct(); calls != n {
		t.Errorf("%d handled, want %d", calls, n)
	}
}

// staller is a connection that stands still from the first time on that it would
// send what has the word in it, until it may go on.
type staller struct {
	net.Conn
	d *stallDialer
}

func (s *staller) Write(b []byte) (int, error) {
	if bytes.Contains(b, s.d.word) {
		s.d.once.Do(func() { close(s.d.stalled) })
		<-s.d.goOn
	}
	return s.Conn.Write(b)
}

// stallDialer makes such connections.
type stallDialer struct {
	word          []byte
	once          sync.Once
	stalled, goOn chan struct{}
}

func (d *stallDialer) Dial(network, address string) (net.Conn, error) {
	c, err := net.DialTimeout(network, address, 5*time.Second)
	return &staller{c, d}, err
}

// A mover stands still with messages in hand, and is not heard. Another one moves
// nothing of that mailbox, and the node that comes back meanwhile leaves to the
// mover what it has: each message is handled once. The server drops no repeats
// here.
func TestTwoMoversHandleNothingTwice(t *testing.T) {
	s := natstest.Start(t)
	w := &town{t: t}
	var c counter
	config := func(id string) Config { return Config{Cluster: "c", Node: id, DedupWindow: 100 * time.Millisecond} }
	work := func(r *Router) { r.Handle("work", c.handle, HandleOptions{}) }
	stall := &stallDialer{word: []byte("/m"), stalled: make(chan struct{}), goOn: make(chan struct{})}
	goOn := sync.OnceFunc(func() { close(stall.goOn) })
	a := w.nodeOn(natstest.Dial(t, s.URL(), nats.SetCustomDialer(stall)), config("a"), work)
	b := w.nodeOn(natstest.Dial(t, s.URL()), config("b"), work)
	t.Cleanup(goOn) // before the nodes are closed
	w.open()
	gone := w.lostNode(natstest.Dial(t, s.URL()), "reroute", "work")
	const n = 40 // less than a mover takes at a time
	load(t, b, n, To("gone"))
	moving := make(chan error, 1)
	go func() { moving <- a.sweep(context.Background(), false) }()
	<-stall.stalled
	for range 2 {
		if err := b.sweep(t.Context(), false); err != nil {
			t.Error(err)
		}
	}
	if left, err := b.stored(t.Context(), b.cluster.MailStream(), b.cluster.AllMail("gone")); err != nil || left[b.cluster.NodeMail("gone", "work")] != n {
		t.Errorf("%v %v are left, want %d: the other mover took what was in hand", left, err, n)
	}
	back := w.nodeOn(natstest.Dial(t, s.URL()), config("gone"), work)
	if err := errors.Join(back.Prepare(t.Context()), back.Start(t.Context(), 90)); err != nil {
		t.Fatal(err)
	}
	gone.Kind, gone.Peer.Incarnation = Up, 90
	w.tell(gone)
	goOn()
	if err := <-moving; err != nil {
		t.Error("the move:", err)
	}
	w.idle()
	if b, calls := c.distinct(); b != n || calls != n {
		t.Errorf("%d handled %d times, want %d once", b, calls, n)
	}
}

// A node is killed after it has stored a dead letter and before it has ended the
// message: there is one letter.
func TestNodeKilledBetweenLetterAndEnd(t *testing.T) {
	s := natstest.Start(t)
	w := &town{t: t}
	a := w.nodeOn(natstest.Dial(t, s.URL()), Config{Cluster: "c", Node: "a"}, nil)
	w.open()
	w.tell(up("n1", 1, "work"))
	victim := startChild(t, s.URL(), "n1", "bury")
	if err := a.Send(t.Context(), To("n1"), text("work", "x"), SendOptions{}); err != nil {
		t.Fatal(err)
	}
	victim.wait()
	if got := len(letters(t, a, "work")); got != 1 {
		t.Fatalf("%d letters before the end, want 1", got)
	}
	w.nodes = nil
	w.nodeOn(natstest.Dial(t, s.URL()), Config{Cluster: "c", Node: "n1"}, func(r *Router) {
		r.Handle("work", func(context.Context, *Msg[Raw]) (Raw, error) { return Raw{}, Permanent(errors.New("no")) }, HandleOptions{})
	})
	w.open()
	natstest.Eventually(t, "the message has ended", func() bool {
		left, err := a.stored(t.Context(), a.cluster.MailStream(), a.cluster.AllMail("n1"))
		return err == nil && len(left) == 0
	})
	if got := len(letters(t, a, "work")); got != 1 {
		t.Errorf("%d letters, want 1", got)
	}
}
