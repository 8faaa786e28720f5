package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/catga/catga-go/internal/natstest"
)

// configs are the configurations of a cluster of n servers in this process.
func configs(t testing.TB, n int) []Config {
	t.Helper()
	peers := natstest.Addrs(t, n)
	root := t.TempDir()
	var cfgs []Config
	for i, p := range peers {
		cfgs = append(cfgs, Config{
			Dir:     filepath.Join(root, fmt.Sprint("m", i+1)),
			Cluster: Cluster{Name: "test", Addr: p, Peers: peers},
		})
	}
	return cfgs
}

// startAll starts servers side by side, as machines that are switched on
// together. They end with the test.
func startAll(t testing.TB, cfgs []Config) []*Server {
	t.Helper()
	ctx := within(t, time.Minute)
	servers := make([]*Server, len(cfgs))
	var wg sync.WaitGroup
	for i, cfg := range cfgs {
		wg.Go(func() {
			s, err := Start(ctx, cfg)
			if err != nil {
				t.Errorf("server %d: %v", i+1, err)
				return
			}
			servers[i] = s
		})
	}
	wg.Wait()
	for _, s := range servers {
		if s != nil {
			t.Cleanup(func() { _ = s.Close() }) // some are closed by the test
		}
	}
	if t.Failed() {
		t.FailNow()
	}
	return servers
}

// urls of the listeners, for clients.
func urls(servers ...*Server) string {
	var all []string
	for _, s := range servers {
		all = append(all, s.ClientURL())
	}
	return strings.Join(all, ",")
}

func jetStream(t testing.TB, nc *nats.Conn) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// replicated makes the stream S with three replicas.
func replicated(t testing.TB, nc *nats.Conn) jetstream.JetStream {
	t.Helper()
	js := jetStream(t, nc)
	if _, err := js.CreateStream(within(t, 10*time.Second), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}, Replicas: 3}); err != nil {
		t.Fatal(err)
	}
	return js
}

// put publishes with an id until it is stored.
func put(ctx context.Context, js jetstream.JetStream, id string) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, time.Second)
		_, err := js.Publish(attempt, "s.x", []byte(id), jetstream.WithMsgID(id), jetstream.WithRetryAttempts(0))
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
		pause := time.NewTimer(20 * time.Millisecond)
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
	}
}

func TestThreeServersAreWritableAndReplicated(t *testing.T) {
	cfgs := configs(t, 3)
	begin := time.Now()
	servers := startAll(t, cfgs)
	took := time.Since(begin)
	t.Logf("writable after %v", took)
	js := replicated(t, servers[0].Conn())
	if err := put(within(t, 10*time.Second), js, "1"); err != nil {
		t.Fatal(err)
	}
	st, err := js.Stream(t.Context(), "S")
	if err != nil {
		t.Fatal(err)
	}
	if c := st.CachedInfo().Cluster; c == nil || len(c.Replicas) != 2 {
		t.Errorf("cluster %+v", c)
	}
	for _, s := range servers { // each server serves what is stored anywhere
		nc := natstest.Dial(t, s.ClientURL())
		if n := messages(t, nc); n != 1 {
			t.Errorf("%d messages", n)
		}
	}
}

func TestOneOfThreeStoppedAndTwoStopped(t *testing.T) {
	cfgs := configs(t, 3)
	servers := startAll(t, cfgs)
	nc := natstest.Dial(t, urls(servers...))
	js := replicated(t, nc)
	if err := put(within(t, 10*time.Second), js, "1"); err != nil {
		t.Fatal(err)
	}
	if err := servers[0].Close(); err != nil {
		t.Fatal(err)
	}
	if err := put(within(t, 20*time.Second), js, "2"); err != nil { // goes on with two
		t.Fatal(err)
	}
	if err := servers[1].Close(); err != nil {
		t.Fatal(err)
	}
	if err := put(within(t, 3*time.Second), js, "3"); err == nil { // stops with one
		t.Fatal("stored by one of three")
	}
	back, err := Start(within(t, time.Minute), cfgs[0])
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	if err := put(within(t, 20*time.Second), js, "3"); err != nil {
		t.Fatal(err)
	}
	if n := messages(t, nc); n != 3 {
		t.Errorf("%d messages", n)
	}
}

