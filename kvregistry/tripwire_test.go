package kvregistry

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/natstest"
)

// The account has no room for a tripwire: the log says so once, and a crash is
// noticed by probes.
func TestWithoutATripwireACrashIsNoticedByProbes(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		mem := natstest.Memory(t)
		a := join(t, mem.Dial(t), Config{Node: "a"})
		limits := natstest.MemoryOnly()
		limits[""] = func(l server.JetStreamAccountLimits) server.JetStreamAccountLimits { l.MaxConsumers = 1; return l }(limits[""])
		if err := mem.Server.GlobalAccount().UpdateJetStreamLimits(limits); err != nil {
			t.Fatal(err)
		}
		j := &journal{}
		nc := mem.Dial(t)
		b := join(t, nc, Config{Node: "b", Log: j.log()})
		waitFor(t, a, "a", "b")
		<-time.After(2 * time.Minute) // it tries again now and then
		if n := len(j.lines(slog.LevelWarn, "no tripwire: a crash of this node is noticed by probes only")); n != 1 {
			t.Errorf("the log says %d times that there is no tripwire: %s", n, &j.buf)
		}
		if st := b.Status(); st.Armed || !st.Ready || st.Stale {
			t.Errorf("without a tripwire: %+v", st)
		}
		begin := time.Now()
		nc.Close()
		waitFor(t, a, "a")
		if m, _ := a.View().Member("b"); m.Reason != ReasonCrashed {
			t.Errorf("b is %+v", m)
		}
		// The next probe, the grace, and a look.
		if took := time.Since(begin); took > 4*time.Second {
			t.Errorf("noticed after %v", took)
		}
	})
}

// A node that was cut off finds that another process has its name by now: it
// ends, and the other one never hears of it.
func TestEvictedNodeWhoseNameIsTakenEnds(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		mem := natstest.Memory(t)
		v := &valve{server: mem.Server}
		a := join(t, mem.Dial(t), Config{Node: "a"})
		first, err := New(natstest.Dial(t, "", nats.InProcessServer(v)), Config{Cluster: "test", Node: "b"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = first.Close() })
		if err := first.Join(t.Context()); err != nil {
			t.Fatal(err)
		}
		waitFor(t, a, "a", "b")
		events := watch(t.Context(), first)
		v.set(true)
		waitFor(t, a, "a")
		second := join(t, mem.Dial(t), Config{Node: "b"})
		waitFor(t, a, "a", "b")
		incarnation := second.Self().Incarnation
		v.set(false)
		<-first.Done()
		if err := first.Err(); !errors.Is(err, ErrNodeTaken) {
			t.Errorf("it ended with %v", err)
		}
		evicted := 0
		for e := range events {
			if e.Kind == Evicted {
				evicted++
				if e.Member.ID != "b" || e.Member.Incarnation >= incarnation || e.Member.Reason != ReasonCrashed {
					t.Errorf("evicted %+v", e.Member)
				}
			}
		}
		if evicted != 1 {
			t.Errorf("evicted %d times", evicted)
		}
		<-time.After(time.Minute)
		if st := second.Status(); st.Incarnation != incarnation || !st.Ready || st.Evicted {
			t.Errorf("the other one: %+v", st)
		}
		waitFor(t, a, "a", "b")
	})
}

// A node whose server runs in its own process has no server to blame.
func TestEmbeddedServerIsNotBlamed(t *testing.T) {
	mem := natstest.Memory(t)
	a := join(t, mem.Dial(t), Config{Node: "a"})
	b := join(t, mem.Dial(t), Config{Node: "b"})
	waitFor(t, a, "a", "b")
	l := life{"b", b.Self().Incarnation}
	result, p := a.session.probe(t.Context(), l, nil)
	if result != alive || !p.Embedded || p.Server == "" {
		t.Fatalf("%v, %+v", result, p)
	}
	// As from a process that is gone, with its server.
	p.Server, p.Addr = "GONE", "127.0.0.1:1"
	if a.session.blame(t.Context(), l, p) {
		t.Error("the server of its own process is blamed")
	}
	p.Embedded = false
	if !a.session.blame(t.Context(), l, p) {
		t.Error("a server that is gone is not blamed")
	}
}
