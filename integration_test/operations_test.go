package integration_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/catga/catga-go/cluster"
	"github.com/catga/catga-go/internal/natstest"
)

// docs/operations.md is for operators who type what it says, so these tests do.

func operations(t *testing.T, language string) (blocks []string) {
	t.Helper()
	doc, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?s)\n```"+language+"\n(.*?)\n```").FindAllStringSubmatch(string(doc), -1) {
		blocks = append(blocks, m[1])
	}
	if len(blocks) == 0 {
		t.Fatalf("no block of %s in docs/operations.md", language)
	}
	return blocks
}

// addStreams makes the streams of the document as `nats stream add` does.
func addStreams(t *testing.T, nc *nats.Conn) []string {
	t.Helper()
	var names []string
	for _, block := range operations(t, "json") {
		var stream struct {
			Name string `json:"name"`
		}
		if err := json.Unmarshal([]byte(block), &stream); err != nil {
			t.Fatalf("%v in %s", err, block)
		}
		reply, err := nc.RequestWithContext(t.Context(), "$JS.API.STREAM.CREATE."+stream.Name, []byte(block))
		if err != nil {
			t.Fatal(err)
		}
		var answer struct {
			Error *jetstream.APIError `json:"error"`
		}
		if err := json.Unmarshal(reply.Data, &answer); err != nil || answer.Error != nil {
			t.Fatalf("%s: %v %v", stream.Name, err, answer.Error)
		}
		names = append(names, stream.Name)
	}
	return names
}

