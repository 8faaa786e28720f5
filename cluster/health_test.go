package cluster_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/catga/catga-go/cluster"
	"github.com/catga/catga-go/internal/natstest"
)

// probed is what a probe got.
type probed struct {
	Code    int
	OK      bool
	Reason  string
	Cluster string
	Node    string
	Status  struct {
		Live, Ready, Connected, Stale, Evicted bool
		Reason                                 string
		State                                  cluster.State
		Incarnation                            uint64
	}
	Parts []struct {
		Name   string
		OK     bool
		Reason string
	}
}

func probe(t *testing.T, n *cluster.Node, path string) probed {
	t.Helper()
	w := httptest.NewRecorder()
	n.Health().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	var p probed
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatalf("%s: %d %s: %v", path, w.Code, w.Body, err)
	}
	p.Code = w.Code
	if p.OK != (p.Code == http.StatusOK) || !p.OK && (p.Code != http.StatusServiceUnavailable || p.Reason == "") ||
		p.Node != n.ID() || p.Cluster != "test" {
		t.Errorf("%s: %+v", path, p)
	}
	return p
}

// wantProbes says what /live and /ready are to answer, and the reason why not.
func wantProbes(t *testing.T, n *cluster.Node, live, ready bool, reason string) {
	t.Helper()
	if p := probe(t, n, "/live"); p.OK != live || p.Status.Live != live {
		t.Errorf("live: %+v", p)
	}
	p := probe(t, n, "/ready")
	if p.OK != ready || p.Status.Ready != ready || !strings.HasPrefix(p.Reason, reason) || ready != (p.Reason == "") {
		t.Errorf("ready, want %v %q: %+v", ready, reason, p)
	}
}

// remoteNode is a node over TCP with its own connection.
func remoteNode(t *testing.T, url string) (*cluster.Node, *nats.Conn) {
	t.Helper()
	nc := natstest.Dial(t, url)
	n, err := cluster.New(nc, cluster.Config{Cluster: "test", Node: "n"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	return n, nc
}

func TestReadinessFollowsTheNode(t *testing.T) {
	srv := natstest.Start(t)
	proxy := natstest.NewProxy(t, srv.URL())
	n, _ := remoteNode(t, proxy.URL())
	begun, finish := make(chan struct{}), make(chan struct{})
	cluster.Handle(n, func(context.Context, *cluster.Msg[greeting]) error {
		close(begun)
		<-finish
		return nil
	})
	wantProbes(t, n, true, false, "not joined")
	if p := probe(t, n, "/check"); p.OK || len(p.Parts) != 1 || p.Parts[0].Name != "membership" {
		t.Errorf("%+v", p)
	}

	proxy.Hold()
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := n.Join(t.Context()); err != nil {
			t.Error(err)
		}
	})
	natstest.Eventually(t, "it is joining", func() bool { return probe(t, n, "/ready").Reason == "joining" })
	wantProbes(t, n, true, false, "joining")
	proxy.Release()
	wg.Wait()
	wantProbes(t, n, true, true, "")
	natstest.Eventually(t, "nothing is wrong", func() bool { return probe(t, n, "/check").OK })

	if err := n.Send(t.Context(), cluster.To("n"), greeting{}); err != nil {
		t.Fatal(err)
	}
	<-begun
	wg.Go(func() {
		if err := n.Leave(t.Context()); err != nil {
			t.Error(err)
		}
	})
	natstest.Eventually(t, "it is leaving", func() bool { return !probe(t, n, "/ready").OK })
	wantProbes(t, n, true, false, "leaving")
	natstest.Eventually(t, "a check says so", func() bool { return errors.Is(n.Check(t.Context()), cluster.ErrLeaving) })
	close(finish)
	wg.Wait()
	wantProbes(t, n, false, false, "closed")
	if err := n.Check(t.Context()); !errors.Is(err, cluster.ErrClosed) {
		t.Error(err)
	}

	// A node that ends by itself says why.
	n, nc := remoteNode(t, srv.URL())
	join(t, n)
	nc.Close()
	<-n.Done()
	wantProbes(t, n, false, false, "ended: ")
	if p := probe(t, n, "/live"); !strings.Contains(p.Reason, "connection is closed") {
		t.Errorf("%+v", p)
	}
}

