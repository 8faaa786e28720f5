package machines_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/catga/catga-go/cluster"
	"github.com/catga/catga-go/internal/natstest"
)

// note is the message that is sent; ask the one that is answered.
type (
	note struct{}
	ask  struct{}
	told struct{ By string }
)

func (note) Kind() string { return "test.note" }
func (ask) Kind() string  { return "test.ask" }
func (ask) Returns(told)  {}

const (
	senders = 4
	// sendLimit bounds a send; it is longer than an election takes.
	sendLimit = 30 * time.Second
)

// load are two nodes, clients of the servers, of which the first one sends
// stored messages to both. It keeps what was stored, what was handled, and who
// was Lost; all nodes live.
type load struct {
	nodes []*cluster.Node
	stop  context.CancelFunc
	wg    sync.WaitGroup

	mu      sync.Mutex
	stored  map[string]bool
	handled map[string]int
	lost    []string
	n       int
}

func startLoad(t *testing.T, url string) *load {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	l := &load{stop: stop, stored: map[string]bool{}, handled: map[string]int{}}
	for _, id := range []string{"n1", "n2"} {
		l.join(t, url, id)
	}
	for _, n := range l.nodes {
		if err := n.Wait(within(t, limit), func(v cluster.View) bool { return len(v.Handlers(note{}.Kind())) == 2 }); err != nil {
			t.Fatal(err)
		}
		l.wg.Go(func() {
			for e := range n.Watch(ctx) {
				if e.Kind == cluster.Lost {
					l.mu.Lock()
					l.lost = append(l.lost, fmt.Sprintf("%s by %s: %s", e.Member.ID, e.Member.By, e.Member.Reason))
					l.mu.Unlock()
				}
			}
		})
	}
	for range senders {
		l.wg.Go(func() { l.send(ctx) })
	}
	t.Cleanup(func() {
		stop()
		l.wg.Wait()
	})
	return l
}

func (l *load) join(t *testing.T, url, id string) *cluster.Node {
	t.Helper()
	ctx := within(t, limit)
	nc, err := cluster.Dial(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	n, err := cluster.New(nc, cluster.Config{Cluster: "test", Node: id})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	cluster.Handle(n, func(_ context.Context, m *cluster.Msg[note]) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.handled[m.ID]++
		return nil
	})
	cluster.HandleCall(n, func(context.Context, *cluster.Msg[ask]) (told, error) { return told{n.ID()}, nil })
	if err := n.Join(ctx); err != nil {
		t.Fatal(err)
	}
	l.nodes = append(l.nodes, n)
	return n
}

// send sends one message after the other, to any node and to each in turn.
func (l *load) send(ctx context.Context) {
	for ctx.Err() == nil {
		l.mu.Lock()
		l.n++
		n := l.n
		l.mu.Unlock()
		id := fmt.Sprint("note-", n)
		to := []cluster.Target{cluster.Any(), cluster.To("n1"), cluster.To("n2")}[n%3]
		sending, cancel := context.WithTimeout(ctx, sendLimit)
		err := l.nodes[0].Send(sending, to, note{}, cluster.ID(id))
		cancel()
		if err == nil {
			l.mu.Lock()
			l.stored[id] = true
			l.mu.Unlock()
		}
		wait(ctx, time.Millisecond)
	}
}

// progress waits until more messages are stored and handled than now.
func (l *load) progress(t *testing.T, what string) {
	t.Helper()
	count := func() (int, int) {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.stored), len(l.handled)
	}
	stored, handled := count()
	natstest.Eventually(t, what, func() bool {
		s, h := count()
		return s > stored+10 && h > handled+10
	})
}

