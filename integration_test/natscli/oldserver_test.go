package natscli

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/catga/catga-go/cluster"
	"github.com/catga/catga-go/internal/natstest"
)

// A server of the version before delete markers: Join says so, and leaves
// nothing on it. Its module is one of its own, because a module has one version
// of nats-server.
func TestRealServerThatIsTooOld(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "nats-server")
	build := exec.CommandContext(bounded(t), "go", "build", "-o", bin, "github.com/nats-io/nats-server/v2")
	build.Dir, build.Env = "oldserver", append(os.Environ(), "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build nats-server: %v\n%s", err, out)
	}
	server := natstest.Start(t, natstest.Program(bin))
	nc := natstest.Dial(t, server.URL())
	if v := nc.ConnectedServerVersion(); !strings.HasPrefix(v, "2.10.") {
		t.Fatalf("the server is %s", v)
	}
	for name, start := range map[string]func(*cluster.Node) error{
		"Join":    func(n *cluster.Node) error { return n.Join(bounded(t)) },
		"Observe": func(n *cluster.Node) error { return n.Observe(bounded(t)) },
	} {
		n, err := cluster.New(nc, cluster.Config{Cluster: "old", Node: "a", Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		cluster.Handle(n, func(context.Context, *cluster.Msg[placeOrder]) error { return nil })
		err = start(n)
		if !errors.Is(err, cluster.ErrServerTooOld) {
			t.Errorf("%s: %v", name, err)
		} else if text := err.Error(); !strings.Contains(text, nc.ConnectedServerVersion()) || !strings.Contains(text, "2.11.0") || strings.Contains(text, "\n") {
			t.Errorf("%s: %q must name both versions, in a line", name, text)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for name := range js.StreamNames(bounded(t)).Name() {
		t.Errorf("stream %s was made", name)
	}
}
