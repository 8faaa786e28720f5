package soak_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/catga/catga-go/cluster"
	"github.com/catga/catga-go/internal/natstest"
)

// deathLimit is how long after a crash everybody must have seen it although a
// server fails at the same time, or after the only server is back; the median of
// the rounds is held against it, because an election of the servers may fail once.
const deathLimit = 12 * time.Second

// A NATS server fails, and a second later a node crashes: that node is Lost in
// time, and nobody else.
func TestServersThatFailBuryNobody(t *testing.T) {
	for _, tc := range []struct {
		name    string
		servers int
		lasts   time.Duration
		begin   func(t *testing.T, s *natstest.Server)
		end     func(t *testing.T, s *natstest.Server)
	}{
		{"one of three is killed", 3, 5 * time.Second, killServer, restartServer},
		{"one of three is stopped", 3, 7 * time.Second, pauseServer, resumeServer},
		{"the only one restarts with files", 1, 5 * time.Second, killServer, restartServer},
		{"the only one restarts with an empty store", 1, 5 * time.Second, killServer, func(t *testing.T, s *natstest.Server) { s.RestartEmpty(t) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if testing.Short() && tc.servers > 1 {
				t.Skip("short: one server only")
			}
			if *members < 20 {
				t.Parallel() // more of them have the machine for themselves
			}
			var servers []*natstest.Server
			if tc.servers == 1 {
				servers = append(servers, natstest.Start(t))
			} else {
				servers = natstest.StartCluster(t, tc.servers).Servers
			}
			c := newCrowd(t, servers, *members)
			var times []time.Duration
			for round := range *rounds {
				target := c.target(round)
				times = append(times, c.round(t, round, func() {
					tc.begin(t, target)
				}, tc.lasts, func() {
					tc.end(t, target)
				}))
			}
			slices.Sort(times)
			median := (times[(len(times)-1)/2] + times[len(times)/2]) / 2
			t.Logf("%d rounds with %d nodes: nobody else Lost; the crash seen by all after %v, median %v, worst %v",
				len(times), *members, times[0].Round(time.Millisecond), median.Round(time.Millisecond), times[len(times)-1].Round(time.Millisecond))
			if median > deathLimit {
				t.Errorf("the crash was seen by all after %v (median), %v at most", median, deathLimit)
			}
		})
	}
}

func killServer(_ *testing.T, s *natstest.Server)    { s.Kill() }
func restartServer(t *testing.T, s *natstest.Server) { s.Restart(t) }
func pauseServer(_ *testing.T, s *natstest.Server)   { s.Pause() }
func resumeServer(_ *testing.T, s *natstest.Server)  { s.Resume() }

// crowd is many members in this process, each with a connection of its own.
type crowd struct {
	world *world
	nodes []*cluster.Node
	ids   []string
	lives map[string]uint64

	mu   sync.Mutex
	lost []cluster.Member // of the crowd: false deaths
}

func newCrowd(t *testing.T, servers []*natstest.Server, n int) *crowd {
	t.Helper()
	c := &crowd{world: newWorld(t, "rounds", servers, 1), lives: map[string]uint64{}}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	t.Cleanup(func() { cancel(); wg.Wait() })
	for i := range n {
		var opts []nats.Option
		if len(servers) == 1 && i%3 == 0 {
			opts = append(opts, nats.ReconnectWait(2*time.Second)) // as nats.go has it by itself
		}
		// All know all servers; each begins at one of them.
		urls := slices.Concat(servers[i%len(servers):], servers[:i%len(servers)])
		var list []string
		for _, s := range urls {
			list = append(list, s.URL())
		}
		nc := natstest.Dial(t, strings.Join(list, ","), append(opts, nats.DontRandomize())...)
		id := fmt.Sprintf("m%02d", i)
		node, err := cluster.New(nc, cluster.Config{Cluster: "rounds", Node: id})
		if err != nil {
			t.Fatal(err)
		}
		if err := node.Join(ctx); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = node.Close() })
		c.nodes, c.ids = append(c.nodes, node), append(c.ids, id)
		c.lives[id] = node.Self().Incarnation
		wg.Go(func() {
			for e := range node.Watch(ctx) {
				if e.Kind == cluster.Lost && strings.HasPrefix(e.Member.ID, "m") {
					c.mu.Lock()
					c.lost = append(c.lost, e.Member)
					c.mu.Unlock()
				}
			}
		})
	}
	return c
}

// target is the server that fails in a round: in every other one that of the
// leader of the record stream.
func (c *crowd) target(round int) *natstest.Server {
	servers := c.world.servers
	t := c.world.t
	if len(servers) == 1 {
		return servers[0]
	}
	js, err := jetstream.New(natstest.Dial(t, servers[0].URL()+","+servers[1].URL()+","+servers[2].URL()))
	if err != nil {
		t.Fatal(err)
	}
	leader := ""
	natstest.Eventually(t, "there is a leader", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		s, err := js.Stream(ctx, "KV_catga_rounds")
		if err != nil || s.CachedInfo().Cluster == nil {
			return false
		}
		leader = s.CachedInfo().Cluster.Leader
		return leader != ""
	})
	for i, s := range servers {
		if (s.Name() == leader) == (round%2 == 0) {
			return servers[i]
		}
	}
	panic("no such server")
}

// round has a server fail for a time and the victim crash a second later. It
// returns how long after the crash, or the return of the only server, everybody
// had seen it.
func (c *crowd) round(t *testing.T, round int, begin func(), lasts time.Duration, end func()) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	victim := c.world.nodes[0]
	c.world.spawn(victim)
	all := append(slices.Clone(c.ids), victim.id)
	for _, n := range c.nodes {
		c.sees(ctx, t, n, all)
	}
	begin()
	<-time.After(time.Second)
	p := victim.proc
	p.kill()
	<-p.done
	crashed := time.Now()
	if len(c.world.servers) == 1 {
		// Nothing can be seen before the only server is back.
		crashed = crashed.Add(lasts - time.Second)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var last time.Duration
	for _, n := range c.nodes {
		wg.Go(func() {
			c.sees(ctx, t, n, c.ids)
			mu.Lock()
			defer mu.Unlock()
			last = max(last, time.Since(crashed))
		})
	}
	<-time.After(lasts - time.Second)
	end()
	wg.Wait()
	for _, n := range c.nodes {
		if err := n.Wait(ctx, func(v cluster.View) bool { return !v.Stale }); err != nil {
			t.Fatalf("%s stays stale: %v", n.ID(), err)
		}
		if got := n.Self().Incarnation; got != c.lives[n.ID()] {
			t.Errorf("round %d: %s has incarnation %d, had %d", round, n.ID(), got, c.lives[n.ID()])
			c.lives[n.ID()] = got
		}
	}
	for _, s := range c.world.servers {
		s.WaitReady(t)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.lost {
		t.Errorf("round %d: %s/%d was Lost (%s by %s) and lives", round, m.ID, m.Incarnation, m.Reason, m.By)
	}
	c.lost = nil
	t.Logf("round %d: the crash was seen by all after %v", round, last.Round(time.Millisecond))
	return last
}

func (c *crowd) sees(ctx context.Context, t *testing.T, n *cluster.Node, ids []string) {
	t.Helper()
	err := n.Wait(ctx, func(v cluster.View) bool {
		return slices.EqualFunc(v.Members, ids, func(m cluster.Member, id string) bool { return m.ID == id })
	})
	if err != nil {
		t.Errorf("%s does not see %v: %v", n.ID(), ids, err)
	}
}
