// Package natscli tests a cluster with the nats command, as operators use it,
// and with a nats-server that is too old. It is a module of its own, so that the
// command is in no user's module graph, and not in the workspace: run it with
// GOWORK=off.
package natscli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/catga/catga-go/cluster"
	"github.com/catga/catga-go/internal/natstest"
)

func TestMain(m *testing.M) { natstest.Main(m) }

type getPrice struct{ SKU string }

type price struct {
	Node  string
	Cents int
}

func (getPrice) Kind() string  { return "price.get" }
func (getPrice) Returns(price) {}

type placeOrder struct{ ID string }

func (placeOrder) Kind() string { return "order.place" }

const limit = 60 * time.Second

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

// command is the nats command with a server to talk to.
type command struct{ bin, url, home string }

func newCommand(t *testing.T, url string) command {
	t.Helper()
	c := command{bin: filepath.Join(t.TempDir(), "nats"), url: url, home: t.TempDir()}
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", c.bin, "github.com/nats-io/natscli/nats").CombinedOutput(); err != nil {
		t.Fatalf("go build nats: %v\n%s", err, out)
	}
	return c
}

// run runs the command and returns what it prints.
func (c command) run(t *testing.T, args ...string) string {
	t.Helper()
	out, _ := c.both(t, args...)
	return out
}

// both is run with what goes to the standard error apart.
func (c command) both(t *testing.T, args ...string) (stdout, stderr string) {
	t.Helper()
	cmd := exec.CommandContext(bounded(t), c.bin, args...)
	cmd.Env = append(os.Environ(), "NATS_URL="+c.url, "HOME="+c.home, "XDG_CONFIG_HOME="+c.home)
	var log bytes.Buffer
	cmd.Stderr = &log
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("nats %s: %v\n%s%s", strings.Join(args, " "), err, out, log.Bytes())
	}
	return string(out), log.String()
}

// start joins two nodes with two kinds each; orders are reported to the channel.
func start(t *testing.T, url string) (nodes []*cluster.Node, orders chan string) {
	t.Helper()
	orders = make(chan string, 10)
	for _, id := range []string{"n-1", "n-2"} {
		nc, err := cluster.Dial(bounded(t), url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		n, err := cluster.New(nc, cluster.Config{Cluster: "shop", Node: id, Metadata: map[string]string{"zone": "a", "version": "v1.2.3"}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = n.Close() })
		cluster.HandleCall(n, func(_ context.Context, m *cluster.Msg[getPrice]) (price, error) {
			if m.Body.SKU == "" {
				return price{}, &cluster.HandlerError{Code: 422, Message: "no SKU"}
			}
			return price{id, 120}, nil
		})
		cluster.Handle(n, func(_ context.Context, m *cluster.Msg[placeOrder]) error {
			if m.Body.ID == "bad" {
				return cluster.Permanent(errors.New("no such order"))
			}
			orders <- m.Body.ID
			return nil
		})
		if err := n.Join(bounded(t)); err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, n)
	}
	for _, n := range nodes {
		if err := n.Wait(bounded(t), func(v cluster.View) bool { return len(v.Members) == 2 }); err != nil {
			t.Fatal(err)
		}
	}
	return nodes, orders
}

