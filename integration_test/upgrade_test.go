package integration_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/catga/catga-go/cluster"
	"github.com/catga/catga-go/internal/natstest"
)

// The messages of the rolling upgrade; testdata/machine handles them.
type (
	upJob  struct{ ID string }
	upAsk  struct{}
	upTold struct{ Node, Version string }
)

func (upJob) Kind() string   { return "upgrade.job" }
func (upAsk) Kind() string   { return "upgrade.ask" }
func (upAsk) Returns(upTold) {}

// tally counts how often each job was handled.
type tally struct {
	mu   sync.Mutex
	jobs map[string]int
}

func jobID(i int) string { return fmt.Sprint("job-", i) }

func (c *tally) add(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.jobs[id]++
}

// of returns how many of the first n jobs nobody has handled, and how many runs
// were one too many.
func (c *tally) of(n int) (missing, repeats int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range n {
		times := c.jobs[jobID(i)]
		if times == 0 {
			missing++
		}
		repeats += max(times-1, 0)
	}
	return missing, repeats
}

// machine is a process that is a server of the cluster and a node.
type machine struct {
	spec struct {
		Name, Dir, Addr, Route string
		Peers                  []string
	}
	jobs    *tally
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	serving chan string // where its probes are; closed with done
	done    chan struct{}
}

// start starts the process and does not wait.
func (m *machine) start(t *testing.T, binary string) {
	t.Helper()
	spec, err := json.Marshal(m.spec)
	if err != nil {
		t.Fatal(err)
	}
	cmd, serving, done := exec.Command(binary, string(spec)), make(chan string, 1), make(chan struct{})
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	m.cmd, m.stdin, m.serving, m.done = cmd, stdin, serving, done
	go func() {
		defer close(done)
		dec := json.NewDecoder(stdout)
		for {
			var line struct{ Event, Text string }
			if dec.Decode(&line) != nil {
				break
			}
			switch line.Event {
			case "serving":
				serving <- line.Text
			case "done":
				m.jobs.add(line.Text)
			}
		}
		close(serving)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
	})
}

// ready waits until the probe of readiness says so.
func (m *machine) ready(t *testing.T) {
	t.Helper()
	ctx := bounded(t)
	var addr string
	select {
	case addr = <-m.serving:
	case <-ctx.Done():
	}
	if addr == "" {
		t.Fatalf("%s does not come up", m.spec.Name)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for last := error(nil); ; {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/ready", nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(req)
		if err == nil {
			body, _ := io.ReadAll(answer.Body)
			_ = answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return
			}
			err = fmt.Errorf("%s", body)
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-tick.C:
		case <-m.done:
			t.Fatalf("%s has ended: %v", m.spec.Name, m.cmd.ProcessState)
		case <-ctx.Done():
			t.Fatalf("%s is not ready: %v", m.spec.Name, last)
		}
	}
}

// stop ends the process in order and waits for its end.
func (m *machine) stop(t *testing.T) {
	t.Helper()
	_ = m.stdin.Close()
	select {
	case <-m.done:
	case <-bounded(t).Done():
		t.Fatalf("%s does not end", m.spec.Name)
	}
	if !m.cmd.ProcessState.Success() {
		t.Fatalf("%s: %v", m.spec.Name, m.cmd.ProcessState)
	}
}

// load sends and calls until it is told to end.
type load struct {
	node    *cluster.Node
	sent    atomic.Int64 // jobs that are stored
	called  atomic.Int64
	again   atomic.Int64 // attempts that were repeated
	longest atomic.Int64 // the longest that a verb took, in nanoseconds
}

const loadPause = 2 * time.Millisecond