func TestHealthIsReadOnly(t *testing.T) {
	n := newNode(t, natstest.Memory(t), cluster.Config{Node: "n"})
	for _, c := range []struct {
		method, path string
		want         int
	}{
		{http.MethodPost, "/live", http.StatusMethodNotAllowed},
		{http.MethodDelete, "/check", http.StatusMethodNotAllowed},
		{http.MethodGet, "/", http.StatusNotFound},
		{http.MethodHead, "/live", http.StatusOK},
	} {
		w := httptest.NewRecorder()
		n.Health().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), c.method, c.path, nil))
		if w.Code != c.want {
			t.Errorf("%s %s: %d", c.method, c.path, w.Code)
		}
	}
}

// An outage takes no node out of service, and a check tells of it.
func TestReadinessOutlastsAnOutage(t *testing.T) {
	srv := natstest.Start(t)
	n, _ := remoteNode(t, srv.URL())
	pricer(n)
	join(t, n)
	natstest.Eventually(t, "nothing is wrong", func() bool { return n.Check(t.Context()) == nil })

	// A server that is there and says nothing; it may say a last word.
	srv.Pause()
	natstest.Eventually(t, "a check misses its answer", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := n.Check(ctx)
		if err != nil && (!errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "cannot be")) {
			t.Error("of a silent server:", err)
		}
		return err != nil
	})
	wantProbes(t, n, true, true, "")
	srv.Resume()
	natstest.Eventually(t, "nothing is wrong again", func() bool { return n.Check(t.Context()) == nil })

	// One that is gone.
	srv.Kill()
	natstest.Eventually(t, "the view is stale", func() bool {
		wantProbes(t, n, true, true, "")
		return probe(t, n, "/ready").Status.Stale
	})
	p := probe(t, n, "/check")
	if p.OK || p.Status.Connected || !p.Status.Ready || len(p.Parts) != 1 || p.Parts[0].Name != "connection" || !strings.Contains(p.Reason, "RECONNECTING") {
		t.Errorf("%+v", p)
	}
	if err := n.Check(t.Context()); !errors.Is(err, nats.ErrDisconnected) {
		t.Error(err)
	}
	srv.Restart(t)
	natstest.Eventually(t, "all is well", func() bool {
		wantProbes(t, n, true, true, "")
		p := probe(t, n, "/check")
		return p.OK && len(p.Parts) == 3 && p.Status.Connected && !p.Status.Stale
	})
}

