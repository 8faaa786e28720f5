package kvregistry

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/natstest"
)

func TestLightMemberIsSeenLikeAnyOther(t *testing.T) {
	mem := natstest.Memory(t)
	full := join(t, mem.Dial(t), Config{Node: "full"})
	light := join(t, mem.Dial(t), Config{Node: "light", Light: true, Metadata: map[string]string{"k": "v"}})
	waitFor(t, full, "full", "light")
	m, _ := full.View().Member("light")
	if !m.Light || m.Metadata["k"] != "v" || m.Incarnation != light.Self().Incarnation {
		t.Fatalf("%+v", m)
	}
	if err := light.SetMetadata(t.Context(), map[string]string{"k": "w"}); err != nil {
		t.Fatal(err)
	}
	err := full.Wait(t.Context(), func(v View) bool { m, _ := v.Member("light"); return m.Metadata["k"] == "w" })
	if err != nil {
		t.Fatal(err)
	}
	if st := light.Status(); !st.Ready || !st.Armed || st.Revision != 0 {
		t.Errorf("%+v", st)
	}
	if light.session.holding() {
		t.Error("it holds a view that nobody wanted")
	}
	if err := light.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	waitFor(t, full, "full")
}

func TestLightMemberHoldsAViewWhenItIsRead(t *testing.T) {
	mem := natstest.Memory(t)
	join(t, mem.Dial(t), Config{Node: "full"})
	light := join(t, mem.Dial(t), Config{Node: "light", Light: true})
	if v := light.View(); !v.Stale || len(v.Members) > 0 {
		t.Errorf("the first view is %+v", v)
	}
	waitFor(t, light, "full", "light")
	// From now on it follows, and its revision is told.
	other := join(t, mem.Dial(t), Config{Node: "other"})
	waitFor(t, light, "full", "light", "other")
	if light.View().Stale || light.Status().Revision < other.Self().Incarnation {
		t.Errorf("%+v", light.View())
	}
	waitFor(t, other, "full", "light", "other")
	// It still guards nobody, so nobody counts on it.
	if light.session.member {
		t.Error("it watches others")
	}
	// Wanted before Join: it has one when Join returns.
	early, err := New(mem.Dial(t), Config{Cluster: "test", Node: "early", Light: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = early.Close() })
	early.Members()
	if err := early.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := ids(early.Members()); !slices.Equal(got, []string{"early", "full", "light", "other"}) {
		t.Errorf("%v", got)
	}
}

func TestLightObserverReadsWhenItIsAsked(t *testing.T) {
	mem := natstest.Memory(t)
	join(t, mem.Dial(t), Config{Node: "full"})
	o, err := New(mem.Dial(t), Config{Cluster: "test", Light: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = o.Close() })
	if err := o.Observe(t.Context()); err != nil {
		t.Fatal(err)
	}
	if o.session.holding() {
		t.Error("it holds a view that nobody wanted")
	}
	waitFor(t, o, "full")
}

// Among many light members a few that guard see each crash.
func TestCrashOfLightMembersIsSeen(t *testing.T) {
	server := natstest.Start(t)
	var full []*Registry
	for i := range 4 {
		full = append(full, join(t, natstest.Dial(t, server.URL()), Config{Node: fmt.Sprintf("full-%d", i)}))
	}
	var ncs []*nats.Conn
	for i := range 12 {
		nc := natstest.Dial(t, server.URL())
		join(t, nc, Config{Node: fmt.Sprintf("light-%02d", i), Light: true})
		ncs = append(ncs, nc)
	}
	for _, r := range full {
		err := r.Wait(t.Context(), func(v View) bool { return len(v.Members) == 16 })
		if err != nil {
			t.Fatal(err)
		}
	}
	begin := time.Now()
	for _, nc := range ncs[:6] {
		nc.Close()
	}
	for _, r := range full {
		err := r.Wait(t.Context(), func(v View) bool { return len(v.Members) == 10 })
		if err != nil {
			t.Fatal(err)
		}
	}
	took := time.Since(begin)
	t.Logf("six crashes seen by all after %v", took)
	if took > 2*time.Second {
		t.Errorf("seen by all after %v", took)
	}
	for _, m := range full[0].View().Offline {
		if m.Reason != ReasonCrashed || !m.Light {
			t.Errorf("%+v", m)
		}
	}
}

// What a light member does not see it must not need: its record comes back
// without a view.
func TestLightMemberHealsItsRecord(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		mem := natstest.Memory(t)
		light := join(t, mem.Dial(t), Config{Node: "light", Light: true})
		st := light.session.store
		first := light.Self().Incarnation
		for name, spoil := range map[string]func() error{
			"deleted": func() error {
				msg := nats.NewMsg(st.cluster.RecordSubject("light"))
				msg.Header.Set("KV-Operation", "DEL")
				_, err := st.js.PublishMsg(t.Context(), msg)
				return err
			},
			"rubbish": func() error {
				_, err := st.js.Publish(t.Context(), st.cluster.RecordSubject("light"), []byte("what?"))
				return err
			},
			"bucket deleted": func() error { return st.js.DeleteStream(t.Context(), st.cluster.RecordStream()) },
			"both buckets deleted": func() error {
				if err := st.js.DeleteStream(t.Context(), st.cluster.BeatStream()); err != nil {
					return err
				}
				return st.js.DeleteStream(t.Context(), st.cluster.RecordStream())
			},
		} {
			before := light.session.own.stored.Load()
			if err := spoil(); err != nil {
				t.Fatal(name, err)
			}
			begin := time.Now()
			for light.session.own.stored.Load() == before {
				<-time.After(10 * time.Millisecond)
				if time.Since(begin) > 2*minBeat {
					t.Fatalf("%s: not back after %v", name, time.Since(begin))
				}
			}
			t.Logf("%s: back after %v", name, time.Since(begin))
			c, ok, err := st.last(t.Context(), "light")
			if err != nil || !ok {
				t.Fatal(name, ok, err)
			}
			rec, err := decodeRecord(c.id, c.revision, c.data)
			if err != nil || rec.Incarnation != first || !rec.Light {
				t.Fatalf("%s: %+v %v", name, rec, err)
			}
		}
	})
}

// It hears of its own end although it sees nobody, and tells who asked to be told.
func TestEvictedLightMemberRejoins(t *testing.T) {
	mem := natstest.Memory(t)
	told := make(chan []Event, 10)
	light := join(t, mem.Dial(t), Config{Node: "light", Light: true, Changed: func(events []Event) { told <- events }})
	st := light.session.store
	first := light.Self().Incarnation
	c, _, err := st.last(t.Context(), "light")
	if err != nil {
		t.Fatal(err)
	}
	rec, err := decodeRecord(c.id, c.revision, c.data)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.put(t.Context(), rec.ended(ReasonHung, "somebody", time.Now()), c.revision, time.Hour); err != nil {
		t.Fatal(err)
	}
	if events := <-told; len(events) != 1 || events[0].Kind != Evicted {
		t.Errorf("told %v", events)
	}
	natstest.Eventually(t, "it is back", func() bool { return light.Self().Incarnation > first && !light.Status().Evicted })
}

func TestLightMembersBeatAsTheirClusterNeeds(t *testing.T) {
	mem := natstest.Memory(t)
	full := join(t, mem.Dial(t), Config{Node: "full"})
	light := join(t, mem.Dial(t), Config{Node: "light", Light: true})
	natstest.Eventually(t, "it has heard how many there are", func() bool { return light.session.size.Load() == 2 })
	waitFor(t, full, "full", "light")
}
