package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/catga/catga-go/internal/natstest"
)

// stored is how many messages of the stream S the server itself has.
func stored(t testing.TB, s *Server) uint64 {
	t.Helper()
	account, err := s.inst.srv.JszAccount(&server.JSzOptions{Account: server.DEFAULT_GLOBAL_ACCOUNT, Streams: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, stream := range account.Streams {
		if stream.Name == "S" {
			return stream.State.Msgs
		}
	}
	return 0
}

// All three machines are replaced, each as soon as Remove has returned, or Start
// under the same name: then every server has every message, not only the log of
// those to come.
func TestReplacedMachineHasAllMessages(t *testing.T) {
	for _, again := range []bool{true, false} {
		t.Run(fmt.Sprintf("same name %v", again), func(t *testing.T) { replaceAll(t, again) })
	}
}

func replaceAll(t *testing.T, again bool) {
	const before, each = 200, 10
	cfgs := configs(t, 3)
	for i := range cfgs {
		cfgs[i].Name = fmt.Sprint("m", i+1)
	}
	servers := startAll(t, cfgs)
	js := jetStream(t, natstest.Dial(t, urls(servers...)))
	ctx := within(t, 2*time.Minute)
	st, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}, Replicas: 3, Retention: jetstream.WorkQueuePolicy})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.CreateConsumer(ctx, jetstream.ConsumerConfig{Durable: "c", AckPolicy: jetstream.AckExplicitPolicy}); err != nil {
		t.Fatal(err)
	}
	for i := range before {
		if err := put(ctx, js, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range servers {
		if err := servers[i].Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(cfgs[i].Dir); err != nil { // the disk is gone
			t.Fatal(err)
		}
		lost := cfgs[i].Name
		if !again {
			cfgs[i].Name = fmt.Sprint("m", i+4)
		}
		fresh, err := Start(ctx, cfgs[i])
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = fresh.Close() })
		if !again {
			if err := fresh.Remove(ctx, lost); err != nil {
				t.Fatal(err)
			}
		}
		servers[i] = fresh
		for _, s := range servers {
			if n, want := stored(t, s), uint64(before+i*each); n != want {
				t.Errorf("when %s is replaced, %s has %d of %d messages", lost, s.Name(), n, want)
			}
		}
		// What comes later is no way to have what was there before.
		for n := range each {
			if err := put(ctx, js, fmt.Sprint("more", i, n)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n, want := messages(t, servers[0].Conn()), uint64(before+3*each); n != want {
		t.Errorf("%d of %d messages", n, want)
	}
}

func TestRemoveWithoutANameWaits(t *testing.T) {
	servers := startAll(t, configs(t, 3))
	replicated(t, servers[0].Conn())
	if err := servers[1].Remove(within(t, 30*time.Second)); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := servers[1].Remove(ctx)
	if !errors.Is(err, ErrNotReady) || !errors.Is(err, context.Canceled) {
		t.Errorf("err %v", err)
	}
	// Who closes the server does not wait for it.
	inst := servers[1].inst
	nc, err := inst.system(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := servers[1].Close(); err != nil {
		t.Fatal(err)
	}
	if err := inst.settled(t.Context(), nc, allStreams); !errors.Is(err, ErrClosed) {
		t.Errorf("err %v", err)
	}
}

func TestReplicateReturnsWhenAllIsCopied(t *testing.T) {
	const count = 500
	servers := startAll(t, configs(t, 3))
	js := jetStream(t, servers[0].Conn())
	ctx := within(t, time.Minute)
	st, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}, Retention: jetstream.WorkQueuePolicy})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		cfg := jetstream.ConsumerConfig{Durable: fmt.Sprint("c", i), AckPolicy: jetstream.AckExplicitPolicy, FilterSubject: fmt.Sprint("s.", i)}
		if _, err := st.CreateConsumer(ctx, cfg); err != nil {
			t.Fatal(err)
		}
	}
	for i := range count {
		if err := put(ctx, js, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := servers[0].Replicate(ctx, 3); err != nil {
		t.Fatal(err)
	}
	for _, s := range servers {
		if n := stored(t, s); n != count {
			t.Errorf("%s has %d of %d messages", s.Name(), n, count)
		}
	}
}

func TestWhatIsIncomplete(t *testing.T) {
	// kept are servers that keep a stream of three copies, by what they say.
	kept := func(copies int, told map[string]*server.ClusterInfo, consumer map[string]*server.ClusterInfo) map[string]server.JSInfo {
		all := map[string]server.JSInfo{"a": {}, "b": {}, "c": {}}
		for by, info := range told {
			s := server.StreamDetail{Name: "S", Cluster: info, Config: &server.StreamConfig{Replicas: copies}}
			if c, ok := consumer[by]; ok {
				s.Consumer = []*server.ConsumerInfo{{Name: "c", Cluster: c, Config: &server.ConsumerConfig{Durable: "c"}}}
			}
			all[by] = server.JSInfo{AccountDetails: []*server.AccountDetail{{Name: "$G", Streams: []server.StreamDetail{s}}}}
		}
		return all
	}
	// led is what a member says: who leads, and who the others are.
	led := func(by string, others ...string) *server.ClusterInfo {
		info := &server.ClusterInfo{Leader: by}
		for _, o := range others {
			info.Replicas = append(info.Replicas, &server.PeerInfo{Name: o, Current: true})
		}
		return info
	}
	moving := led("a", "b", "c")
	moving.Desired = &server.DesiredClusterInfo{}
	type said = map[string]*server.ClusterInfo
	full := said{"a": led("a", "b", "c"), "b": led("a", "a", "c"), "c": led("a", "a", "b")}
	for _, c := range []struct {
		name string
		kept map[string]server.JSInfo
		want string
	}{
		{"nothing", kept(3, nil, nil), ""},
		{"all", kept(3, full, full), ""},
		{"one copy", kept(1, said{"b": led("b")}, nil), ""},
		{"more copies than servers", kept(5, full, nil), ""},
		{"no leader", kept(3, said{"a": led("", "b", "c"), "b": led("x", "a", "c")}, nil), "stream S has no leader"},
		{"one is missing", kept(3, said{"a": led("a", "b"), "b": led("a", "a")}, nil), "stream S has 2 of 3 copies"},
		{"one is lost", kept(3, said{"a": led("a", "b", "x"), "b": led("a", "a", "x")}, nil), "stream S has 2 of 3 copies"},
		{"one has not begun", kept(3, said{"a": led("a", "b", "c"), "b": led("a", "a", "c")}, nil), "stream S has 2 of 3 copies"},
		{"on its way", kept(3, said{"a": moving, "b": full["b"], "c": full["c"]}, nil), "stream S is being copied"},
		{"a consumer without a leader", kept(3, full, said{"a": led("", "a")}), "consumer c of stream S has no leader"},
		{"a consumer with fewer copies", kept(3, full, said{"a": led("a", "b"), "b": led("a", "a")}), "consumer c of stream S has 2 of 3 copies"},
	} {
		if got := incomplete(c.kept, allStreams); got != c.want {
			t.Errorf("%s: %q instead of %q", c.name, got, c.want)
		}
	}
	if got := incomplete(kept(3, said{"a": led("")}, nil), func(string) bool { return false }); got != "" {
		t.Errorf("not chosen: %q", got)
	}
	// A long list is cut.
	many := server.AccountDetail{Name: "other"}
	for i := range 5 {
		many.Streams = append(many.Streams, server.StreamDetail{Name: fmt.Sprint("S", i), Cluster: led(""), Config: &server.StreamConfig{Replicas: 3}})
	}
	got := incomplete(map[string]server.JSInfo{"a": {AccountDetails: []*server.AccountDetail{&many}}}, allStreams)
	if !strings.HasPrefix(got, "stream S0 of account other has no leader; ") || !strings.HasSuffix(got, "; and 2 more") {
		t.Errorf("%q", got)
	}
}

func TestCopiesOfAConsumer(t *testing.T) {
	var got []int
	for _, c := range []struct {
		consumer server.ConsumerConfig
		stream   server.StreamConfig
	}{
		{server.ConsumerConfig{Durable: "d"}, server.StreamConfig{Replicas: 3}},
		{server.ConsumerConfig{}, server.StreamConfig{Replicas: 3}},
		{server.ConsumerConfig{}, server.StreamConfig{Replicas: 3, Retention: server.WorkQueuePolicy}},
		{server.ConsumerConfig{Replicas: 1, Durable: "d"}, server.StreamConfig{Replicas: 3}},
		{server.ConsumerConfig{Replicas: 5, Durable: "d"}, server.StreamConfig{Replicas: 3}},
	} {
		got = append(got, consumerCopies(&c.consumer, &c.stream))
	}
	if want := []int{3, 1, 3, 1, 3}; !slices.Equal(got, want) {
		t.Errorf("%v instead of %v", got, want)
	}
}
