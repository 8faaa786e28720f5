package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// ready bounds the wait for a server to become healthy.
const ready = 60 * time.Second

var roleServer = AddRole("nats-server", serve)

// Servers are one NATS server, or several as a JetStream cluster, each a
// process of its own with a file store.
type Servers struct {
	dir string
	mu  sync.Mutex // for one order at a time
	all []*Server
}

// Server is one of them.
type Server struct {
	cfg  serverConfig
	proc *Process
}

type serverConfig struct {
	Name   string
	Dir    string
	Port   int
	Route  int
	Routes []string
}

// Usage is what a server has used since its start.
type Usage struct {
	// CPU is the time that its process was running.
	CPU time.Duration
	// Memory is its resident memory in bytes.
	Memory int64
	// InMsgs is what it received from its clients.
	InMsgs int64
}

// StartServers starts n servers and returns when JetStream can be written.
func StartServers(n int) (*Servers, error) {
	dir, err := os.MkdirTemp("", "catga-bench-")
	if err != nil {
		return nil, err
	}
	ports, err := FreePorts(2 * n)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	var routes []string
	if n > 1 {
		for _, port := range ports[n:] {
			routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", port))
		}
	}
	ss := &Servers{dir: dir}
	for i := range n {
		s := &Server{cfg: serverConfig{
			Name: fmt.Sprintf("s%d", i+1), Dir: filepath.Join(dir, fmt.Sprint(i)),
			Port: ports[i], Route: ports[n+i], Routes: routes,
		}}
		ss.all = append(ss.all, s)
		if err := s.start(); err != nil {
			ss.Close()
			return nil, err
		}
	}
	for _, s := range ss.all {
		if err := s.healthy(); err != nil {
			ss.Close()
			return nil, err
		}
	}
	if err := ss.written(); err != nil {
		ss.Close()
		return nil, err
	}
	return ss, nil
}

// written waits until a stream on all servers can be made, and makes one: each
// server is healthy before all know that of the others.
func (ss *Servers) written() error {
	nc, err := nats.Connect(ss.URL())
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := nc.JetStream(nats.MaxWait(2 * time.Second))
	if err != nil {
		return err
	}
	cfg := &nats.StreamConfig{Name: "READY", Subjects: []string{"ready"}, Replicas: len(ss.all)}
	end := time.Now().Add(ready)
	for made := false; ; <-time.After(10 * time.Millisecond) {
		if !made {
			_, err = js.AddStream(cfg)
			made = err == nil
		}
		if made {
			err = js.DeleteStream(cfg.Name)
			if err == nil || errors.Is(err, nats.ErrStreamNotFound) {
				return nil
			}
		}
		if time.Now().After(end) {
			return fmt.Errorf("no stream on %d servers could be made and deleted within %v: %w", len(ss.all), ready, err)
		}
	}
}

// URL is where clients connect: to any of them.
func (ss *Servers) URL() string {
	var urls []string
	for _, s := range ss.all {
		urls = append(urls, s.URL())
	}
	return strings.Join(urls, ",")
}

// All returns each of the servers.
func (ss *Servers) All() []*Server { return ss.all }

// Restart starts killed servers again, each on its ports and store, and returns
// when all are healthy.
func (ss *Servers) Restart() error {
	for _, s := range ss.all {
		if err := s.start(); err != nil {
			return err
		}
	}
	for _, s := range ss.all {
		if err := s.healthy(); err != nil {
			return err
		}
	}
	return nil
}

// Usage returns what all of them have used together.
func (ss *Servers) Usage() (Usage, error) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	var sum Usage
	for _, s := range ss.all {
		var u Usage
		if err := s.ask("usage", &u); err != nil {
			return Usage{}, err
		}
		sum.CPU += u.CPU
		sum.Memory += u.Memory
		sum.InMsgs += u.InMsgs
	}
	return sum, nil
}

// Close ends the servers and removes what they stored.
func (ss *Servers) Close() {
	for _, s := range ss.all {
		s.Kill()
	}
	_ = os.RemoveAll(ss.dir)
}

// URL is where clients connect.
func (s *Server) URL() string { return fmt.Sprintf("nats://127.0.0.1:%d", s.cfg.Port) }

