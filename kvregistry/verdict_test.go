package kvregistry

import (
	"testing"
	"time"

	"github.com/catga/catga-go/internal/natstest"
)

// A server that has lost the others may be the leader of the records still. It
// takes a verdict and stores it when it is heard again, when nobody is dead.
func TestNoVerdictWithoutAMajorityOfServers(t *testing.T) {
	c := natstest.StartCluster(t, 3)
	a := join(t, natstest.Dial(t, c.Servers[0].URL()), Config{Cluster: "c", Node: "a"})
	s := a.session
	if n := s.store.replicas.Load(); n != 3 {
		t.Fatalf("%d replicas", n)
	}
	agrees := func() bool {
		s.agreed.Store(0)
		return s.storeAgrees(t.Context())
	}
	natstest.Eventually(t, "the store to take a write at once", agrees)
	incarnation := a.Self().Incarnation
	for _, other := range c.Servers[1:] {
		other.Kill()
	}
	begin := time.Now()
	if agrees() {
		t.Error("one of three servers takes a write")
	}
	t.Logf("refused after %v", time.Since(begin))
	for _, other := range c.Servers[1:] {
		other.Restart(t)
	}
	natstest.Eventually(t, "the store to take writes again", agrees)
	if now := a.Self(); now.Incarnation != incarnation || now.State != Online {
		t.Errorf("after it: %+v", now)
	}
}

func TestStoreThatIsBehindIsNotANewOne(t *testing.T) {
	made := time.Unix(1, 0)
	known := identity{created: made, last: 10}
	for name, c := range map[string]struct {
		known, found identity
		complete     uint64
		anew, back   bool
	}{
		"nothing new":           {known, identity{created: made, last: 10}, 10, false, false},
		"something new":         {known, identity{created: made, last: 12}, 10, false, false},
		"the first look":        {identity{}, identity{created: made, last: 3}, 0, false, false},
		"made anew":             {known, identity{created: made.Add(time.Second), last: 100}, 10, true, false},
		"made anew and shorter": {known, identity{created: made.Add(time.Second), last: 1}, 10, true, false},
		"an old leader":         {known, identity{created: made, last: 9}, 10, false, true},
	} {
		anew, back := c.known.compare(c.found, c.complete)
		if anew != c.anew || back != c.back {
			t.Errorf("%s: anew %v, back %v", name, anew, back)
		}
	}
}
