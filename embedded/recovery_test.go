package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/catga/catga-go/internal/natstest"
)

// names of the peers, and who of them is there.
func names(t testing.TB, s *Server) (all []string) {
	t.Helper()
	peers, err := s.Peers()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range peers {
		all = append(all, fmt.Sprint(p.Name, " ", p.Online))
	}
	return all
}

func TestLostMachineIsReplaced(t *testing.T) {
	for _, again := range []bool{true, false} {
		t.Run(fmt.Sprintf("same name %v", again), func(t *testing.T) {
			cfgs := configs(t, 3)
			for i := range cfgs {
				cfgs[i].Name = fmt.Sprint("m", i+1)
			}
			servers := startAll(t, cfgs)
			js := replicated(t, servers[0].Conn())
			for i := range 20 {
				if err := put(within(t, 10*time.Second), js, fmt.Sprint(i)); err != nil {
					t.Fatal(err)
				}
			}
			if err := servers[0].Remove(t.Context(), "m3"); !errors.Is(err, ErrPeer) {
				t.Errorf("removed a server that is there: %v", err)
			}
			if err := servers[2].Close(); err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(cfgs[2].Dir); err != nil { // the disk is gone
				t.Fatal(err)
			}
			if !again {
				cfgs[2].Name = "m4"
			}
			replacement, err := Start(within(t, time.Minute), cfgs[2])
			if err != nil {
				t.Fatal(err)
			}
			defer replacement.Close()
			ctx := within(t, 30*time.Second)
			if !again {
				// Any server can, also one that has never met the lost one.
				if err := replacement.Remove(ctx, "m3"); err != nil {
					t.Fatal(err)
				}
			}
			if err := complete(ctx, js, "S", 3); err != nil {
				t.Fatal(err)
			}
			if all := names(t, servers[0]); len(all) != 3 || all[2] != cfgs[2].Name+" true" {
				t.Errorf("peers %v", all)
			}
			if err := servers[0].Remove(ctx, "m3x"); !errors.Is(err, ErrPeer) {
				t.Errorf("err %v", err)
			}
			// The new one counts: it and one other are enough.
			if err := servers[1].Close(); err != nil {
				t.Fatal(err)
			}
			js, err = jetstream.New(natstest.Dial(t, urls(servers[0], replacement)))
			if err != nil {
				t.Fatal(err)
			}
			if err := put(within(t, 20*time.Second), js, "more"); err != nil {
				t.Fatal(err)
			}
			if n := messages(t, js.Conn()); n != 21 {
				t.Errorf("%d messages", n)
			}
		})
	}
}

func TestPeersAreKnownByTheirNames(t *testing.T) {
	peers, err := startAll(t, configs(t, 3))[0].Peers()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range peers {
		if p.ID != peerID(p.Name) || !(Peer{ID: p.ID}).named(p.Name) || p.named("x") || p.named("") {
			t.Errorf("%+v has the id %s", p, peerID(p.Name))
		}
	}
}

func TestRescueAfterMostServersAreLost(t *testing.T) {
	cfgs := configs(t, 3)
	for i := range cfgs {
		cfgs[i].Name = fmt.Sprint("m", i+1)
	}
	servers := startAll(t, cfgs)
	js, err := jetstream.New(servers[0].Conn())
	if err != nil {
		t.Fatal(err)
	}
	if err := servers[0].Rescue(t.Context(), "m2"); !errors.Is(err, ErrPeer) {
		t.Errorf("rescued from a server that is there: %v", err)
	}
	for i := range 2 {
		if err := servers[i+1].Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(cfgs[i+1].Dir); err != nil {
			t.Fatal(err)
		}
	}
	if err := servers[0].Rescue(t.Context(), "m2"); !errors.Is(err, ErrPeer) { // m3 is not named
		t.Errorf("err %v", err)
	}
	if err := servers[0].Remove(within(t, time.Second), "m2"); err == nil {
		t.Error("removed without a majority")
	}
	begin := time.Now()
	if err := servers[0].Rescue(within(t, 40*time.Second), "m2", "m3"); err != nil {
		t.Fatal(err)
	}
	t.Logf("rescued after %v: %v", time.Since(begin), names(t, servers[0]))
	if all := names(t, servers[0]); len(all) != 1 {
		t.Errorf("peers %v", all)
	}
	if _, err := js.CreateStream(within(t, 20*time.Second), jetstream.StreamConfig{Name: "NEW", Subjects: []string{"new"}}); err != nil {
		t.Error(err)
	}
	// New machines in their places make it three again.
	cfgs[1].Name, cfgs[2].Name = "m4", "m5"
	startAll(t, cfgs[1:])
	if err := servers[0].Replicate(within(t, 40*time.Second), 3); err != nil {
		t.Error(err)
	}
}

