package natstest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// ready bounds the wait for a server process to become healthy.
const ready = 60 * time.Second

// built is the nats-server binary of this test process, built at first use.
var built struct {
	once sync.Once
	dir  string
	path string
	err  error
}

// Binary returns the path of a nats-server built from the module graph.
func Binary(t testing.TB) string {
	t.Helper()
	built.once.Do(func() {
		root, err := moduleRoot()
		if err != nil {
			built.err = err
			return
		}
		if built.dir, built.err = os.MkdirTemp("", "natstest-"); built.err != nil {
			return
		}
		path := filepath.Join(built.dir, "nats-server"+exeSuffix)
		cmd := exec.Command("go", "build", "-o", path, "github.com/nats-io/nats-server/v2")
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("go build nats-server: %w\n%s", err, out)
			return
		}
		built.path = path
	})
	if built.err != nil {
		t.Fatal("natstest:", built.err)
	}
	return built.path
}

func removeBuilt() error {
	if built.dir == "" {
		return nil
	}
	return os.RemoveAll(built.dir)
}

// Server is a nats-server process with JetStream and a file store. It ends
// with the test.
type Server struct {
	name, dir string
	bin       string
	args      []string
	port, mon int

	mu   sync.Mutex
	cmd  *exec.Cmd
	log  *logBuffer
	done chan struct{} // closed when cmd has ended
}

// Option changes how Start starts a server.
type Option func(*options)

type options struct {
	args   []string
	config string
	bin    string
}

// Program runs the nats-server at that path instead of the one of the module graph.
func Program(path string) Option { return func(o *options) { o.bin = path } }

// Args adds command-line arguments of nats-server.
func Args(args ...string) Option { return func(o *options) { o.args = append(o.args, args...) } }

// ConfigText gives the server a configuration file with that text.
func ConfigText(text string) Option { return func(o *options) { o.config += text + "\n" } }

// Start starts a nats-server process and waits until it is healthy.
func Start(t testing.TB, opts ...Option) *Server {
	t.Helper()
	s := newServer(t, "solo", opts...)
	s.start(t)
	s.WaitReady(t)
	return s
}

func newServer(t testing.TB, name string, opts ...Option) *Server {
	t.Helper()
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	if o.bin == "" {
		o.bin = Binary(t)
	}
	ports := freePorts(t, 2)
	s := &Server{name: name, dir: t.TempDir(), bin: o.bin, port: ports[0], mon: ports[1]}
	s.args = append([]string{
		"-js", "-sd", filepath.Join(s.dir, "store"), "-n", name, "-a", "127.0.0.1",
		"-p", fmt.Sprint(s.port), "-m", fmt.Sprint(s.mon),
	}, o.args...)
	if o.config != "" {
		file := filepath.Join(s.dir, "nats.conf")
		if err := os.WriteFile(file, []byte(o.config), 0o600); err != nil {
			t.Fatal("natstest:", err)
		}
		s.args = append(s.args, "-c", file)
	}
	t.Cleanup(func() {
		s.Resume()
		s.kill()
		if t.Failed() {
			t.Logf("log of nats-server %s:\n%s", name, s.log)
		}
	})
	return s
}

// Name is the server's name.
func (s *Server) Name() string { return s.name }

// URL is where clients connect.
func (s *Server) URL() string { return fmt.Sprintf("nats://127.0.0.1:%d", s.port) }

// MonitorURL is the base of the server's monitoring endpoints.
func (s *Server) MonitorURL() string { return fmt.Sprintf("http://127.0.0.1:%d", s.mon) }

// PID is the process id of the running server.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cmd.Process.Pid
}

// Kill ends the server with SIGKILL and waits for its end.
func (s *Server) Kill() { s.kill() }

// Stop ends the server as an operator would, and waits for its end.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	cmd, done := s.cmd, s.done
	s.mu.Unlock()
	if err := interrupt(cmd.Process); err != nil {
		t.Fatal("natstest: stop:", err)
	}
	select {
	case <-done:
	case <-time.After(ready):
		t.Fatalf("natstest: server %s does not stop", s.name)
	}
}

