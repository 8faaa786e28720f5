package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/catga/catga-go/benchmarks/internal/bench"
	"github.com/catga/catga-go/cluster"
	"github.com/catga/catga-go/embedded"
)

// serverConfig is what a server process is told. It answers with what it said.
type serverConfig struct {
	embedded.Config
	// Node makes the process join as a node, and handle a message that it sends,
	// before it says that it is ready.
	Node bool
}

// said is an answer of a server process.
type said struct{ Err string }

const (
	// startLimit bounds the start of a server.
	startLimit = time.Minute
	orderClose = "close"
)

var roleServer = bench.AddRole("embedded-server", serve)

// serve is the process of a server: it starts it, says so, and closes it when it
// is told to.
func serve(ctx context.Context, in *json.Decoder, out *json.Encoder) error {
	var cfg serverConfig
	if err := in.Decode(&cfg); err != nil {
		return err
	}
	starting, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	s, err := embedded.Start(starting, cfg.Config)
	if err == nil && cfg.Node {
		err = handleOne(starting, s)
	}
	if err != nil {
		return out.Encode(said{err.Error()})
	}
	defer s.Close()
	if err := out.Encode(said{}); err != nil {
		return err
	}
	var order string
	if err := in.Decode(&order); err != nil {
		return err
	}
	var a said
	if err := s.Close(); err != nil {
		a.Err = err.Error()
	}
	return out.Encode(a)
}

// handleOne joins, sends a stored message, and waits until it is handled.
func handleOne(ctx context.Context, s *embedded.Server) error {
	n, err := cluster.New(s.Conn(), cluster.Config{Cluster: clusterName, Node: "first"})
	if err != nil {
		return err
	}
	handled := make(chan struct{})
	n.HandleRaw(kindJob, func(context.Context, *cluster.Msg[cluster.Raw]) (cluster.Raw, error) {
		close(handled)
		return cluster.Raw{}, nil
	})
	if err := n.Join(ctx); err != nil {
		return err
	}
	if err := n.Send(ctx, cluster.Any(), cluster.Raw{Name: kindJob, Data: []byte("first")}); err != nil {
		return err
	}
	select {
	case <-handled:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// machine is a server process that is started, stopped and killed.
type machine struct {
	cfg  serverConfig
	proc *bench.Process
}

// launch starts the process and does not wait for it.
func (m *machine) launch() error {
	proc, err := bench.StartRole(roleServer)
	if err != nil {
		return err
	}
	m.proc = proc
	return proc.Tell(m.cfg)
}

// ready waits until the server says that it can be written.
func (m *machine) ready() error { return m.hear("start") }

func (m *machine) hear(what string) error {
	var a said
	if err := m.proc.Hear(&a); err != nil {
		return fmt.Errorf("server %s: %s: %w", m.cfg.Name, what, err)
	}
	if a.Err != "" {
		return fmt.Errorf("server %s: %s: %s", m.cfg.Name, what, a.Err)
	}
	return nil
}

// stop closes the server and ends its process.
func (m *machine) stop() error {
	if err := m.proc.Tell(orderClose); err != nil {
		return err
	}
	err := m.hear(orderClose)
	err = errors.Join(err, m.proc.Close())
	m.proc = nil
	return err
}

// kill is SIGKILL.
func (m *machine) kill() {
	if m.proc != nil {
		m.proc.Kill()
		m.proc = nil
	}
}

// trio is a cluster of three machines.
type trio struct {
	dir      string
	machines []*machine
}

// newTrio makes three machines with empty directories, which are not started.
// syncEvery is that of the configuration: 0 is before each acknowledgement.
func newTrio(syncEvery time.Duration) (*trio, error) {
	const n = 3
	dir, err := os.MkdirTemp("", "catga-bench-")
	if err != nil {
		return nil, err
	}
	ports, err := bench.FreePorts(2 * n)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	var peers []string
	for _, port := range ports[n:] {
		peers = append(peers, fmt.Sprintf("127.0.0.1:%d", port))
	}
	t := &trio{dir: dir}
	for i := range n {
		name := fmt.Sprintf("m%d", i+1)
		t.machines = append(t.machines, &machine{cfg: serverConfig{Config: embedded.Config{
			Dir: filepath.Join(dir, name), Name: name, Addr: fmt.Sprintf("127.0.0.1:%d", ports[i]), SyncEvery: syncEvery,
			Cluster: embedded.Cluster{Name: "bench", Addr: peers[i], Peers: peers},
		}}})
	}
	return t, nil
}

// start starts all machines and returns how long after the last start all of
// them could be written.
func (t *trio) start() (time.Duration, error) {
	for _, m := range t.machines {
		if err := m.launch(); err != nil {
			return 0, err
		}
	}
	last := time.Now()
	for _, m := range t.machines {
		if err := m.ready(); err != nil {
			return 0, err
		}
	}
	return time.Since(last), nil
}

// again starts one machine again and waits until it can be written.
func (m *machine) again() error {
	if err := m.launch(); err != nil {
		return err
	}
	return m.ready()
}

func (t *trio) named(name string) (*machine, error) {
	for _, m := range t.machines {
		if m.cfg.Name == name {
			return m, nil
		}
	}
	return nil, fmt.Errorf("no server %q", name)
}

// url is where clients connect: to any of them.
func (t *trio) url() string {
	var urls []string
	for _, m := range t.machines {
		urls = append(urls, "nats://"+m.cfg.Addr)
	}
	return strings.Join(urls, ",")
}

func (t *trio) close() {
	for _, m := range t.machines {
		m.kill()
	}
	_ = os.RemoveAll(t.dir)
}