func TestStartSaysWhichPeersAreMissing(t *testing.T) {
	cfg := configs(t, 3)[0]
	_, err := Start(within(t, time.Second), cfg)
	if !errors.Is(err, ErrNotReady) || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("err %v", err)
	}
	for i, p := range cfg.Cluster.Peers {
		if named := strings.Contains(err.Error(), p+" (connect: connection refused)"); named != (i > 0) {
			t.Errorf("peer %d named: %v: %v", i, named, err)
		}
	}
	// Nothing is left behind.
	_, err = Start(within(t, time.Second), cfg)
	if !errors.Is(err, ErrNotReady) {
		t.Errorf("err %v", err)
	}
}

func TestPeersOfAnotherCluster(t *testing.T) {
	cfgs := configs(t, 3)
	cfgs[1].Cluster.Name, cfgs[2].Cluster.Name = "other", "other"
	cfgs[1].Cluster.Secret, cfgs[2].Cluster.Secret = "s", "s"
	err := startFails(t, cfgs)[0]
	if !errors.Is(err, ErrNotReady) || !strings.Contains(err.Error(), "compare Cluster.Name, Secret and TLS") {
		t.Errorf("err %v", err)
	}
}

// startFails starts servers that do not find together, and returns their errors.
// The first one gives up while the others are still there.
func startFails(t *testing.T, cfgs []Config) []error {
	t.Helper()
	errs := make([]error, len(cfgs))
	var wg sync.WaitGroup
	for i, cfg := range cfgs {
		wg.Go(func() {
			limit := 4 * time.Second
			if i > 0 {
				limit *= 2
			}
			var s *Server
			if s, errs[i] = Start(within(t, limit), cfg); errs[i] == nil {
				t.Errorf("server %d is ready", i+1)
				_ = s.Close()
			}
		})
	}
	wg.Wait()
	return errs
}

func TestClusterPortTaken(t *testing.T) {
	cfg := configs(t, 3)[0]
	l, err := net.Listen("tcp", cfg.Cluster.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = Start(within(t, 20*time.Second), cfg)
	if !errors.Is(err, ErrAddrInUse) || !strings.Contains(err.Error(), cfg.Cluster.Addr) {
		t.Errorf("err %v", err)
	}
}

func TestTwoServersWithOneName(t *testing.T) {
	cfgs := configs(t, 3)
	cfgs[0].Name, cfgs[1].Name, cfgs[2].Name = "a", "b", "b"
	err := errors.Join(startFails(t, cfgs)[1:]...)
	if !errors.Is(err, ErrNotReady) || !strings.Contains(err.Error(), "duplicate name: \"b\": give each server a Name") {
		t.Errorf("err %v", err)
	}
}

func TestClusterDirRefusesAnotherMode(t *testing.T) {
	cfgs := configs(t, 3)
	servers := startAll(t, cfgs)
	name := servers[0].Name()
	for _, s := range servers {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	alone, renamed, moved := cfgs[0], cfgs[0], cfgs[0]
	alone.Cluster = Cluster{}
	renamed.Cluster.Name = "other"
	moved.Name = "other"
	for _, cfg := range []Config{alone, renamed, moved} {
		if _, err := Start(within(t, 10*time.Second), cfg); !errors.Is(err, ErrDirMode) {
			t.Errorf("err %v", err)
		}
	}
	dir := t.TempDir()
	s := start(t, Config{Dir: dir})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	one := cfgs[0]
	one.Dir = dir
	_, err := Start(within(t, 10*time.Second), one)
	if !errors.Is(err, ErrDirMode) || !strings.Contains(err.Error(), "Server.Backup") || !strings.Contains(err.Error(), "Server.Restore") {
		t.Errorf("err %v", err)
	}
	if again := startAll(t, cfgs)[0].Name(); again != name {
		t.Errorf("name %q, then %q", name, again)
	}
}