// TestStreamsOfTheDocumentAreThoseOfTheLibrary: whoever makes the streams by
// hand gets what the first node would have made.
func TestStreamsOfTheDocumentAreThoseOfTheLibrary(t *testing.T) {
	byHand, byNode := natstest.Memory(t).Dial(t), natstest.Memory(t).Dial(t)
	configs := func(nc *nats.Conn, name string) jetstream.StreamConfig {
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		s, err := js.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		c := s.CachedInfo().Config
		c.Description, c.FirstSeq, c.Storage = "", 0, 0
		return c
	}
	n, err := cluster.New(byNode, cluster.Config{Cluster: "shop", Node: "orders-1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	// The server in memory takes no files.
	js, err := jetstream.New(byHand)
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range operations(t, "json") {
		var cfg jetstream.StreamConfig
		if err := json.Unmarshal([]byte(block), &cfg); err != nil {
			t.Fatal(err)
		}
		cfg.Storage = jetstream.MemoryStorage
		if _, err := js.CreateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		want, got := asJSON(t, configs(byNode, cfg.Name)), asJSON(t, configs(byHand, cfg.Name))
		if want != got {
			t.Errorf("%s\nby the library: %s\nby hand:        %s", cfg.Name, want, got)
		}
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestPermissionsOfTheDocumentAreEnough: nodes with those permissions and
// streams made by hand do everything, and break no permission on the way.
func TestPermissionsOfTheDocumentAreEnough(t *testing.T) {
	permissions := operations(t, "text")[0]
	user := func(id string) string {
		return "{user: " + id + ", password: pw, " + strings.ReplaceAll(permissions, "orders-1", id) + "}"
	}
	srv := natstest.Start(t, natstest.ConfigText("authorization { users: [\n"+
		user("orders-1")+"\n"+user("orders-2")+"\n"+user("orders-3")+"\n{user: operator, password: pw}\n] }"))
	operator := natstest.Dial(t, srv.URL(), nats.UserInfo("operator", "pw"))
	names := addStreams(t, operator)
	if len(names) != 6 {
		t.Fatalf("streams %v", names)
	}

	var mu sync.Mutex
	var violations []string
	node := func(id string, h func(context.Context, *cluster.Msg[note]) error) (*cluster.Node, *nats.Conn) {
		nc, err := cluster.Dial(bounded(t), srv.URL(), nats.UserInfo(id, "pw"), nats.CustomInboxPrefix("_INBOX_"+id),
			nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
				mu.Lock()
				defer mu.Unlock()
				violations = append(violations, id+": "+err.Error())
			}))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		n, err := cluster.New(nc, cluster.Config{Cluster: "shop", Node: id, NoProvision: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = n.Close() })
		cluster.Handle(n, h, cluster.Retry(cluster.RetryPolicy{Retries: -1}))
		cluster.HandleCall(n, func(_ context.Context, m *cluster.Msg[echo]) (echoed, error) {
			return echoed{Node: id}, nil
		})
		if err := n.Join(bounded(t)); err != nil {
			t.Fatal(err)
		}
		return n, nc
	}
	got := make(chan string, 100)
	take := func(id string) func(context.Context, *cluster.Msg[note]) error {
		return func(_ context.Context, m *cluster.Msg[note]) error {
			got <- id + " " + m.Body.Text
			if m.Body.Text == "bad" {
				return errors.New("no")
			}
			return nil
		}
	}
	one, _ := node("orders-1", take("1"))
	two, _ := node("orders-2", take("2"))
	sees(t, one, "both", online("orders-1", "orders-2"))
	sees(t, two, "both", online("orders-1", "orders-2"))
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(one.SetMetadata(bounded(t), map[string]string{"zone": "a"}))
	must(one.Send(bounded(t), cluster.To("orders-2"), note{"to"}))
	receive(t, got, "mail")
	must(one.Send(bounded(t), cluster.Any(), note{"any"}))
	receive(t, got, "work")
	must(two.Broadcast(bounded(t), note{"all"}))
	receive(t, got, "fan-out")
	receive(t, got, "fan-out")
	must(one.Send(bounded(t), cluster.All(), note{"now"}, cluster.AtMostOnce()))
	receive(t, got, "at most once")
	receive(t, got, "at most once")
	answer, err := cluster.Call(bounded(t), one, cluster.To("orders-2"), echo{})
	must(err)
	if answer.Node != "orders-2" {
		t.Errorf("%+v", answer)
	}
	must(two.Send(bounded(t), cluster.To("orders-1"), note{"bad"}))
	receive(t, got, "the bad one")
	dead := deadLetters(t, two, "test.note", 1)[0]
	must(two.DeadLetters().Replay(bounded(t), dead.Seq))
	receive(t, got, "the replayed one")
	must(two.DeadLetters().Drop(bounded(t), deadLetters(t, two, "test.note", 1)[0].Seq))

	ping, err := operator.RequestWithContext(bounded(t), "$SRV.PING.shop.orders-2", nil)
	must(err)
	if !strings.Contains(string(ping.Data), `"id":"orders-2"`) {
		t.Errorf("%s", ping.Data)
	}

	// One crashes, is declared gone, gets mail and comes back.
	three, conn := node("orders-3", take("3"))
	sees(t, one, "orders-3", online("orders-3"))
	sees(t, two, "orders-3", online("orders-3"))
	conn.Close()
	receive(t, three.Done(), "the end of orders-3")
	sees(t, one, "that orders-3 is gone", offline("orders-3", cluster.ReasonCrashed))
	must(one.Send(bounded(t), cluster.To("orders-3"), note{"waits"}))
	three, _ = node("orders-3", take("3"))
	if m := receive(t, got, "the mail that waited"); m != "3 waits" {
		t.Errorf("%q", m)
	}
	must(three.Leave(bounded(t)))
	must(two.Leave(bounded(t)))
	sees(t, one, "that orders-2 left", offline("orders-2", cluster.ReasonLeft))
	must(one.Leave(bounded(t)))
	mu.Lock()
	defer mu.Unlock()
	for _, v := range violations {
		t.Error(v)
	}
}

// TestNodeEndsWithItsConnection: a connection that is closed for good ends the
// node, which says so, and the others see it go.
func TestNodeEndsWithItsConnection(t *testing.T) {
	onAllGrounds(t, func(t *testing.T, w *world) {
		watcher := w.join(t, "watcher", nil)
		nc, err := cluster.Dial(bounded(t), w.url)
		if err != nil {
			t.Fatal(err)
		}
		n := w.nodeOver(t, nc, "closed", nil)
		if err := n.Join(bounded(t)); err != nil {
			t.Fatal(err)
		}
		sees(t, watcher, "closed", online("closed"))
		events := watch(t, watcher)
		nc.Close()
		receive(t, n.Done(), "the end of the node")
		if n.Err() == nil {
			t.Error("the node does not say why it ended")
		}
		if ev := ending(t, events, "closed"); ev.Kind != cluster.Lost {
			t.Errorf("%v %+v", ev.Kind, ev.Member)
		}
		if err := n.Send(bounded(t), cluster.To("watcher"), note{}); !errors.Is(err, cluster.ErrNotDelivered) {
			t.Error(err)
		}
	})
}
