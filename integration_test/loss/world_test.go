package loss_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/catga/catga-go/internal/natstest"
)

// world is one run: servers, nodes, and what is known of them.
type world struct {
	t       *testing.T
	name    string // of the cluster
	dir     string // of the histories
	servers []*natstest.Server
	zones   map[string]string
	nodes   []*node
	seed    uint64
	rate    float64 // of one node
	begin   time.Time

	agenda []appointment
	down   bool // a server is not back yet
	faults map[string]int

	mu    sync.Mutex // everything below, and what processes say
	sent  int
	there map[string]int64
	files []string
}

// node is a name; its processes come and go.
type node struct {
	id   string
	life int
	proc *process
	busy bool // something is done to it
}

// process is one process of a node.
type process struct {
	id    string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	done  chan struct{}

	// Guarded by the world's mutex.
	joined, quiet, left, killed bool
}

// appointment is something to do at a time.
type appointment struct {
	at time.Time
	do func()
}

func newWorld(t *testing.T, name string, servers []*natstest.Server, seed uint64) *world {
	t.Helper()
	w := &world{
		t: t, name: name, dir: t.TempDir(), servers: servers, seed: seed, begin: time.Now(),
		zones:  map[string]string{"n0": "x", "n1": "x", "n2": "y", "n3": "y", "n4": "z"},
		faults: map[string]int{}, there: map[string]int64{},
	}
	w.rate = float64(*rate) / float64(len(w.zones))
	for i := range len(w.zones) {
		w.nodes = append(w.nodes, &node{id: fmt.Sprintf("n%d", i)})
	}
	return w
}

func (w *world) logf(format string, args ...any) {
	w.t.Helper()
	w.t.Logf("%7.2fs "+format, append([]any{time.Since(w.begin).Seconds()}, args...)...)
}

// after makes an appointment.
func (w *world) after(d time.Duration, do func()) {
	w.agenda = append(w.agenda, appointment{time.Now().Add(d), do})
	slices.SortStableFunc(w.agenda, func(a, b appointment) int { return a.at.Compare(b.at) })
}

// keep does what is due.
func (w *world) keep() {
	for len(w.agenda) > 0 && !time.Now().Before(w.agenda[0].at) {
		do := w.agenda[0].do
		w.agenda = w.agenda[1:]
		do()
	}
}

func (w *world) urls() string {
	var urls []string
	for _, s := range w.servers {
		urls = append(urls, s.URL())
	}
	return strings.Join(urls, ",")
}

// spawn starts a process of a node and does not wait for it to join.
func (w *world) spawn(n *node) {
	n.life++
	spec := nodeSpec{
		URL: w.urls(), Cluster: w.name, ID: n.id, Life: n.life, Zones: w.zones, Rate: w.rate,
		Seed:    w.seed + uint64(n.life)<<8 + uint64(n.id[1]), //nolint:gosec // never negative
		History: filepath.Join(w.dir, fmt.Sprintf("%s-%d", n.id, n.life)),
	}
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
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	p := &process{id: n.id, cmd: cmd, stdin: stdin, done: make(chan struct{})}
	n.proc = p
	w.mu.Lock()
	w.files = append(w.files, spec.History)
	w.mu.Unlock()
	go func() {
		defer close(p.done)
		dec := json.NewDecoder(stdout)
		for {
			var line said
			if dec.Decode(&line) != nil {
				break
			}
			w.take(p, line)
		}
		err := cmd.Wait()
		w.mu.Lock()
		defer w.mu.Unlock()
		if !p.killed && err != nil {
			w.t.Errorf("%s: the process has ended: %v", p.id, err)
		}
	}()
	w.t.Cleanup(func() {
		p.kill(w)
		<-p.done
	})
}

// take hears a line of a process.
func (w *world) take(p *process, line said) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent += line.Sent
	switch {
	case line.Joined != 0:
		p.joined = true
		if _, again := w.there[p.id]; !again {
			w.there[p.id] = line.Joined
		}
	case line.Quiet:
		p.quiet = true
	case line.Left:
		p.left = true
	case line.Error != "":
		w.t.Errorf("%s: %s", p.id, line.Error)
	}
}

func (p *process) kill(w *world) {
	w.mu.Lock()
	p.killed = true
	w.mu.Unlock()
	_ = p.cmd.Process.Kill()
}

// tell writes a line to the process.
func (w *world) tell(p *process, line string) {
	if _, err := fmt.Fprintln(p.stdin, line); err != nil {
		w.t.Errorf("%s: %v", p.id, err)
	}
}

// leave makes the node leave, and its process end.
func (w *world) leave(p *process) {
	w.tell(p, "leave")
	_ = p.stdin.Close() // the process ends after it has left
}

// is reads a flag of the process.
func (w *world) is(flag *bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return *flag
}

// wait keeps the appointments until ok holds.
func (w *world) wait(what string, limit time.Duration, ok func() bool) {
	w.t.Helper()
	end := time.Now().Add(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		w.keep()
		if ok() {
			return
		}
		select {
		case now := <-tick.C:
			if now.After(end) {
				w.t.Fatalf("not within %v: %s", limit, what)
			}
		case <-w.t.Context().Done():
			return
		}
	}
}

// everybody reports whether ok holds for the process of every node.
func (w *world) everybody(ok func(*process) bool) bool {
	return !slices.ContainsFunc(w.nodes, func(n *node) bool { return n.busy || n.proc == nil || !ok(n.proc) })
}

// summary says what the run was like.
func (w *world) summary(h *history) string {
	outcomes, runs, twice, dead := map[outcome]int{}, 0, 0, 0
	for id := range h.sends {
		outcomes[h.outcomeOf(id)]++
		for _, n := range h.handled[id] {
			runs += n
			twice += n - 1
		}
		for _, n := range h.dead[id] {
			dead += n
		}
	}
	reasons := map[string]int{}
	for _, r := range h.results {
		if r.Outcome != stored {
			reasons[cut(r.Reason)]++
		}
	}
	text := fmt.Sprintf("%d sent: %v; handled %d times, %d of them repeats; %d dead letters; faults %v", len(h.sends), outcomes, runs, twice, dead, w.faults)
	lines := make([]string, 0, len(reasons))
	for reason, n := range reasons {
		lines = append(lines, fmt.Sprintf("\n\t%d x %s", n, reason))
	}
	slices.SortFunc(lines, cmp.Compare[string])
	return text + strings.Join(lines, "")
}

// cut is the part of a reason that many share.
func cut(reason string) string {
	return reason[:min(len(reason), 90)]
}
