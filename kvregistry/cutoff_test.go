package kvregistry

import (
	"testing"
	"time"

	"github.com/catga/catga-go/internal/natstest"
)

// A connection on which nothing passes any more looks like one on which nothing
// happens, until the client's own pings have failed twice. Who is cut off knows
// it long before.
func TestCutOffNodeKnowsItSoon(t *testing.T) {
	server := natstest.Start(t)
	proxy := natstest.NewProxy(t, server.URL())
	const cluster = "c"
	a := join(t, natstest.Dial(t, server.URL()), Config{Cluster: cluster, Node: "a"})
	cut := join(t, natstest.Dial(t, proxy.URL()), Config{Cluster: cluster, Node: "cut"})
	waitFor(t, cut, "a", "cut")
	waitFor(t, a, "a", "cut")
	proxy.Hold()
	begin := time.Now()
	natstest.Eventually(t, "the view to be stale", func() bool { return cut.View().Stale && cut.Status().Stale })
	took := time.Since(begin)
	t.Logf("stale after %v", took)
	if took > 10*time.Second {
		t.Errorf("stale after %v", took)
	}
	if a.View().Stale {
		t.Error("the other one is stale, too")
	}
	if got := ids(cut.Members()); len(got) != 2 {
		t.Errorf("cut off, it sees %v: a view that may be behind stays", got)
	}
	proxy.Release()
	natstest.Eventually(t, "the view to be fresh", func() bool { return !cut.View().Stale })
	waitFor(t, cut, "a", "cut")
	waitFor(t, a, "a", "cut")
}