// A server that has restarted tells of a consumer that it has another age, once.
func TestCheckAfterARestartOfAll(t *testing.T) {
	srv := natstest.Start(t)
	for range 3 {
		n, _ := remoteNode(t, srv.URL())
		pricer(n)
		join(t, n)
		if err := n.Check(t.Context()); err != nil {
			t.Error(err)
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		srv.Restart(t)
	}
}

// squat deletes the node's mailbox and lets another consumer of the stream
// have its mail, so that the node cannot make it again. The function that it
// returns ends that.
func squat(t *testing.T, m *natstest.Mem, subject string) (end func()) {
	t.Helper()
	js, err := jetstream.New(m.Dial(t))
	if err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, "the mailbox is somebody else's", func() bool {
		if err := js.DeleteConsumer(t.Context(), "CATGA_test_MAIL", "n:n"); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			t.Fatal(err)
		}
		// The node is at it, too.
		_, err := js.CreateConsumer(t.Context(), "CATGA_test_MAIL", jetstream.ConsumerConfig{
			Durable: "squatter", AckPolicy: jetstream.AckExplicitPolicy, FilterSubject: subject,
		})
		return err == nil
	})
	return func() {
		if err := js.DeleteConsumer(t.Context(), "CATGA_test_MAIL", "squatter"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCheckSeesWhatSomebodyDeleted(t *testing.T) {
	m := natstest.Memory(t)
	n := newNode(t, m, cluster.Config{Node: "n"})
	pricer(n)
	join(t, n)
	well := func() bool { return n.Check(t.Context()) == nil }
	natstest.Eventually(t, "nothing is wrong", well)
	first := n.Self().Incarnation

	// The mailbox: a check names it as long as it is gone.
	end := squat(t, m, "catga.test.node.n.price.get")
	for range 3 {
		p := probe(t, n, "/check")
		if p.OK || len(p.Parts) != 3 || !p.Parts[0].OK || !p.Parts[1].OK || p.Parts[2].OK ||
			p.Parts[2].Name != "inbox" || !strings.Contains(p.Reason, "consumer n:n of stream CATGA_test_MAIL: ") {
			t.Errorf("%+v", p)
		}
	}
	wantProbes(t, n, true, true, "")
	end()
	natstest.Eventually(t, "the mailbox is back", well)

	// The record: its owner writes it again, as the same incarnation.
	js, err := jetstream.New(m.Dial(t))
	if err != nil {
		t.Fatal(err)
	}
	records, err := js.Stream(t.Context(), "KV_catga_test")
	if err != nil {
		t.Fatal(err)
	}
	const subject = "$KV.catga_test.node.n"
	// Nobody is told of such a deletion, so a check finds it, or the node's next beat.
	var gone *jetstream.RawStreamMsg
	natstest.Eventually(t, "a check misses the record", func() bool {
		if gone, err = records.GetLastMsgForSubject(t.Context(), subject); err != nil {
			return false
		}
		if err := records.DeleteMsg(t.Context(), gone.Sequence); err != nil {
			t.Fatal(err)
		}
		err := n.Check(t.Context())
		return errors.Is(err, cluster.ErrEvicted) && strings.Contains(err.Error(), "its record is not in the store")
	})
	natstest.Eventually(t, "the record is back", well)
	back, err := records.GetLastMsgForSubject(t.Context(), subject)
	if err != nil || back.Sequence <= gone.Sequence || n.Self().Incarnation != first {
		t.Errorf("%+v, %v, incarnation %d, was %d", back, err, n.Self().Incarnation, first)
	}
	wantProbes(t, n, true, true, "")
}

// A node that was taken for dead is not ready until it works as its new
// incarnation.
func TestEvictedNodeIsNotReadyUntilItWorksAgain(t *testing.T) {
	m := natstest.Memory(t)
	n := newNode(t, m, cluster.Config{Node: "n"})
	pricer(n)
	join(t, n)
	wantProbes(t, n, true, true, "")
	first := n.Self().Incarnation

	end := squat(t, m, "catga.test.node.n.price.get") // it cannot come back
	bury(t, m, "n", first)
	natstest.Eventually(t, "it is evicted", func() bool { return !n.Status().Ready })
	wantProbes(t, n, true, false, "evicted: ")
	if err := n.Check(t.Context()); !errors.Is(err, cluster.ErrEvicted) {
		t.Error(err)
	}
	end()
	natstest.Eventually(t, "it is ready", func() bool { return n.Status().Ready })
	if st := n.Status(); st.Incarnation <= first || st.Evicted {
		t.Errorf("%+v", st)
	}
	// Ready is no empty word.
	if p, err := cluster.Call(t.Context(), n, cluster.To("n"), getPrice{"pen"}); err != nil || p.Cents != 300 {
		t.Error(p, err)
	}
	natstest.Eventually(t, "nothing is wrong", func() bool { return n.Check(t.Context()) == nil })
}