// repeat does what do does until it is done or ctx ends.
func (l *load) repeat(ctx context.Context, do func(context.Context) error) error {
	begun := time.Now()
	defer func() {
		took := int64(time.Since(begun))
		for old := l.longest.Load(); took > old && !l.longest.CompareAndSwap(old, took); old = l.longest.Load() {
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := do(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		l.again.Add(1)
	}
}

// send sends one job after the other until end is closed.
func (l *load) send(ctx context.Context, end <-chan struct{}) error {
	tick := time.NewTicker(loadPause)
	defer tick.Stop()
	for i := 0; ; i++ {
		err := l.repeat(ctx, func(ctx context.Context) error {
			err := l.node.Send(ctx, cluster.Any(), upJob{jobID(i)}, cluster.ID(jobID(i)))
			if errors.Is(err, cluster.ErrDuplicate) {
				return nil
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("%s: %w", jobID(i), err)
		}
		l.sent.Add(1)
		select {
		case <-tick.C:
		case <-end:
			return nil
		}
	}
}

// call asks anybody, again and again, until end is closed.
func (l *load) call(ctx context.Context, end <-chan struct{}) error {
	tick := time.NewTicker(loadPause)
	defer tick.Stop()
	for {
		err := l.repeat(ctx, func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			_, err := cluster.Call(ctx, l.node, cluster.Any(), upAsk{}, cluster.Idempotent())
			return err
		})
		if err != nil {
			return fmt.Errorf("call %d: %w", l.called.Load(), err)
		}
		l.called.Add(1)
		select {
		case <-tick.C:
		case <-end:
			return nil
		}
	}
}

// build builds the program of a machine with that version.
func build(t *testing.T, dir, version string) string {
	t.Helper()
	bin := filepath.Join(dir, "machine-"+version+".exe")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-ldflags", "-s -w -X main.version="+version, "-o", bin, "./testdata/machine")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return bin
}

// TestRollingUpgradeOfThreeMachines: three machines, each a server of one
// cluster and a node, are stopped in order and started with another binary, one
// after the other, as soon as the one before is ready. Under a load of durable
// messages and calls nothing is lost, no call fails, and nobody is Lost.
func TestRollingUpgradeOfThreeMachines(t *testing.T) {
	dir := t.TempDir()
	before, after := build(t, dir, "1"), build(t, dir, "2")
	addrs := natstest.Addrs(t, 6)
	jobs := &tally{jobs: map[string]int{}}
	var machines []*machine
	for i := range 3 {
		m := &machine{jobs: jobs}
		m.spec.Name = fmt.Sprint("m", i+1)
		m.spec.Dir = filepath.Join(dir, m.spec.Name)
		m.spec.Addr, m.spec.Route, m.spec.Peers = addrs[i], addrs[3+i], addrs[3:]
		m.start(t, before)
		machines = append(machines, m)
	}
	for _, m := range machines {
		m.ready(t)
	}

	nc, err := cluster.Dial(bounded(t), "nats://"+strings.Join(addrs[:3], ",nats://"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	node, err := cluster.New(nc, cluster.Config{Cluster: "upgrade", Node: "user"})
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Join(bounded(t)); err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	runs := func(version string, names ...string) func(cluster.View) bool {
		return func(v cluster.View) bool {
			for _, name := range names {
				if m, ok := v.Member(name); !ok || m.State != cluster.Online || m.Metadata["version"] != version {
					return false
				}
			}
			return true
		}
	}
	if err := node.Wait(bounded(t), runs("1", "m1", "m2", "m3")); err != nil {
		t.Fatal(err)
	}

	watching, stopWatching := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer func() { stopWatching(); wg.Wait() }()
	left := map[string]int{}
	wg.Go(func() {
		for ev := range node.Watch(watching) {
			switch ev.Kind {
			case cluster.Left:
				left[ev.Member.ID]++
			case cluster.Lost, cluster.Evicted:
				t.Errorf("%v", ev)
			}
		}
	})
	l, end := &load{node: node}, make(chan struct{})
	failed := make(chan error, 2)
	var loaded sync.WaitGroup
	for _, part := range []func(context.Context, <-chan struct{}) error{l.send, l.call} {
		loaded.Go(func() {
			if err := part(t.Context(), end); err != nil {
				failed <- err
			}
		})
	}

	for i, m := range machines {
		calls, sent, again := l.called.Load(), l.sent.Load(), l.again.Load()
		l.longest.Store(0)
		begun := time.Now()
		m.stop(t)
		stopped := time.Since(begun)
		m.start(t, after)
		m.ready(t)
		back := time.Since(begun)
		if err := node.Wait(bounded(t), runs("2", m.spec.Name)); err != nil {
			t.Fatalf("%s: %v", m.spec.Name, err)
		}
		// The load goes on over all three before the next one goes.
		natstest.Eventually(t, "the load goes on", func() bool {
			return l.called.Load() > calls+100 && l.sent.Load() > sent+100 || len(failed) > 0
		})
		t.Logf("%s: stopped after %v, ready after %v; longest verb %v, %d sent, %d calls, %d repeated", m.spec.Name,
			stopped.Round(time.Millisecond), back.Round(time.Millisecond), time.Duration(l.longest.Load()).Round(time.Millisecond),
			l.sent.Load()-sent, l.called.Load()-calls, l.again.Load()-again)
		if err := node.Wait(bounded(t), runs("1", machineNames(machines[i+1:])...)); err != nil {
			t.Fatal(err)
		}
	}
	close(end)
	loaded.Wait()
	close(failed)
	for err := range failed {
		t.Error(err)
	}
	sent := int(l.sent.Load())
	natstest.Eventually(t, "every job is handled", func() bool { missing, _ := jobs.of(sent); return missing == 0 })
	_, repeats := jobs.of(sent)
	t.Logf("%d jobs, %d handled twice, %d calls", sent, repeats, l.called.Load())
	stopWatching()
	wg.Wait()
	for _, m := range machines {
		if left[m.spec.Name] != 1 {
			t.Errorf("%s left %d times", m.spec.Name, left[m.spec.Name])
		}
	}
}

func machineNames(machines []*machine) (out []string) {
	for _, m := range machines {
		out = append(out, m.spec.Name)
	}
	return out
}
