package soak_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/catga/catga-go/cluster"
	"github.com/catga/catga-go/internal/natstest"
)

// world is one soak: servers, nodes, observers, and their history.
type world struct {
	t       *testing.T
	name    string // of the cluster
	servers []*natstest.Server
	nodes   []*node
	begin   time.Time
	agenda  []entry
	wg      sync.WaitGroup

	mu      sync.Mutex // everything below, and the runs and seers in it
	history history
	dumps   map[*seer]bool // who owes an answer to "dump"
	down    bool           // a server is not back yet
}

// entry is something to do at a time.
type entry struct {
	at time.Time
	do func()
}

// node is a name; its processes come and go.
type node struct {
	id      string
	proxies []*natstest.Proxy // one to each server
	proc    *process          // nil while there is none
}

// process is one process of a node.
type process struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	run   *run
	seer  *seer
	done  chan struct{}
}

func newWorld(t *testing.T, name string, servers []*natstest.Server, nodes int) *world {
	t.Helper()
	w := &world{
		t: t, name: name, servers: servers, begin: time.Now(),
		history: history{away: map[string][]span{}, offline: map[string][]period{}}, dumps: map[*seer]bool{},
	}
	for i := range nodes {
		n := &node{id: fmt.Sprintf("n%d", i)}
		for _, s := range servers {
			n.proxies = append(n.proxies, natstest.NewProxy(t, s.URL()))
		}
		w.nodes = append(w.nodes, n)
	}
	return w
}

func (w *world) logf(format string, args ...any) {
	w.t.Logf("%7.2fs "+format, append([]any{time.Since(w.begin).Seconds()}, args...)...)
}

// observe adds an observer in this process.
func (w *world) observe(ctx context.Context, id string) *cluster.Node {
	w.t.Helper()
	var url strings.Builder
	for _, s := range w.servers {
		url.WriteString(s.URL() + ",")
	}
	nc, err := cluster.Dial(ctx, url.String()[:len(url.String())-1])
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(nc.Close)
	n, err := cluster.New(nc, cluster.Config{Cluster: w.name, Node: id})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := n.Observe(ctx); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = n.Close() })
	s := &seer{id: id, begin: time.Now()}
	w.mu.Lock()
	w.history.seers = append(w.history.seers, s)
	w.mu.Unlock()
	follow(ctx, &w.wg, n, func(line said) { w.take(s, nil, line) })
	return n
}

// spawn starts a process of a node and does not wait for it to join.
func (w *world) spawn(n *node) {
	spec := nodeSpec{Cluster: w.name, ID: n.id}
	for _, p := range n.proxies {
		spec.URL += p.URL() + ","
	}
	spec.URL = spec.URL[:len(spec.URL)-1]
	if *logs != "" {
		spec.Log = filepath.Join(*logs, w.name+"-"+n.id+".log")
	}
	data, err := json.Marshal(spec)
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), nodeEnv+"="+string(data))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	now := time.Now()
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	p := &process{
		cmd: cmd, stdin: stdin, done: make(chan struct{}),
		run: &run{id: n.id, begin: now}, seer: &seer{id: n.id, begin: now},
	}
	w.mu.Lock()
	w.history.runs = append(w.history.runs, p.run)
	w.history.seers = append(w.history.seers, p.seer)
	w.mu.Unlock()
	go func() {
		defer close(p.done)
		scan(stdout, func(line said) { w.take(p.seer, p.run, line) })
		_ = cmd.Wait()
		w.ended(p, time.Now())
	}()
	w.t.Cleanup(func() { p.kill(); <-p.done })
	n.proc = p
}

// kill is SIGKILL.
func (p *process) kill() { _ = p.cmd.Process.Kill() }

// ended notes the end of a process, if nothing earlier was noted.
func (w *world) ended(p *process, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p.run.end.IsZero() {
		p.run.end, p.seer.end = at, at
	}
}

