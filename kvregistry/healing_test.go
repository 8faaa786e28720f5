package kvregistry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/natstest"
)

// unharmed watches r from now on; what it returns checks that nobody's life
// ended or began meanwhile: the next news is that of a change of a's metadata.
func unharmed(t testing.TB, r, a *Registry) (check func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	events := watch(ctx, r)
	for e := range events {
		if e.Kind == Synced {
			break
		}
	}
	incarnation := a.Self().Incarnation
	return func() {
		t.Helper()
		waitFresh(t, r)
		if err := a.SetMetadata(t.Context(), map[string]string{"healed": "yes"}); err != nil {
			t.Fatal(err)
		}
		if m := nextIs(t, events, Updated, "a"); m.Incarnation != incarnation {
			t.Errorf("incarnation %d, was %d", m.Incarnation, incarnation)
		}
	}
}

// valve is a server in this process that can be cut off.
type valve struct {
	server nats.InProcessConnProvider

	mu    sync.Mutex
	shut  bool
	conns []net.Conn
}

func (v *valve) InProcessConn() (net.Conn, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.shut {
		return nil, errors.New("the valve is shut")
	}
	conn, err := v.server.InProcessConn()
	if err == nil {
		v.conns = append(v.conns, conn)
	}
	return conn, err
}

func (v *valve) set(shut bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.shut = shut
	for _, conn := range v.conns {
		if shut {
			_ = conn.Close()
		}
	}
}

// NATS cannot be reached for minutes: the views stay and say that they are
// stale, and afterwards everybody is who they were.
func TestNATSGoneForMinutes(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		mem := natstest.Memory(t)
		v := &valve{server: mem.Server}
		var members []*Registry
		var lives []uint64
		for _, id := range []string{"a", "b", "c", "d", "e"} {
			members = append(members, join(t, natstest.Dial(t, "", nats.InProcessServer(v)), Config{Node: id}))
			lives = append(lives, members[len(members)-1].Self().Incarnation)
		}
		a, b := members[0], members[1]
		for _, r := range members {
			waitFor(t, r, "a", "b", "c", "d", "e")
		}
		check := unharmed(t, b, a)
		begin := time.Now()
		v.set(true)
		time.Sleep(15 * time.Minute)
		for _, r := range members {
			if st := r.Status(); !st.Stale || !st.Ready || st.StaleSince.Sub(begin) > time.Second {
				t.Errorf("%s: %+v after 15 minutes", r.ID(), st)
			}
			if got := ids(r.Members()); len(got) != len(members) {
				t.Errorf("%s sees %v without NATS", r.ID(), got)
			}
		}
		v.set(false)
		time.Sleep(time.Minute)
		for i, r := range members {
			if st := r.Status(); st.Stale || !st.Armed || st.Incarnation != lives[i] {
				t.Errorf("%s: %+v a minute later, was incarnation %d", r.ID(), st, lives[i])
			}
		}
		check()
	})
}

// The server that a node is connected to goes for good: it goes on with another.
func TestReconnectToAnotherServerLosesNobody(t *testing.T) {
	if testing.Short() {
		t.Skip("short: needs three servers")
	}
	for _, how := range []struct {
		name string
		do   func(*natstest.Server)
	}{
		{"killed", (*natstest.Server).Kill},
		{"lame duck", (*natstest.Server).LameDuck},
	} {
		t.Run(how.name, func(t *testing.T) {
			servers := natstest.StartCluster(t, 3).Servers
			var members []*Registry
			for i, id := range []string{"a", "b", "c"} {
				var urls []string
				for j := range servers {
					urls = append(urls, servers[(i+j)%3].URL())
				}
				members = append(members, join(t, natstest.Dial(t, strings.Join(urls, ","), nats.DontRandomize()), Config{Node: id}))
			}
			for _, r := range members {
				waitFor(t, r, "a", "b", "c")
			}
			a := members[0]
			check := unharmed(t, members[1], a)
			before := a.nc.ConnectedServerId()
			how.do(servers[0])
			natstest.Eventually(t, "a is connected to another server", func() bool {
				return a.nc.IsConnected() && a.nc.ConnectedServerId() != before
			})
			natstest.Eventually(t, "a is armed and in the store", func() bool {
				return a.Check(t.Context()) == nil && a.Status().Armed
			})
			check()
		})
	}
}

// An operator kicks a's connection, as `nats server request kick` does.
func TestKickedConnectionLosesNobody(t *testing.T) {
	server := natstest.Start(t, natstest.ConfigText(`
accounts {
  app { jetstream: enabled, users: [{user: app, password: p}] }
  SYS { users: [{user: sys, password: p}] }
}
system_account: SYS`))
	nc := natstest.Dial(t, server.URL(), nats.UserInfo("app", "p"))
	a := join(t, nc, Config{Node: "a"})
	b := join(t, natstest.Dial(t, server.URL(), nats.UserInfo("app", "p")), Config{Node: "b"})
	waitFor(t, b, "a", "b")
	check := unharmed(t, b, a)
	sys := natstest.Dial(t, server.URL(), nats.UserInfo("sys", "p"))
	for round := range 3 {
		cid, err := nc.GetClientID()
		if err != nil {
			t.Fatal(err)
		}
		subject := "$SYS.REQ.SERVER." + nc.ConnectedServerId() + ".KICK"
		if _, err := sys.RequestWithContext(t.Context(), subject, fmt.Appendf(nil, `{"cid": %d}`, cid)); err != nil {
			t.Fatal(err)
		}
		natstest.Eventually(t, "connected again", func() bool { return nc.IsConnected() && nc.Stats().Reconnects > uint64(round) })
	}
	check()
}
