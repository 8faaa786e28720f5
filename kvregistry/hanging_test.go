package kvregistry

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/natstest"
	"github.com/catga/catga-go/internal/opening"
)

// One of three servers stands still, and a's connection to a healthy one is
// dropped: a tries the one that stands still first, and is back in time all the
// same. With the stock dialer of nats.go it is away for two seconds, and says so.
func TestDroppedConnectionBesideAStoppedServerLosesNobody(t *testing.T) {
	if testing.Short() {
		t.Skip("short: needs three servers")
	}
	for _, tc := range []struct {
		name  string
		drops int
		opts  []nats.Option
	}{
		{"as cluster.Dial", 6, nil},
		{"stock dialer", 1, []nats.Option{nats.SetCustomDialer(nil)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			servers := natstest.StartCluster(t, 3).Servers
			// Whoever keeps the records goes on: a verdict could be written at once.
			seer := join(t, natstest.Dial(t, servers[0].URL()), Config{Node: "b"})
			leader := leaderOf(t, seer)
			if err := seer.Leave(t.Context()); err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(servers, func(s *natstest.Server) bool { return s.Name() == leader })
			servers = slices.Concat(servers[i:], servers[:i])
			first, third := natstest.NewProxy(t, servers[0].URL()), natstest.NewProxy(t, servers[2].URL())
			urls := strings.Join([]string{first.URL(), servers[1].URL(), third.URL()}, ",")
			nc := natstest.Dial(t, urls, append([]nats.Option{nats.DontRandomize(), nats.IgnoreDiscoveredServers()}, tc.opts...)...)
			a := join(t, nc, Config{Node: "a"})
			c := join(t, natstest.Dial(t, servers[0].URL(), nats.IgnoreDiscoveredServers()), Config{Node: "c"})
			d := join(t, natstest.Dial(t, servers[2].URL(), nats.IgnoreDiscoveredServers()), Config{Node: "d"})
			for _, r := range []*Registry{a, c, d} {
				waitFor(t, r, "a", "c", "d")
			}
			check := unharmed(t, c, a)
			grace := a.session.own.rec.grace()
			servers[1].Pause()
			defer servers[1].Resume()
			for range tc.drops {
				before, begin := nc.Stats().Reconnects, time.Now()
				first.Drop()
				third.Drop()
				natstest.Eventually(t, "connected again", func() bool { return nc.IsConnected() && nc.Stats().Reconnects > before })
				t.Logf("away for %v", time.Since(begin).Round(time.Millisecond))
			}
			// Until whoever held something against it would have said so.
			<-time.After(grace + time.Second)
			servers[1].Resume()
			check()
		})
	}
}

// leaderOf is the name of the server that leads the records.
func leaderOf(t testing.TB, r *Registry) (leader string) {
	t.Helper()
	natstest.Eventually(t, "the records have a leader", func() bool {
		stream, err := r.session.store.js.Stream(t.Context(), r.session.store.cluster.RecordStream())
		if err != nil || stream.CachedInfo().Cluster == nil {
			return false
		}
		leader = stream.CachedInfo().Cluster.Leader
		return leader != ""
	})
	return leader
}

func TestGraceCountsServersThatMayStandStill(t *testing.T) {
	brisk := &opening.Dialer{Timeout: time.Minute}
	pause := func(d time.Duration) []nats.Option {
		return []nats.Option{nats.ReconnectWait(d), nats.ReconnectJitter(0, 0)}
	}
	one := natstest.Start(t).URL()
	for _, tc := range []struct {
		name string
		url  string
		opts []nats.Option
		want time.Duration
	}{
		{"one server", one, pause(50 * time.Millisecond), minGrace},
		{"one server, long pauses", one, pause(time.Second), 3 * time.Second},
		{"two servers, a dialer that does not wait", one + ",nats://127.0.0.1:1", append(pause(50*time.Millisecond), nats.SetCustomDialer(brisk)), minGrace},
		{"two servers, the stock dialer", one + ",nats://127.0.0.1:1", pause(50 * time.Millisecond), nats.DefaultTimeout + 100*time.Millisecond},
		{"two servers, the stock dialer, long pauses", one + ",nats://127.0.0.1:1", pause(3 * time.Second), 9 * time.Second},
	} {
		nc, err := nats.Connect(tc.url, append(tc.opts, nats.DontRandomize())...)
		if err != nil {
			t.Fatal(err)
		}
		if got := graceOf(nc); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
		closed := nc.StatusChanged(nats.CLOSED)
		nc.Close()
		<-closed
	}
}
