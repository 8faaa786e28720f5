package natstest_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/catga/catga-go/internal/natstest"
)

func TestMain(m *testing.M) { natstest.Main(m) }

// put publishes one message; an election of several seconds is waited for.
func put(t *testing.T, js jetstream.JetStream) (err error) {
	t.Helper()
	// A publish fails at once while the connection is away.
	for start := time.Now(); time.Since(start) < time.Minute; {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		_, err = js.Publish(ctx, "a", []byte("x"), jetstream.WithRetryAttempts(8))
		cancel()
		if err == nil {
			return nil
		}
		<-time.After(50 * time.Millisecond)
	}
	return err
}

func TestServerKeepsItsStoreOverKillAndRestart(t *testing.T) {
	s := natstest.Start(t)
	nc := natstest.Dial(t, s.URL())
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "A", Subjects: []string{"a"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := put(t, js); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	s.Restart(t)
	natstest.Eventually(t, "reconnected", nc.IsConnected)
	info, err := stream.Info(t.Context())
	if err != nil || info.State.Msgs != 1 {
		t.Fatal(info, err)
	}
	s.RestartEmpty(t)
	natstest.Eventually(t, "reconnected", nc.IsConnected)
	if _, err := js.Stream(t.Context(), "A"); err == nil {
		t.Fatal("the stream survived an empty store")
	}
}

func TestClusterReplicates(t *testing.T) {
	c := natstest.StartCluster(t, 3)
	js, err := jetstream.New(natstest.Dial(t, c.URL()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "A", Subjects: []string{"a"}, Replicas: 3}); err != nil {
		t.Fatal(err)
	}
	if err := put(t, js); err != nil {
		t.Fatal(err)
	}
	c.Servers[0].Kill()
	if err := put(t, js); err != nil {
		t.Fatal("one of three is down:", err)
	}
	c.Servers[0].Restart(t)
}

func TestBubbleRunsAServerUnderFakeTime(t *testing.T) {
	for range 3 {
		natstest.Bubble(t, func(t *testing.T) {
			js, err := jetstream.New(natstest.Memory(t).Dial(t))
			if err != nil {
				t.Fatal(err)
			}
			stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
				Name: "A", Subjects: []string{"a"}, Storage: jetstream.MemoryStorage, MaxAge: time.Hour,
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := put(t, js); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			time.Sleep(2 * time.Hour)
			if d := time.Since(start); d != 2*time.Hour {
				t.Fatal(d)
			}
			info, err := stream.Info(t.Context())
			if err != nil || info.State.Msgs != 0 {
				t.Fatal(info, err)
			}
		})
	}
}

func TestProxyHoldsWhatIsSent(t *testing.T) {
	s := natstest.Start(t)
	p := natstest.NewProxy(t, s.URL())
	held := natstest.Dial(t, p.URL())
	direct := natstest.Dial(t, s.URL())
	got, err := direct.SubscribeSync("a")
	if err != nil {
		t.Fatal(err)
	}
	if err := direct.Flush(); err != nil {
		t.Fatal(err)
	}
	p.Hold()
	if err := held.Publish("a", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := held.FlushTimeout(200 * time.Millisecond); err == nil {
		t.Fatal("an answer came through")
	}
	if n, _, _ := got.Pending(); n != 0 || !held.IsConnected() {
		t.Fatalf("%d messages came through, connected: %v", n, held.IsConnected())
	}
	p.Release()
	if _, err := got.NextMsg(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	p.Drop()
	natstest.Eventually(t, "connected again", func() bool { return held.Stats().Reconnects == 1 && held.IsConnected() })
}
