package kvregistry

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"
)

// plain is the view of a table made the obvious way.
func plain(t *table, stale bool) View {
	v := View{Revision: t.complete, Stale: stale}
	for _, e := range t.entries {
		m := e.rec.member(e.read)
		if m.State == Offline {
			v.Offline = append(v.Offline, m)
		} else {
			v.Members = append(v.Members, m)
		}
	}
	byID := func(a, b Member) int { return cmp.Compare(a.ID, b.ID) }
	slices.SortFunc(v.Members, byID)
	slices.SortFunc(v.Offline, byID)
	return v
}

// view is what a reader sees who has read nothing before.
func (t *table) view(stale bool) View {
	d := draft{}
	d.add(t.complete, stale, maps.Clone(t.entries))
	return d.read()
}

// Views that are made of the view before are the views that one would make of
// the whole table, and those that readers have never change.
func TestViewsFollowTheTable(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	table := newTable()
	var shown draft
	var kept, copies []View
	for revision := uint64(1); revision < 4000; revision++ {
		id := fmt.Sprintf("n%d", random.IntN(40))
		c := change{id: id, revision: revision}
		switch random.IntN(5) {
		case 0:
			c.gone = true
		case 1:
			c.data = []byte("what?")
		default:
			state := []State{Online, Draining, Offline}[random.IntN(3)]
			rec := record{Version: 1, ID: id, State: state, Incarnation: 1 + revision/50, Endpoint: fmt.Sprint(revision)}
			c.data, _ = json.Marshal(rec)
		}
		table.delta(c)
		if random.IntN(500) == 0 {
			// Everything read anew: some are missing from the store.
			table.rebase(nil, table.complete, random.IntN(2) == 0)
		}
		if random.IntN(3) > 0 {
			continue // several changes become one view
		}
		stale := random.IntN(2) == 0
		shown.add(table.complete, stale, table.take())
		if random.IntN(3) > 0 {
			continue // and several of them are never read
		}
		v, want := shown.read(), plain(table, stale)
		if !reflect.DeepEqual(v, want) {
			t.Fatalf("revision %d: %+v, want %+v", revision, v, want)
		}
		if revision%100 < 9 {
			kept, copies = append(kept, v), append(copies, want)
		}
	}
	if !reflect.DeepEqual(kept, copies) {
		t.Error("a view has changed after it was shown")
	}
}

func TestViewsMayCostAShareOfTheTime(t *testing.T) {
	for took, want := range map[time.Duration]time.Duration{
		10 * time.Microsecond: 0, time.Millisecond: 20 * time.Millisecond, time.Second: maxViewPause,
	} {
		if got := viewPause(took); got != want {
			t.Errorf("%v after a view that took %v, want %v", got, took, want)
		}
	}
}

func BenchmarkViewAfterAChange(b *testing.B) {
	for _, n := range []int{50, 1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			table := newTable()
			for i := range n {
				data, _ := json.Marshal(record{Version: 1, ID: fmt.Sprintf("n%05d", i), State: Online})
				table.delta(change{id: fmt.Sprintf("n%05d", i), revision: uint64(i + 1), data: data})
			}
			data, _ := json.Marshal(record{Version: 1, ID: "n00025", State: Online})
			var shown draft
			show := func() {
				shown.add(table.complete, false, table.take())
				shown.read()
			}
			show()
			for b.Loop() {
				table.delta(change{id: "n00025", revision: table.complete + 1, data: data})
				show()
			}
		})
	}
}
