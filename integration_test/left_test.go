package integration_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/catga/catga-go/cluster"
	"github.com/catga/catga-go/internal/natstest"
)

// logTo returns a logger and what it has written.
func logTo() (log *slog.Logger, text func() string) {
	b := &lockedBuffer{}
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug})), b.String
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// shopNode is the node orders-1 of docs/operations.md over a connection of that
// user, not joined yet.
func shopNode(t *testing.T, srv *natstest.Server, user string, log *slog.Logger) (*cluster.Node, *nats.Conn) {
	t.Helper()
	nc := natstest.Dial(t, srv.URL(), nats.UserInfo(user, "pw"), nats.CustomInboxPrefix("_INBOX_orders-1"))
	n, err := cluster.New(nc, cluster.Config{Cluster: "shop", Node: "orders-1", NoProvision: true, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	cluster.Handle(n, func(context.Context, *cluster.Msg[note]) error { return nil })
	cluster.HandleCall(n, func(context.Context, *cluster.Msg[echo]) (echoed, error) { return echoed{}, nil })
	return n, nc
}

// goroutines looks at what runs now; what it returns checks that nothing else
// runs any more.
func goroutines() (check func(t *testing.T)) {
	now := goleak.IgnoreCurrent()
	return func(t *testing.T) {
		t.Helper()
		if err := goleak.Find(now); err != nil {
			t.Error(err)
		}
	}
}

// nothingIsLeft looks at the server for what a Join that failed has left: a
// record that says that the node is there, a tripwire, a subscription of nc but
// the inbox of its requests. The durable consumers of a name are not the
// process's: they stay.
func nothingIsLeft(t *testing.T, srv *natstest.Server, operator, nc *nats.Conn, clusterName, id string) {
	t.Helper()
	js, err := jetstream.New(operator)
	if err != nil {
		t.Fatal(err)
	}
	for name := range names(t, js) {
		if !strings.Contains(name, "_"+clusterName) {
			continue
		}
		stream, err := js.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		// That of an earlier life goes after its grace.
		natstest.Eventually(t, "no tripwire is left", func() bool {
			consumers := stream.ConsumerNames(t.Context())
			for c := range consumers.Name() {
				if strings.HasPrefix(c, id+"-") {
					return false
				}
			}
			return consumers.Err() == nil
		})
		if name != "KV_catga_"+clusterName {
			continue
		}
		if msg, err := stream.GetLastMsgForSubject(t.Context(), "$KV.catga_"+clusterName+".node."+id); err == nil && strings.Contains(string(msg.Data), `"online"`) {
			t.Errorf("a record is left: %s", msg.Data)
		}
	}
	if nc.IsClosed() {
		return
	}
	if err := nc.FlushWithContext(bounded(t)); err != nil {
		t.Fatal(err)
	}
	cid, err := nc.GetClientID()
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("%s/connz?subs=1&cid=%d", srv.MonitorURL(), cid), nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var connz struct {
		Connections []struct {
			Subscriptions []string `json:"subscriptions_list"`
		} `json:"connections"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&connz); err != nil || len(connz.Connections) != 1 {
		t.Fatal(connz, err)
	}
	inbox := nc.NewInbox()
	inbox = inbox[:strings.LastIndexByte(inbox, '.')+1]
	left := slices.DeleteFunc(connz.Connections[0].Subscriptions, func(subject string) bool {
		return strings.HasPrefix(subject, inbox) && strings.HasSuffix(subject, ".*")
	})
	if len(left) > 0 {
		t.Errorf("subscriptions are left: %q", left)
	}
}

func names(t *testing.T, js jetstream.JetStream) map[string]bool {
	t.Helper()
	all := js.StreamNames(t.Context())
	out := map[string]bool{}
	for name := range all.Name() {
		out[name] = true
	}
	if err := all.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}