// Restart starts the server again on its port and store, ending it first if it
// runs, and waits until it is healthy.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.RestartNoWait(t)
	s.WaitReady(t)
}

// RestartNoWait is Restart without the wait.
func (s *Server) RestartNoWait(t testing.TB) {
	t.Helper()
	s.kill()
	s.start(t)
}

// RestartEmpty is Restart with an empty store: everything stored is lost, as
// it is when a server with a memory store is restarted.
func (s *Server) RestartEmpty(t testing.TB) {
	t.Helper()
	s.kill()
	if err := os.RemoveAll(filepath.Join(s.dir, "store")); err != nil {
		t.Fatal("natstest:", err)
	}
	s.start(t)
	s.WaitReady(t)
}

func (s *Server) start(t testing.TB) {
	t.Helper()
	cmd := exec.Command(s.bin, s.args...)
	log := &logBuffer{}
	cmd.Stdout, cmd.Stderr = log, log
	dieWithParent(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal("natstest:", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait()
	}()
	s.mu.Lock()
	s.cmd, s.done, s.log = cmd, done, log
	s.mu.Unlock()
}

func (s *Server) kill() {
	s.mu.Lock()
	cmd, done := s.cmd, s.done
	s.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = cmd.Process.Kill()
	<-done
}

// WaitReady waits until the server says that it is healthy, JetStream included.
func (s *Server) WaitReady(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), ready)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Second}
	for {
		if resp, err := client.Get(s.MonitorURL() + "/healthz"); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-tick.C:
		case <-s.done:
			t.Fatalf("natstest: server %s ended at start:\n%s", s.name, s.log)
		case <-ctx.Done():
			t.Fatalf("natstest: server %s is not healthy after %v:\n%s", s.name, ready, s.log)
		}
	}
}

// Cluster is a JetStream cluster of nats-server processes.
type Cluster struct{ Servers []*Server }

// StartCluster starts n servers as one cluster and returns when JetStream can
// be written.
func StartCluster(t testing.TB, n int, opts ...Option) *Cluster {
	t.Helper()
	ports := freePorts(t, n)
	var routes []string
	for _, p := range ports {
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", p))
	}
	c := &Cluster{}
	for i := range n {
		s := newServer(t, fmt.Sprintf("s%d", i+1), append([]Option{
			Args("-cluster_name", "test", "-cluster", routes[i], "-routes", strings.Join(routes, ",")),
			ConfigText("cluster { no_advertise: true }"),
		}, opts...)...)
		s.start(t)
		c.Servers = append(c.Servers, s)
	}
	for _, s := range c.Servers {
		s.WaitReady(t)
	}
	for end := time.Now().Add(ready); !c.complete(); {
		if time.Now().After(end) {
			t.Fatalf("natstest: not all of %d servers take streams after %v", n, ready)
		}
		<-time.After(10 * time.Millisecond)
	}
	return c
}

// complete tells whether the leader of the cluster gives streams to all servers:
// each is healthy before it knows that of the others.
func (c *Cluster) complete() bool {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Second}
	for _, s := range c.Servers {
		resp, err := client.Get(s.MonitorURL() + "/jsz")
		if err != nil {
			continue
		}
		var info struct {
			Meta struct {
				Leader   string `json:"leader"`
				Replicas []struct {
					Offline bool `json:"offline"`
				} `json:"replicas"`
			} `json:"meta_cluster"`
		}
		err = json.NewDecoder(resp.Body).Decode(&info)
		_ = resp.Body.Close()
		if err != nil || info.Meta.Leader != s.name || len(info.Meta.Replicas) != len(c.Servers)-1 {
			continue // only the leader lists the others
		}
		for _, r := range info.Meta.Replicas {
			if r.Offline {
				return false
			}
		}
		return true
	}
	return false
}

// URL lists all servers.
func (c *Cluster) URL() string {
	var urls []string
	for _, s := range c.Servers {
		urls = append(urls, s.URL())
	}
	return strings.Join(urls, ",")
}

// logBuffer keeps what a server printed.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	if b == nil {
		return ""
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
