package kvregistry

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/catga/catga-go/internal/natstest"
	"github.com/nats-io/nats.go"
)

// Nodes come, change, leave, crash and come back, all at once. Every watcher
// sees each incarnation begin once and end once, in order, and ends with the
// truth; whoever has not crashed is never Lost.
func TestChurn(t *testing.T) {
	mem := natstest.Memory(t)
	seers := []*Registry{join(t, mem.Dial(t), Config{Node: "seer-1"}), join(t, mem.Dial(t), Config{Node: "seer-2"})}
	type seen struct {
		mu     sync.Mutex
		events []Event
	}
	logs := make([]*seen, len(seers))
	var watching, working sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for i, r := range seers {
		log := &seen{}
		logs[i] = log
		watching.Go(func() {
			for e := range r.Watch(ctx) {
				log.mu.Lock()
				log.events = append(log.events, e)
				log.mu.Unlock()
			}
		})
	}
	const nodes, lives = 12, 6
	crashed := make([]map[uint64]bool, nodes)
	for n := range nodes {
		crashed[n] = map[uint64]bool{}
		conns := make([]*nats.Conn, lives)
		for i := range conns {
			conns[i] = mem.Dial(t)
		}
		working.Go(func() {
			for i, nc := range conns {
				r, err := New(nc, Config{Cluster: "test", Node: fmt.Sprintf("n%d", n), Log: testLog(fmt.Sprint(n))})
				if err != nil {
					t.Error(err)
					return
				}
				if err := r.Join(t.Context()); err != nil {
					t.Errorf("n%d life %d: %v", n, i, err)
					return
				}
				if err := r.SetMetadata(t.Context(), map[string]string{"life": fmt.Sprint(i)}); err != nil {
					t.Errorf("n%d life %d: %v", n, i, err)
				}
				switch (n + i) % 3 {
				case 0:
					if err := r.Leave(t.Context()); err != nil {
						t.Errorf("n%d life %d: %v", n, i, err)
					}
				case 1:
					if err := r.Close(); err != nil {
						t.Error(err)
					}
				case 2:
					crashed[n][r.Self().Incarnation] = true
					nc.Close()
					<-r.Done()
				}
			}
		})
	}
	working.Wait()
	for _, r := range seers {
		waitFor(t, r, "seer-1", "seer-2")
	}
	a, b := seers[0].View(), seers[1].View()
	if a.Revision != b.Revision || !slices.Equal(ids(a.Offline), ids(b.Offline)) || len(a.Offline) != nodes {
		t.Errorf("views differ: %d %v, %d %v", a.Revision, ids(a.Offline), b.Revision, ids(b.Offline))
	}
	cancel()
	watching.Wait()
	for _, log := range logs {
		checkOrder(t, log.events)
		for _, e := range log.events {
			var n int
			if _, err := fmt.Sscanf(e.Member.ID, "n%d", &n); err != nil {
				continue
			}
			if e.Kind == Lost && !crashed[n][e.Member.Incarnation] {
				t.Errorf("%s.%d was Lost (%s) and had not crashed", e.Member.ID, e.Member.Incarnation, e.Member.Reason)
			}
		}
	}
}
