package kvregistry

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/catga/catga-go/internal/natstest"
)

// advised returns whose tripwires the server tells to somebody, with how many.
func advised(t *testing.T, mem *natstest.Mem) map[string]int {
	t.Helper()
	prefix := "$JS.EVENT.ADVISORY.CONSUMER.DELETED."
	connz, err := mem.Server.Connz(&server.ConnzOptions{Subscriptions: true})
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]int{}
	for _, c := range connz.Conns {
		for _, subject := range c.Subs {
			if name, ok := strings.CutPrefix(subject, prefix); ok {
				names[name[strings.LastIndexByte(name, '.')+1:]]++
			}
		}
	}
	return names
}

// Whoever watches a member hears of its newest tripwire, and nobody hears of
// anything else.
func TestOnlyWatchersHearOfATripwire(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		mem := natstest.Memory(t)
		members := map[string]*Registry{}
		for i := range 8 {
			id := fmt.Sprintf("n%d", i)
			members[id] = join(t, mem.Dial(t), Config{Node: id})
		}
		newest := func() map[string]int {
			want := map[string]int{}
			for _, r := range members {
				want[r.session.own.trip.armed()] = watchersPerMember
			}
			return want
		}
		exact := func(what string) {
			t.Helper()
			for begin := time.Now(); ; <-time.After(50 * time.Millisecond) {
				got, want := advised(t, mem), newest()
				if fmt.Sprint(got) == fmt.Sprint(want) {
					return
				}
				if time.Since(begin) > 30*time.Second {
					t.Fatalf("%s: told are %v, want %v", what, got, want)
				}
			}
		}
		exact("at first")
		// Somebody leaves: the others share its wards, and it is nobody's any more.
		if err := members["n3"].Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		delete(members, "n3")
		exact("after one has left")
		// A tripwire is deleted by hand: its owner makes another one, and its
		// watchers follow.
		n := members["n5"]
		before := n.session.own.trip.armed()
		if err := n.session.store.js.DeleteConsumer(t.Context(), n.session.cluster.RecordStream(), before); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		for n.session.own.trip.armed() == before {
			<-time.After(50 * time.Millisecond)
		}
		if took := time.Since(begin); took > tripwireSilence+2*tripwireCheck {
			t.Errorf("armed again after %v", took)
		}
		begin = time.Now()
		exact("after another tripwire")
		if took := time.Since(begin); took > 200*time.Millisecond {
			t.Errorf("its watchers followed after %v", took)
		}
	})
}

// A member and everybody who watches it are killed in the same moment. Those who
// inherit it never heard of its tripwire.
func TestCrashOfAMemberTogetherWithItsWatchers(t *testing.T) {
	server := natstest.Start(t)
	var survivors []*Registry
	var everybody []string
	for i := range 6 {
		id := fmt.Sprintf("n%d", i)
		survivors = append(survivors, join(t, natstest.Dial(t, server.URL()), Config{Node: id}))
		everybody = append(everybody, id)
	}
	// Four in a row on the ring: the first is watched by the other three.
	ring := newRing()
	for _, id := range everybody {
		ring.add(id, true)
	}
	var doomed []string
	for i := 0; len(doomed) < 4; i++ {
		id := fmt.Sprintf("doomed-%d", i)
		ring.add(id, true)
		row := append(slices.Clone(doomed), id)
		first := slices.IndexFunc(row, func(d string) bool {
			watchers := ring.watchers(d, len(row)-1)
			return !slices.ContainsFunc(watchers, func(w string) bool { return !slices.Contains(row, w) })
		})
		if first < 0 {
			ring.remove(id)
			continue
		}
		doomed = row
	}
	for round := range 3 {
		var processes []*process
		for _, id := range doomed {
			processes = append(processes, startNode(t, server.URL(), "test", id))
		}
		all := append(slices.Clone(everybody), doomed...)
		slices.Sort(all)
		for _, r := range survivors {
			waitFor(t, r, all...)
		}
		// The tripwires are there, and so are the watchers: they have been asked.
		begin := time.Now()
		for _, p := range processes {
			p.kill()
		}
		for _, r := range survivors {
			waitFor(t, r, everybody...)
		}
		took := time.Since(begin)
		t.Logf("round %d: seen by all after %v", round, took)
		if took > 2*time.Second {
			t.Errorf("seen by all after %v", took)
		}
		for _, id := range doomed {
			if m, _ := survivors[0].View().Member(id); m.Reason != ReasonCrashed {
				t.Errorf("%s: %+v", id, m)
			}
		}
	}
}
