package cluster_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/catga/catga-go/cluster"
	"github.com/catga/catga-go/internal/natstest"
)

// services asks as the nats command does and returns the answers of want
// instances, sorted by id; none where nobody listens.
func services[T any](t *testing.T, nc *nats.Conn, want int, id func(T) string, verb micro.Verb, who ...string) []T {
	t.Helper()
	var name, instance string
	if len(who) > 0 {
		name = who[0]
	}
	if len(who) > 1 {
		instance = who[1]
	}
	subject, err := micro.ControlSubject(verb, name, instance)
	if err != nil {
		t.Fatal(err)
	}
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := nc.PublishRequest(subject, inbox, nil); err != nil {
		t.Fatal(err)
	}
	var all []T
	for len(all) < want {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		m, err := sub.NextMsgWithContext(ctx)
		cancel()
		if errors.Is(err, nats.ErrNoResponders) {
			return nil
		}
		if err != nil {
			t.Fatalf("%s: %v after %d answers of %d", subject, err, len(all), want)
		}
		var v T
		if err := json.Unmarshal(m.Data, &v); err != nil {
			t.Fatalf("%s: %v in %s", subject, err, m.Data)
		}
		all = append(all, v)
	}
	slices.SortFunc(all, func(a, b T) int { return cmp.Compare(id(a), id(b)) })
	return all
}

func pingID(p micro.Ping) string   { return p.ID }
func infoID(i micro.Info) string   { return i.ID }
func statsID(s micro.Stats) string { return s.ID }

// TestNodesAreNATSServices: what nats.go/micro asks, every member answers, for
// itself and every kind, until it is gone; an observer is none.
func TestNodesAreNATSServices(t *testing.T) {
	m := natstest.Memory(t)
	node := func(id string, md map[string]string) *cluster.Node {
		n := newNode(t, m, cluster.Config{Node: id, Metadata: md, Endpoint: "10.0.0.7:80"})
		pricer(n)
		cluster.Handle(n, func(context.Context, *cluster.Msg[greeting]) error { return errors.New("no\nwords") },
			cluster.Retry(cluster.RetryPolicy{Retries: -1}))
		return n
	}
	a, b := node("a", map[string]string{"zone": "x", "version": "v1.4.0"}), node("b", nil)
	other := m.Dial(t)
	if got := services(t, other, 1, pingID, micro.PingVerb); got != nil {
		t.Errorf("before Join: %+v", got)
	}
	join(t, a)
	join(t, b)
	eye := newNode(t, m, cluster.Config{Node: "eye"})
	if err := eye.Observe(t.Context()); err != nil {
		t.Fatal(err)
	}

	for _, who := range [][]string{nil, {"test"}} {
		pings := services(t, other, 2, pingID, micro.PingVerb, who...)
		if pings[0].ID != "a" || pings[1].ID != "b" || pings[0].Name != "test" || pings[0].Type != micro.PingResponseType {
			t.Errorf("%v: %+v", who, pings)
		}
	}
	if got := services(t, other, 1, pingID, micro.PingVerb, "test", "eye"); got != nil {
		t.Errorf("an observer answers: %+v", got)
	}
	infos := services(t, other, 2, infoID, micro.InfoVerb, "test")
	info := infos[0]
	if info.Version != "1.4.0" || infos[1].Version != "0.0.0" || info.Description == "" || info.Metadata["zone"] != "x" ||
		info.Metadata["catga.endpoint"] != "10.0.0.7:80" || info.Metadata["catga.state"] != "online" || info.Metadata["catga.incarnation"] == "" {
		t.Errorf("%+v", infos)
	}
	if len(info.Endpoints) != 2 || info.Endpoints[0].Name != "greeting" || info.Endpoints[1].Name != "price--get" ||
		info.Endpoints[1].Subject != "catga.test.call.any.price.get" || info.Endpoints[1].QueueGroup != "catga" {
		t.Errorf("%+v", info.Endpoints)
	}
	// What an endpoint says of its subjects is true.
	for _, subject := range []string{info.Endpoints[1].Subject, info.Endpoints[1].Metadata["node_subject"]} {
		if answer, err := other.RequestWithContext(t.Context(), subject, []byte(`{"SKU":"pen"}`)); err != nil || len(answer.Header) > 0 {
			t.Errorf("%s: %v %+v", subject, err, answer)
		}
	}
	if work := info.Endpoints[0].Metadata["work_subject"]; work != "catga.test.work.greeting" {
		t.Errorf("%q", work)
	}

	if err := b.Send(t.Context(), cluster.To("a"), greeting{}); err != nil {
		t.Fatal(err)
	}
	if _, err := cluster.Call(t.Context(), b, cluster.To("a"), getPrice{"pen"}); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, "the dead letter", func() bool { return a.Stats()[0].Dead == 1 })
	stats := services(t, other, 1, statsID, micro.StatsVerb, "test", "a")[0]
	if stats.Started.IsZero() || len(stats.Endpoints) != 2 {
		t.Fatalf("%+v", stats)
	}
	e := stats.Endpoints[0]
	if e.Name != "greeting" || e.NumRequests != 1 || e.NumErrors != 1 || e.LastError != "no words" || e.ProcessingTime <= 0 || e.AverageProcessingTime != e.ProcessingTime {
		t.Errorf("%+v", e)
	}
	if want := `{"received":1,"calls":0,"failed":1,"retried":0,"dead":1,"in_flight":0,"paused":false}`; string(e.Data) != want {
		t.Errorf("%s", e.Data)
	}
	if calls := stats.Endpoints[1].NumRequests; calls < 2 {
		t.Errorf("%d calls", calls)
	}

	if err := a.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := services(t, other, 1, pingID, micro.PingVerb, "test", "a"); got != nil {
		t.Errorf("after Leave: %+v", got)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if got := services(t, other, 1, pingID, micro.PingVerb); got != nil {
		t.Errorf("after Close: %+v", got)
	}
}

// TestUnknownVerbsAreNotAnswered: one subscription hears every verb, also those
// of a later version of the protocol.
func TestUnknownVerbsAreNotAnswered(t *testing.T) {
	m := natstest.Memory(t)
	join(t, newNode(t, m, cluster.Config{Node: "a"}))
	nc := m.Dial(t)
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	for _, subject := range []string{"$SRV.SCHEMA", "$SRV.PING.test.a"} {
		if err := nc.PublishRequest(subject, inbox, nil); err != nil {
			t.Fatal(err)
		}
	}
	got, err := sub.NextMsgWithContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var ping micro.Ping
	if err := json.Unmarshal(got.Data, &ping); err != nil || ping.ID != "a" {
		t.Errorf("the first answer is %q: %v", got.Data, err)
	}
}