func TestReplicateLiftsStreamsInUse(t *testing.T) {
	servers := startAll(t, configs(t, 3))
	js, err := jetstream.New(natstest.Dial(t, urls(servers...)))
	if err != nil {
		t.Fatal(err)
	}
	st, err := js.CreateStream(within(t, 10*time.Second), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.CreateConsumer(within(t, 10*time.Second), jetstream.ConsumerConfig{Durable: "C", AckPolicy: jetstream.AckExplicitPolicy}); err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan int)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				stopped <- i
				return
			default:
			}
			if err := put(t.Context(), js, fmt.Sprint(i)); err != nil {
				t.Error(err)
			}
		}
	}()
	begin := time.Now()
	err = servers[0].Replicate(within(t, 30*time.Second), 3)
	t.Logf("three copies after %v", time.Since(begin))
	close(stop)
	n := <-stopped
	if err != nil {
		t.Fatal(err)
	}
	if got := messages(t, js.Conn()); int(got) != n {
		t.Errorf("%d messages of %d", got, n)
	}
	natstest.Eventually(t, "the consumer has three copies", func() bool {
		c, err := js.Consumer(within(t, 10*time.Second), "S", "C")
		return err == nil && c.CachedInfo().Cluster != nil && len(c.CachedInfo().Cluster.Replicas) == 2
	})
	if err := servers[0].Replicate(within(t, 30*time.Second), 5); !errors.Is(err, ErrNotReady) {
		t.Errorf("five copies on three servers: %v", err)
	}
	if err := servers[0].Replicate(t.Context(), 0); !errors.Is(err, ErrConfig) {
		t.Errorf("err %v", err)
	}
}

func TestBackupAloneRestoreInACluster(t *testing.T) {
	alone := start(t, Config{Dir: t.TempDir()})
	js, err := jetstream.New(alone.Conn())
	if err != nil {
		t.Fatal(err)
	}
	st, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "S", Subjects: []string{"s.>"}, Metadata: map[string]string{"a": "b"}, Description: "kept",
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "C", AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		t.Fatal(err)
	}
	const total, acked = 300, 7
	body := make([]byte, 4<<10) // some pieces of chunk
	for i := range total {
		if _, err := js.Publish(t.Context(), fmt.Sprintf("s.%d", i), body); err != nil {
			t.Fatal(err)
		}
	}
	for range acked {
		m, err := c.Next()
		if err != nil {
			t.Fatal(err)
		}
		if err := m.DoubleAck(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "EMPTY", Subjects: []string{"empty"}}); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "b")
	if err := alone.Backup(within(t, 20*time.Second), dir); err != nil {
		t.Fatal(err)
	}
	if err := alone.Backup(t.Context(), dir); !errors.Is(err, ErrBackup) {
		t.Errorf("wrote over a backup: %v", err)
	}
	if err := alone.Restore(within(t, 20*time.Second), dir); !errors.Is(err, ErrBackup) {
		t.Errorf("restored over a stream: %v", err)
	}

	servers := startAll(t, configs(t, 3))
	ctx := within(t, 60*time.Second)
	if err := servers[1].Restore(ctx, dir); err != nil {
		t.Fatal(err)
	}
	if err := servers[1].Replicate(ctx, 3); err != nil {
		t.Fatal(err)
	}
	js, err = jetstream.New(servers[0].Conn())
	if err != nil {
		t.Fatal(err)
	}
	st, err = js.Stream(ctx, "S")
	if err != nil {
		t.Fatal(err)
	}
	info := st.CachedInfo()
	if info.State.Msgs != total || info.Config.Metadata["a"] != "b" || info.Config.Description != "kept" || len(info.Cluster.Replicas) != 2 {
		t.Errorf("restored %+v", info)
	}
	if c, err = st.Consumer(ctx, "C"); err != nil {
		t.Fatal(err)
	}
	if m, err := c.Next(); err != nil {
		t.Error(err)
	} else if m.Subject() != fmt.Sprintf("s.%d", acked) {
		t.Errorf("the consumer goes on at %s", m.Subject())
	}
	if _, err := js.Stream(ctx, "EMPTY"); err != nil {
		t.Error(err)
	}
}

func TestBackupThatIsBroken(t *testing.T) {
	s := start(t, Config{Dir: t.TempDir()})
	js, _ := stream(t, s.Conn(), jetstream.FileStorage)
	if _, err := js.Publish(t.Context(), "s.x", make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(dir string) error{
		"empty":         func(dir string) error { return os.RemoveAll(filepath.Join(dir, "S")) },
		"not complete":  func(dir string) error { return os.Rename(filepath.Join(dir, "S"), filepath.Join(dir, "S.part")) },
		"info missing":  func(dir string) error { return os.Remove(filepath.Join(dir, "S", backupInfo)) },
		"info damaged":  func(dir string) error { return os.WriteFile(filepath.Join(dir, "S", backupInfo), []byte("{"), 0o600) },
		"data damaged":  func(dir string) error { return os.WriteFile(filepath.Join(dir, "S", backupData), []byte("x"), 0o600) },
		"data cut":      func(dir string) error { return os.Truncate(filepath.Join(dir, "S", backupData), 100) },
		"data is empty": func(dir string) error { return os.Truncate(filepath.Join(dir, "S", backupData), 0) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "b")
			if err := s.Backup(within(t, 20*time.Second), dir); err != nil {
				t.Fatal(err)
			}
			if err := spoil(dir); err != nil {
				t.Fatal(err)
			}
			fresh := start(t, Config{Dir: t.TempDir()})
			if err := fresh.Restore(within(t, 20*time.Second), dir); !errors.Is(err, ErrBackup) {
				t.Errorf("err %v", err)
			}
		})
	}
}

func TestNothingToRuleAlone(t *testing.T) {
	s := start(t, Config{})
	if _, err := s.Peers(); !errors.Is(err, ErrNotClustered) {
		t.Errorf("err %v", err)
	}
	if err := s.Remove(t.Context(), "x"); !errors.Is(err, ErrNotClustered) {
		t.Errorf("err %v", err)
	}
	if err := s.Rescue(t.Context(), "x"); !errors.Is(err, ErrNotClustered) {
		t.Errorf("err %v", err)
	}
}