// verdict ends the load and says what is wrong.
func (l *load) verdict(t *testing.T) {
	t.Helper()
	l.stop()
	l.wg.Wait()
	var missing []string
	for end := time.Now().Add(limit); ; {
		missing = nil
		l.mu.Lock()
		for id := range l.stored {
			if l.handled[id] == 0 {
				missing = append(missing, id)
			}
		}
		l.mu.Unlock()
		if len(missing) == 0 || time.Now().After(end) {
			break
		}
		wait(t.Context(), 100*time.Millisecond)
	}
	l.mu.Lock() // a repeat may come at any time
	defer l.mu.Unlock()
	if len(missing) > 0 {
		t.Errorf("%d of %d stored messages were never handled: %v", len(missing), len(l.stored), missing[:min(len(missing), 10)])
	}
	if len(l.lost) > 0 {
		t.Errorf("living nodes were Lost: %v", l.lost)
	}
	repeats := 0
	for _, n := range l.handled {
		repeats += n - 1
	}
	t.Logf("%d sent, %d stored, %d handled, %d repeats", l.n, len(l.stored), len(l.handled), repeats)
	if len(l.stored) < 100 {
		t.Error("too few messages were stored: the run shows nothing")
	}
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// wait waits for d, and reports whether ctx still lives.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// TestKillsOfServersLoseNothing kills a random one of three servers again and
// again while two nodes send and handle: what was stored is handled, and nobody
// is Lost, because nobody dies.
func TestKillsOfServersLoseNothing(t *testing.T) {
	seed := cmp.Or(*seed, rand.Uint64())
	t.Logf("to repeat: -run '^%s$' -kills %d -seed %d", t.Name(), *kills, seed)
	random := rand.New(rand.NewPCG(seed, 0))
	servers := newMachines(t, 3)
	startTogether(t, servers...)
	l := startLoad(t, urls(servers...))
	begin := time.Now()
	for n := range *kills {
		m := servers[random.IntN(3)]
		m.kill()
		// Down for a moment, or for longer than an election takes.
		wait(t.Context(), time.Duration(random.Int64N(int64(8*time.Second)))/time.Duration(1+random.IntN(4)))
		startTogether(t, m)
		if (n+1)%10 == 0 {
			t.Logf("%d kills in %v", n+1, time.Since(begin).Round(time.Second))
		}
	}
	l.progress(t, "messages are stored and handled after the last kill")
	l.verdict(t)
}

// TestClientsFollowServersThatMove replaces -moves of the three servers, one after
// the other, by servers with other names at other addresses; each is lost as soon
// as Remove has returned for the one before. The nodes are told of the first
// three only.
func TestClientsFollowServersThatMove(t *testing.T) {
	servers := newMachines(t, 6)
	now := servers[:3:3]
	startTogether(t, now...)
	l := startLoad(t, urls(now...))
	peers := slices.Clone(servers[0].Peers)
	begin := time.Now()
	step := func(what string) { t.Logf("%v: %s", time.Since(begin).Round(100*time.Millisecond), what) }
	for i, old := range servers[:min(*moves, 3)] {
		l.progress(t, "messages are stored and handled before "+old.Name+" is lost")
		old.kill()
		step(old.Name + " is lost")
		fresh := servers[i+3]
		peers[i] = fresh.Route
		fresh.Peers = slices.Clone(peers)
		startTogether(t, fresh)
		step(fresh.Name + " is there")
		fresh.tell(t, "remove "+old.Name, "removed, of 3")
		step(old.Name + " is removed, and all is copied")
	}
	l.progress(t, "messages are stored and handled by the servers of now")
	// A process that comes later, and calls both ways.
	late := l.join(t, urls(servers[3]), "n3") // knows the first new one only
	for _, c := range []struct {
		from *cluster.Node
		to   string
	}{{late, "n1"}, {late, "n2"}, {l.nodes[0], "n3"}} {
		ctx := within(t, limit)
		if err := c.from.Wait(ctx, func(v cluster.View) bool { _, ok := v.Member(c.to); return ok }); err != nil {
			t.Fatal(err)
		}
		if a, err := cluster.Call(ctx, c.from, cluster.To(c.to), ask{}); err != nil || a.By != c.to {
			t.Errorf("%s asks %s: %+v, %v", c.from.ID(), c.to, a, err)
		}
	}
	l.verdict(t)
}