// Kill is SIGKILL.
func (s *Server) Kill() {
	if s.proc != nil {
		s.proc.Kill()
		s.proc = nil
	}
}

// Restart starts a killed server again, on its port and store, and returns
// when it is healthy.
func (s *Server) Restart() error {
	if err := s.start(); err != nil {
		return err
	}
	return s.healthy()
}

func (s *Server) start() error {
	proc, err := StartRole(roleServer)
	if err != nil {
		return err
	}
	s.proc = proc
	return proc.Tell(s.cfg)
}

func (s *Server) healthy() error {
	var problem string
	if err := s.ask("healthy", &problem); err != nil {
		return err
	}
	if problem != "" {
		return fmt.Errorf("nats-server %s: not healthy after %v: %s", s.cfg.Name, ready, problem)
	}
	return nil
}

func (s *Server) ask(order string, answer any) error {
	if s.proc == nil {
		return fmt.Errorf("nats-server %s is not running", s.cfg.Name)
	}
	if err := s.proc.Tell(order); err != nil {
		return fmt.Errorf("nats-server %s: %w", s.cfg.Name, err)
	}
	if err := s.proc.Hear(answer); err != nil {
		return fmt.Errorf("nats-server %s has ended: %w", s.cfg.Name, err)
	}
	return nil
}

// serve is the process of a server.
func serve(ctx context.Context, in *json.Decoder, out *json.Encoder) error {
	var cfg serverConfig
	if err := in.Decode(&cfg); err != nil {
		return err
	}
	opts := &server.Options{
		ServerName: cfg.Name, Host: "127.0.0.1", Port: cfg.Port, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: cfg.Dir, JetStreamMaxMemory: 1 << 30, JetStreamMaxStore: 8 << 30,
	}
	if len(cfg.Routes) > 0 {
		opts.Cluster = server.ClusterOpts{Name: "bench", Host: "127.0.0.1", Port: cfg.Route, NoAdvertise: true}
		for _, route := range cfg.Routes {
			u, err := url.Parse(route)
			if err != nil {
				return err
			}
			opts.Routes = append(opts.Routes, u)
		}
	}
	s, err := server.NewServer(opts)
	if err != nil {
		return err
	}
	go s.Start()
	defer s.Shutdown()
	var profile profiler
	for {
		var order string
		if err := in.Decode(&order); err != nil {
			return err
		}
		var answer any
		order, path, _ := strings.Cut(order, " ")
		switch order {
		case "healthy":
			answer = awaitHealthy(ctx, s)
		case "usage":
			v, err := s.Varz(nil)
			if err != nil {
				return err
			}
			answer = Usage{CPU: ProcessorTime(), Memory: v.Mem, InMsgs: v.InMsgs}
		case "profile":
			err := profile.end()
			if err == nil && path != "" {
				err = profile.begin(path)
			}
			answer = ""
			if err != nil {
				answer = err.Error()
			}
		default:
			return fmt.Errorf("no order %q", order)
		}
		if err := out.Encode(answer); err != nil {
			return err
		}
	}
}

// awaitHealthy waits until JetStream can be written, and returns what is wrong
// when it never can.
func awaitHealthy(ctx context.Context, s *server.Server) string {
	ctx, cancel := context.WithTimeout(ctx, ready)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		status := s.Healthz(nil)
		if status.StatusCode == http.StatusOK {
			return ""
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return status.Error
		}
	}
}

const firstPort, lastPort = 20_000, 32_000

// nextPort is where this process looks for a port next: it counts on, so that
// no port is given twice. Processes that run side by side begin at different
// places.
var nextPort = func() *atomic.Int64 {
	var n atomic.Int64
	n.Store(rand.Int64N(lastPort - firstPort))
	return &n
}()

// FreePorts returns ports that nothing listens on. They lie below those that
// the system gives to outgoing connections.
func FreePorts(n int) ([]int, error) {
	var ports []int
	for range lastPort - firstPort {
		port := firstPort + int(nextPort.Add(1)%(lastPort-firstPort))
		lis, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		_ = lis.Close() // it was only a look
		if ports = append(ports, port); len(ports) == n {
			return ports, nil
		}
	}
	return nil, fmt.Errorf("no %d free ports between %d and %d", n, firstPort, lastPort)
}
