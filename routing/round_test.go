package routing

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/natstest"
)

// turns is a handler that says what it began and goes on when it is told to.
type turns struct {
	mu    sync.Mutex
	runs  map[string]int
	begun chan string
	goOn  map[string]chan struct{} // by node
}

func newTurns(ids ...string) *turns {
	h := &turns{runs: map[string]int{}, begun: make(chan string, 100), goOn: map[string]chan struct{}{}}
	for _, id := range ids {
		h.goOn[id] = make(chan struct{}, 100)
	}
	return h
}

func (h *turns) of(id string) func(*Router) {
	return func(r *Router) {
		r.Handle("work", func(ctx context.Context, m *Msg[Raw]) (Raw, error) {
			h.mu.Lock()
			h.runs[string(m.Body.Data)]++
			h.mu.Unlock()
			h.begun <- id + " " + string(m.Body.Data)
			select {
			case <-h.goOn[id]:
				return Raw{}, nil
			case <-ctx.Done():
				return Raw{}, context.Cause(ctx)
			}
		}, HandleOptions{Concurrency: 1})
	}
}

// next is what begins next, or nothing.
func (h *turns) next(within time.Duration) string {
	select {
	case what := <-h.begun:
		return what
	case <-time.After(within):
		return ""
	}
}

func (h *turns) expect(t *testing.T) string {
	t.Helper()
	what := h.next(10 * time.Second)
	if what == "" {
		t.Fatal("nothing begins")
	}
	return what
}

// once checks that each message ran once.
func (h *turns) once(t *testing.T) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for text, n := range h.runs {
		if n != 1 {
			t.Errorf("%q ran %d times", text, n)
		}
	}
}

// steal takes a message of shared work as a node would that nobody knows.
func steal(t *testing.T, nc *nats.Conn) *nats.Msg {
	t.Helper()
	inbox := nats.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := nc.PublishMsg(&nats.Msg{Subject: "$JS.API.CONSUMER.MSG.NEXT.CATGA_c_WORK.w:work", Reply: inbox, Data: []byte(`{"batch":1,"expires":5000000000}`)}); err != nil {
		t.Fatal(err)
	}
	m, err := sub.NextMsg(10 * time.Second)
	if err != nil || !strings.HasPrefix(m.Reply, ackPrefix) {
		t.Fatal(m, err)
	}
	return m
}