// TestNatsCommandSeesEveryNodeAndKind: the nats command, which drops invalid
// answers without a word, lists every node and every kind, and reaches them.
func TestNatsCommandSeesEveryNodeAndKind(t *testing.T) {
	srv := natstest.Start(t)
	nats := newCommand(t, srv.URL())
	nodes, orders := start(t, srv.URL())

	t.Run("pub", func(t *testing.T) {
		nats.run(t, "pub", "catga.shop.work.order.place", `{"ID":"o1"}`)
		nats.run(t, "pub", "catga.shop.work.order.place", `{"ID":"bad"}`)
		select {
		case id := <-orders:
			if id != "o1" {
				t.Error(id)
			}
		case <-bounded(t).Done():
			t.Error("not handled")
		}
		natstest.Eventually(t, "the dead letter", func() bool { return len(deadLetters(t, nodes[0])) == 1 })
	})
	t.Run("req", func(t *testing.T) {
		for _, args := range [][]string{
			{"req", "catga.shop.call.any.price.get", `{"SKU":"pen"}`, "--raw"},
			{"req", "catga.shop.call.node.n-2.price.get", `{"SKU":"pen"}`, "--raw"},
			{"micro", "req", "shop", "price--get", `{"SKU":"pen"}`, "--raw"},
		} {
			var got price
			if out := nats.run(t, args...); json.Unmarshal([]byte(out), &got) != nil || got.Cents != 120 || args[1] == "catga.shop.call.node.n-2.price.get" && got.Node != "n-2" {
				t.Errorf("%v: %s", args, out)
			}
		}
		// An error is in the headers, which the command logs.
		_, log := nats.both(t, "req", "catga.shop.call.any.price.get", `{}`)
		for _, want := range []string{"Nats-Service-Error: no SKU", "Nats-Service-Error-Code: 422"} {
			if !strings.Contains(log, want) {
				t.Errorf("no %q in %s", want, log)
			}
		}
	})
	t.Run("ls", func(t *testing.T) {
		for _, args := range [][]string{{"micro", "ls"}, {"micro", "ls", "shop"}} {
			out := nats.run(t, args...)
			for _, want := range []string{"shop", "1.2.3", "n-1", "n-2", "node of the Catga cluster shop"} {
				if !strings.Contains(out, want) {
					t.Errorf("no %q in %s", want, out)
				}
			}
		}
		var infos []micro.Info
		if out := nats.run(t, "micro", "ls", "shop", "--json"); json.Unmarshal([]byte(out), &infos) != nil || len(infos) != 2 {
			t.Fatal(out)
		}
		for i, info := range infos {
			if info.ID != nodes[i].ID() || len(info.Endpoints) != 2 || info.Endpoints[0].Name != "order--place" || info.Endpoints[1].Name != "price--get" {
				t.Errorf("%+v", info)
			}
		}
	})
	t.Run("ping", func(t *testing.T) {
		out := nats.run(t, "micro", "ping", "shop")
		for _, n := range nodes {
			if !strings.Contains(out, n.ID()) {
				t.Errorf("no %s in %s", n.ID(), out)
			}
		}
	})
	t.Run("info", func(t *testing.T) {
		for _, n := range nodes {
			out := nats.run(t, "micro", "info", "shop", n.ID())
			for _, want := range []string{
				"shop (" + n.ID() + ")", "order--place", "price--get", "zone: a", "catga.state: online", "kind: price.get",
				"catga.shop.call.any.price.get", "catga.shop.call.node." + n.ID() + ".price.get", "catga.shop.work.order.place", `"in_flight": 0`,
			} {
				if !strings.Contains(out, want) {
					t.Errorf("no %q in %s", want, out)
				}
			}
		}
	})
	t.Run("stats", func(t *testing.T) {
		var stats []micro.Stats
		out := nats.run(t, "micro", "stats", "shop", "--json")
		if err := json.Unmarshal([]byte(out), &stats); err != nil || len(stats) != 2 {
			t.Fatal(err, out)
		}
		requests, failed := map[string]int{}, map[string]int{}
		for i, s := range stats {
			if s.ID != nodes[i].ID() || len(s.Endpoints) != 2 {
				t.Fatalf("%+v", s)
			}
			for _, e := range s.Endpoints {
				requests[e.Name] += e.NumRequests
				failed[e.Name] += e.NumErrors
			}
		}
		if requests["order--place"] != 2 || failed["order--place"] != 1 || requests["price--get"] != 4 || failed["price--get"] != 1 {
			t.Errorf("%v %v", requests, failed)
		}
		table := nats.run(t, "micro", "stats", "shop")
		for _, n := range nodes {
			if !regexp.MustCompile(fmt.Sprintf(`%s\W+order--place\W`, n.ID())).MatchString(table) {
				t.Errorf("no %s in\n%s", n.ID(), table)
			}
		}
	})
	t.Run("gone", func(t *testing.T) {
		if err := nodes[0].Leave(bounded(t)); err != nil {
			t.Fatal(err)
		}
		if out := nats.run(t, "micro", "ls", "shop"); strings.Contains(out, "n-1") || !strings.Contains(out, "n-2") {
			t.Error(out)
		}
	})
}

func deadLetters(t *testing.T, n *cluster.Node) (all []cluster.DeadLetter) {
	t.Helper()
	for letter, err := range n.DeadLetters().List(bounded(t), "order.place") {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, letter)
	}
	return all
}
