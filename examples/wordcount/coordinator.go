package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/catga/catga-go/cluster"
	"github.com/catga/catga-go/embedded"
)

const (
	coordinatorID = "coordinator"
	senders       = 16 // tasks on their way to the store at once
	dialLimit     = 5 * time.Second
	formLimit     = time.Minute
	cleanLimit    = 10 * time.Second
	moveLimit     = 5 * time.Second // for the work of a killed worker
)

// job is one run.
type job struct {
	cluster string
	files   []string
	workers int
	kill    int
	url     string // empty: embed NATS
	bar     progress
}

// result is what a run found out.
type result struct {
	tally    *tally
	seconds  float64
	lostSeen time.Duration // from the first kill until the last victim was seen lost
}

// run counts the files with worker processes.
func (j *job) run(ctx context.Context) (res *result, err error) {
	dialing, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	srv, err := embedded.DialOrStart(dialing, j.url, embedded.Config{Addr: "127.0.0.1:0"})
	if err != nil {
		return nil, err
	}
	defer srv.Close()
	if !srv.Embedded() {
		defer func() { err = errors.Join(err, j.clean(context.WithoutCancel(ctx), srv.Conn())) }()
	}

	t := newTally(len(j.files))
	node, err := cluster.New(srv.Conn(), cluster.Config{Cluster: j.cluster, Node: coordinatorID})
	if err != nil {
		return nil, err
	}
	cluster.Handle(node, func(_ context.Context, m *cluster.Msg[taskBegun]) error {
		t.begun(m.Body, m.From, time.Now())
		return nil
	})
	cluster.Handle(node, func(ctx context.Context, m *cluster.Msg[taskCounted]) error {
		if m.Body.File == lastNews {
			select {
			case t.news <- struct{}{}:
			case <-ctx.Done():
			}
			return nil
		}
		if t.count(m.Body, m.From) {
			j.bar.step()
		}
		return nil
	})
	if err := node.Join(ctx); err != nil {
		return nil, err
	}
	defer node.Close()

	url := srv.ClientURL()
	if !srv.Embedded() {
		url = j.url
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	workers, err := j.startWorkers(url, fail)
	defer workers.stop()
	if err != nil {
		return nil, err
	}
	forming, cancel := context.WithTimeoutCause(ctx, formLimit, errors.New("the workers did not join in time"))
	defer cancel()
	if err := node.Wait(forming, func(v cluster.View) bool {
		return len(v.Handlers(countTask{}.Kind())) == j.workers
	}); err != nil {
		return nil, orCause(ctx, err)
	}

	start := time.Now()
	work, ctx := errgroup.WithContext(ctx)
	res = &result{tally: t}
	work.Go(func() error { return j.sendAll(ctx, node) })
	if j.kill > 0 {
		work.Go(func() (err error) {
			res.lostSeen, err = j.killSome(ctx, work, node, t, workers)
			return err
		})
	}
	work.Go(func() error {
		select {
		case <-t.done:
			return t.failed
		case <-node.Done():
			return node.Err()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	if err := work.Wait(); err != nil {
		return nil, orCause(ctx, err)
	}
	res.seconds = time.Since(start).Seconds()
	return res, nil
}

// orCause prefers why ctx ended to the error that its end has led to.
func orCause(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// sendAll sends one task per file to any worker.
func (j *job) sendAll(ctx context.Context, node *cluster.Node) error {
	sending, ctx := errgroup.WithContext(ctx)
	sending.SetLimit(senders)
	for i, path := range j.files {
		if ctx.Err() != nil {
			break
		}
		sending.Go(func() error {
			return node.Send(ctx, cluster.Any(), countTask{File: i, Path: path})
		})
	}
	return sending.Wait()
}

// killSome kills workers with SIGKILL when half of the files are counted and
// the victims have work in hand, and returns how long it took until the cluster
// had seen them all as lost.
func (j *job) killSome(ctx context.Context, work *errgroup.Group, node *cluster.Node, t *tally, workers *workers) (time.Duration, error) {
	select {
	case <-t.half:
	case <-t.done:
		return 0, nil // it has failed; nothing is left to kill for
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	victims := workers.ids[:j.kill]
	if err := j.catch(ctx, node, t, workers, victims); err != nil {
		return 0, err
	}
	start := t.killed
	if err := workers.kill(victims); err != nil {
		return 0, err
	}
	work.Go(func() error {
		moving := time.NewTimer(moveLimit)
		defer moving.Stop()
		select {
		case <-moving.C:
			t.waive()
		case <-t.done:
		case <-ctx.Done():
		}
		return nil
	})
	err := node.Wait(ctx, func(v cluster.View) bool {
		for _, id := range victims {
			if m, _ := v.Member(id); m.State != cluster.Offline {
				return false
			}
		}
		return true
	})
	return time.Since(start), err
}

// catch stops the victims at a moment when every one of them has work in hand.
// What a running worker has in hand may be done a moment later: so it is
// stopped, and looked at when a message that was sent after its last one has
// arrived.
func (j *job) catch(ctx context.Context, node *cluster.Node, t *tally, workers *workers, victims []string) error {
	poll := time.NewTicker(200 * time.Microsecond)
	defer poll.Stop()
	for {
		for t.idle(victims) {
			select {
			case <-poll.C:
			case <-t.done:
				return errors.New("the victim had no work in hand after half-time: use more files")
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if err := workers.freeze(victims, true); err != nil {
			return err
		}
		if err := node.Send(ctx, cluster.To(coordinatorID), taskCounted{File: lastNews}); err != nil {
			return err
		}
		select {
		case <-t.news:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if t.hold(victims, time.Now()) {
			return nil
		}
		if err := workers.freeze(victims, false); err != nil {
			return err
		}
	}
}

// clean removes what this run has made on somebody's server.
func (j *job) clean(ctx context.Context, nc *nats.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, cleanLimit)
	defer cancel()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	names := js.StreamNames(ctx)
	var ours []string
	for name := range names.Name() {
		if strings.Contains(name, j.cluster) {
			ours = append(ours, name)
		}
	}
	errs := []error{names.Err()}
	for _, name := range ours {
		errs = append(errs, js.DeleteStream(ctx, name))
	}
	return errors.Join(errs...)
}

// workers are the worker processes.
type workers struct {
	ids    []string
	procs  map[string]*exec.Cmd
	stdins []io.Closer
	wg     sync.WaitGroup

	mu     sync.Mutex
	killed map[string]bool // by us, so no failure
}

// startWorkers starts the worker processes; one that ends by itself fails the run.
func (j *job) startWorkers(url string, fail context.CancelCauseFunc) (*workers, error) {
	w := &workers{procs: map[string]*exec.Cmd{}, killed: map[string]bool{}}
	self, err := os.Executable()
	if err != nil {
		return w, err
	}
	for i := range j.workers {
		id := fmt.Sprintf("worker-%d", i+1)
		cmd := exec.Command(self, "-worker", id, "-cluster", j.cluster)
		// The url may hold a password: not on a command line that all can read.
		cmd.Env = append(os.Environ(), workerURL+"="+url)
		var complaint bytes.Buffer // told once, by the coordinator
		cmd.Stderr = &complaint
		// A worker lives as long as its standard input is open: also a
		// coordinator that is killed leaves none behind.
		stdin, err := cmd.StdinPipe()
		if err != nil {
			return w, err
		}
		if err := cmd.Start(); err != nil {
			return w, fmt.Errorf("start a worker: %w", err)
		}
		w.ids = append(w.ids, id)
		w.procs[id] = cmd
		w.stdins = append(w.stdins, stdin)
		w.wg.Go(func() {
			_ = cmd.Wait() // how it ended is in its state
			if !w.expected(id) {
				fail(fmt.Errorf("%s ended by itself: %v: %s", id, cmd.ProcessState, lastLine(complaint.String())))
			}
		})
	}
	return w, nil
}

// freeze stops some workers, or lets them go on.
func (w *workers) freeze(ids []string, stop bool) error {
	for _, id := range ids {
		if err := freeze(w.procs[id].Process, stop); err != nil {
			return fmt.Errorf("stop %s: %w", id, err)
		}
	}
	return nil
}

// kill ends some workers with SIGKILL.
func (w *workers) kill(ids []string) error {
	w.expect(ids)
	for _, id := range ids {
		if err := w.procs[id].Process.Kill(); err != nil {
			return fmt.Errorf("kill %s: %w", id, err)
		}
	}
	return nil
}

// stop asks the workers to end, and after a while makes them.
func (w *workers) stop() {
	w.expect(w.ids)
	for _, stdin := range w.stdins {
		_ = stdin.Close()
	}
	force := time.AfterFunc(3*time.Second, func() {
		for _, cmd := range w.procs {
			_ = cmd.Process.Kill()
		}
	})
	defer force.Stop()
	w.wg.Wait()
}

func (w *workers) expect(ids []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range ids {
		w.killed[id] = true
	}
}

func (w *workers) expected(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.killed[id]
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}