// slowAnswer is a handler of work that is asked what it holds, and does
// something before it answers: then all others have answered.
func slowAnswer(t *testing.T, nc *nats.Conn, asker string, first func()) {
	t.Helper()
	answers := make(chan *nats.Msg, 100)
	if _, err := nc.ChanSubscribe("catga.c.inbox."+asker+".*.held.*", answers); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	_, err := nc.Subscribe("catga.c.held.work", func(m *nats.Msg) {
		var q heldQuestion
		if _ = json.Unmarshal(m.Data, &q); q.Node != asker && q.Node != "" {
			return
		}
		once.Do(func() {
			<-answers // the other node's
			first()
		})
		_ = m.Respond([]byte(`{"node":"zz","seqs":[]}`))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
}

// twoBusy are n1 and n2, which are both at work, so that they do not order, and
// somebody who is no node. A third message waits.
func twoBusy(t *testing.T) (w *town, h *turns, n1 *Router, stranger *nats.Conn) {
	t.Helper()
	s := natstest.Start(t)
	w, h = &town{t: t}, newTurns("n1", "n2")
	for _, id := range []string{"n1", "n2"} {
		w.nodeOn(natstest.Dial(t, s.URL()), Config{Cluster: "c", Node: id}, h.of(id))
	}
	n1 = w.open()
	for _, text := range []string{"first", "second", "third"} {
		if err := n1.Send(t.Context(), Any(), Raw{Name: "work", Data: []byte(text)}, SendOptions{}); err != nil {
			t.Fatal(err)
		}
		if text != "third" {
			h.expect(t)
		}
	}
	return w, h, n1, natstest.Dial(t, s.URL())
}

// A message that was handed back and that nobody has taken yet is on its way to
// somebody who has said that he does not hold it.
func TestWhatWaitsToBeTakenAgainIsNotHandedBack(t *testing.T) {
	w, h, n1, stranger := twoBusy(t)
	w.tell(ghost("zz", "work"))
	m := steal(t, stranger)
	if err := stranger.Publish(m.Reply, ackNak); err != nil {
		t.Fatal(err)
	}
	took := make(chan struct{})
	slowAnswer(t, stranger, "n1", func() {
		select {
		case <-took:
			return
		default:
		}
		h.goOn["n2"] <- struct{}{} // which takes it now
		if got := h.expect(t); got != "n2 third" {
			t.Error(got)
		}
		close(took)
	})
	released := make(chan struct{})
	go func() {
		defer close(released)
		n1.releaseWork("work")
	}()
	select {
	case <-took: // somebody was asked
	case <-time.After(500 * time.Millisecond):
		h.goOn["n2"] <- struct{}{}
		if got := h.expect(t); got != "n2 third" {
			t.Error(got)
		}
		close(took)
	}
	h.goOn["n1"] <- struct{}{} // which would take what is handed back
	<-released
	if got := h.next(300 * time.Millisecond); got != "" {
		t.Errorf("%q, and n2 has it", got)
	}
	h.goOn["n2"] <- struct{}{}
	w.idle()
	h.once(t)
}

// Two nodes hand back what a third had, at the same time: what one has handed
// back and somebody has taken, the other does not hand back again.
func TestTwoWhoHandBackDoItOnce(t *testing.T) {
	for _, ids := range [][2]string{{"n1", "n2"}, {"n2", "n1"}} {
		t.Run(fmt.Sprintf("%s is slow", ids[0]), func(t *testing.T) {
			s := natstest.Start(t)
			w := &town{t: t}
			h := newTurns(ids[:]...)
			nodes := map[string]*Router{}
			for _, id := range ids {
				nodes[id] = w.nodeOn(natstest.Dial(t, s.URL()), Config{Cluster: "c", Node: id}, h.of(id))
			}
			slow, fast := nodes[ids[0]], nodes[ids[1]]
			stranger := natstest.Dial(t, s.URL())
			if err := slow.Prepare(t.Context()); err != nil {
				t.Fatal(err)
			}
			sender := w.nodeOn(natstest.Dial(t, s.URL()), Config{Cluster: "c", Node: "sender"}, nil)
			if err := sender.Start(t.Context(), 9); err != nil {
				t.Fatal(err)
			}
			sender.Update([]Change{up(slow.id, 1, "work")})
			if err := sender.Send(t.Context(), Any(), Raw{Name: "work", Data: []byte("orphan")}, SendOptions{}); err != nil {
				t.Fatal(err)
			}
			steal(t, stranger)
			for i, r := range []*Router{slow, fast} {
				if err := r.Prepare(t.Context()); err != nil {
					t.Fatal(err)
				}
				if err := r.Start(t.Context(), uint64(i+1)); err != nil {
					t.Fatal(err)
				}
			}
			for _, r := range []*Router{slow, fast} {
				r.durable.releases.once.Do(func() {}) // nobody hands back at his start
			}
			both := []Change{up(slow.id, 1, "work"), up(fast.id, 2, "work")}
			slow.Update(append(both, ghost("zz", "work")))
			fast.Update(both)
			var wg sync.WaitGroup
			slowAnswer(t, stranger, slow.id, func() {
				wg.Go(func() { fast.releaseWork("work") })
				if got := h.next(200 * time.Millisecond); got != "" {
					h.begun <- got
				}
			})
			wg.Go(func() { slow.releaseWork("work") })
			h.expect(t)
			wg.Wait()
			if got := h.next(300 * time.Millisecond); got != "" {
				t.Errorf("%q runs beside itself", got)
			}
			for _, id := range ids {
				h.goOn[id] <- struct{}{}
			}
			h.once(t)
		})
	}
}