// take adds one line of a seer to the history. r is nil for an observer.
func (w *world) take(s *seer, r *run, line said) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if line.Event != nil {
		s.events = append(s.events, *line.Event)
	}
	if line.View != nil {
		s.views = append(s.views, *line.View)
	}
	if line.Whole != nil {
		s.last = line.Whole
		delete(w.dumps, s)
	}
	if line.Starved != nil {
		w.history.away[s.id] = append(w.history.away[s.id], span{from: line.Starved.From, to: line.Starved.To})
	}
	if line.Offline != nil {
		w.history.disconnected(s.id, *line.Offline)
	}
	if line.Online != nil {
		w.history.reconnected(s.id, *line.Online)
	}
	if r == nil {
		return
	}
	if line.Self != 0 && !slices.Contains(r.lives, line.Self) {
		r.lives = append(r.lives, line.Self)
	}
	r.left = r.left || line.Left
	if line.Error != "" {
		w.logf("%s: %s", s.id, line.Error)
	}
}

// there tells whether the node has a process that has joined.
func (w *world) there(n *node) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return n.proc != nil && n.proc.run.end.IsZero() && len(n.proc.run.lives) > 0
}

// at puts something on the agenda.
func (w *world) at(when time.Time, do func()) {
	i, _ := slices.BinarySearchFunc(w.agenda, when, func(e entry, t time.Time) int {
		if e.at.After(t) {
			return 1
		}
		return -1
	})
	w.agenda = slices.Insert(w.agenda, i, entry{when, do})
}

// play does what is on the agenda, and what that adds to it.
func (w *world) play() {
	for len(w.agenda) > 0 {
		next := w.agenda[0]
		w.agenda = w.agenda[1:]
		select {
		case <-time.After(time.Until(next.at)):
		case <-w.t.Context().Done():
			return
		}
		next.do()
	}
}

// away notes that a node cannot be reached from now on, and returns what ends it.
func (w *world) away(id string, closed bool) (back func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := len(w.history.away[id])
	// Until it is known otherwise.
	w.history.away[id] = append(w.history.away[id], span{from: time.Now(), to: time.Now().Add(time.Hour), closed: closed})
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.history.away[id][i].to = time.Now()
	}
}

// serverAway is away for a server.
func (w *world) serverAway() (back func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = true
	i := len(w.history.servers)
	w.history.servers = append(w.history.servers, span{from: time.Now(), to: time.Now().Add(time.Hour)})
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.down = false
		w.history.servers[i].to = time.Now()
	}
}

// healthyServer waits until a server says that it is.
func healthyServer(ctx context.Context, s *natstest.Server) error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Second}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.MonitorURL()+"/healthz", nil)
		if err != nil {
			return err
		}
		if resp, err := client.Do(req); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// converged waits until the view of everybody who lives is the truth, and
// leaves in the history what they see at the end.
func (w *world) converged(ctx context.Context, observers map[string]*cluster.Node) (took time.Duration) {
	begin := time.Now()
	for {
		w.dump(ctx, observers)
		w.mu.Lock()
		truth, ok := w.history.truth(), true
		for _, s := range w.history.seers {
			if s.end.IsZero() && (s.last == nil || s.last.Stale || !maps.Equal(s.last.Members, truth)) {
				ok = false
			}
		}
		w.mu.Unlock()
		if ok || ctx.Err() != nil {
			return time.Since(begin)
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// dump asks everybody for their view and waits for the answers.
func (w *world) dump(ctx context.Context, observers map[string]*cluster.Node) {
	w.mu.Lock()
	for _, s := range w.history.seers {
		if o := observers[s.id]; o != nil {
			s.last = tableOf(o.View())
		}
	}
	for _, n := range w.nodes {
		if n.proc != nil && n.proc.run.end.IsZero() {
			w.dumps[n.proc.seer] = true
		}
	}
	w.mu.Unlock()
	for _, n := range w.nodes {
		if n.proc != nil {
			_, _ = fmt.Fprintln(n.proc.stdin, "dump") // one that has just ended answers nothing
		}
	}
	for ctx.Err() == nil {
		w.mu.Lock()
		for s := range w.dumps {
			if !s.end.IsZero() {
				delete(w.dumps, s)
			}
		}
		owed := len(w.dumps)
		w.mu.Unlock()
		if owed == 0 {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
}
