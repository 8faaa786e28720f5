package integration_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/catga/catga-go/cluster"
)

// nodeEnv makes the test binary a node process.
const nodeEnv = "CATGA_INTEGRATION_NODE"

// nodeSpec says what a node process is.
type nodeSpec struct {
	URL, Cluster, ID string
	Metadata         map[string]string
	Kinds            []string
}

// said is one line that a node process prints.
type said struct {
	Event   string // joined, begun, done, left, error
	Kind    string
	Text    string
	Attempt int
	At      int64 // when it is said, ns since 1970
}

// The messages of the scenarios. What handlers do with them is in handlers.
type (
	note struct{ Text string } // noted
	slow struct {
		Text string
		MS   int
	} // takes MS
	poison struct{}                    // kills its process
	echo   struct{ Text string }       // answered
	echoed struct{ Node, Text string } //
	hang   struct{}                    // a call that ends only with its ctx
	refuse struct {
		Code int
		Text string
	} // a call that fails
)

func (note) Kind() string     { return "test.note" }
func (slow) Kind() string     { return "test.slow" }
func (poison) Kind() string   { return "test.poison" }
func (echo) Kind() string     { return "test.echo" }
func (hang) Kind() string     { return "test.hang" }
func (refuse) Kind() string   { return "test.refuse" }
func (echo) Returns(echoed)   {}
func (hang) Returns(echoed)   {}
func (refuse) Returns(echoed) {}

// handlers registers what a node process can do.
var handlers = map[string]func(n *cluster.Node, say func(said)){
	note{}.Kind(): func(n *cluster.Node, say func(said)) {
		cluster.Handle(n, func(_ context.Context, m *cluster.Msg[note]) error {
			say(said{Event: "done", Kind: "test.note", Text: m.Body.Text, Attempt: m.Attempt})
			return nil
		})
	},
	slow{}.Kind(): func(n *cluster.Node, say func(said)) {
		cluster.Handle(n, func(ctx context.Context, m *cluster.Msg[slow]) error {
			say(said{Event: "begun", Kind: "test.slow", Text: m.Body.Text, Attempt: m.Attempt})
			select {
			case <-time.After(time.Duration(m.Body.MS) * time.Millisecond):
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			say(said{Event: "done", Kind: "test.slow", Text: m.Body.Text, Attempt: m.Attempt})
			return nil
		})
	},
	poison{}.Kind(): func(n *cluster.Node, say func(said)) {
		cluster.Handle(n, func(_ context.Context, m *cluster.Msg[poison]) error {
			say(said{Event: "begun", Kind: "test.poison", Attempt: m.Attempt})
			p, _ := os.FindProcess(os.Getpid())
			_ = p.Kill()
			select {}
		})
	},
	echo{}.Kind(): func(n *cluster.Node, say func(said)) {
		cluster.HandleCall(n, func(_ context.Context, m *cluster.Msg[echo]) (echoed, error) {
			say(said{Event: "done", Kind: "test.echo", Text: m.Body.Text, Attempt: m.Attempt})
			return echoed{n.ID(), m.Body.Text}, nil
		})
	},
	hang{}.Kind(): func(n *cluster.Node, say func(said)) {
		cluster.HandleCall(n, func(ctx context.Context, m *cluster.Msg[hang]) (echoed, error) {
			say(said{Event: "begun", Kind: "test.hang", Attempt: m.Attempt})
			<-ctx.Done()
			return echoed{}, context.Cause(ctx)
		})
	},
	step{}.Kind(): handleSteps,
	ask{}.Kind():  answerAsks,
}

// nodeMain is the main of a node process: it joins, says so, and stays until a
// line on its standard input says "leave" or SIGTERM comes, or the input ends.
func nodeMain(spec string) int {
	var s nodeSpec
	var mu sync.Mutex
	out := json.NewEncoder(os.Stdout)
	say := func(line said) {
		mu.Lock()
		defer mu.Unlock()
		line.At = time.Now().UnixNano()
		_ = out.Encode(line)
	}
	err := func() error {
		if err := json.Unmarshal([]byte(spec), &s); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		nc, err := cluster.Dial(ctx, s.URL)
		if err != nil {
			return err
		}
		defer nc.Close()
		n, err := cluster.New(nc, cluster.Config{Cluster: s.Cluster, Node: s.ID, Metadata: s.Metadata})
		if err != nil {
			return err
		}
		defer n.Close()
		for _, kind := range s.Kinds {
			handlers[kind](n, say)
		}
		if err := n.Join(ctx); err != nil {
			return err
		}
		say(said{Event: "joined"})
		term := make(chan os.Signal, 1)
		signal.Notify(term, syscall.SIGTERM)
		lines := make(chan string)
		go func() { // ends with the process
			defer close(lines)
			in := bufio.NewScanner(os.Stdin)
			for in.Scan() {
				lines <- in.Text()
			}
		}()
		for {
			select {
			case <-term:
			case line, ok := <-lines:
				if !ok {
					return nil
				}
				if line != "leave" {
					continue
				}
			}
			if err := n.Leave(context.Background()); err != nil {
				return err
			}
			say(said{Event: "left"})
			return nil
		}
	}()
	if err != nil {
		say(said{Event: "error", Text: err.Error()})
		return 1
	}
	return 0
}

// process is a node process.
type process struct {
	id    string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan said // everything that it says; closed at its end
	done  chan struct{}
}

// spawn starts a node process and waits until it has joined.
func (w *world) spawn(t *testing.T, id string, kinds ...string) *process {
	t.Helper()
	p := w.spawnNoWait(t, nodeSpec{ID: id, Kinds: kinds})
	if line := p.next(t); line.Event != "joined" {
		t.Fatalf("%s: %+v", id, line)
	}
	return p
}

func (w *world) spawnNoWait(t *testing.T, s nodeSpec) *process {
	t.Helper()
	if s.URL == "" {
		s.URL = w.url
	}
	s.Cluster = w.cluster
	spec, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), nodeEnv+"="+string(spec))
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
	p := &process{id: s.ID, cmd: cmd, stdin: stdin, lines: make(chan said, 10_000), done: make(chan struct{})}
	go func() {
		defer close(p.done)
		dec := json.NewDecoder(stdout)
		for {
			var line said
			if dec.Decode(&line) != nil {
				break
			}
			p.lines <- line
		}
		close(p.lines)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
	})
	return p
}

// next returns the next line that the process says.
func (p *process) next(t *testing.T) said {
	t.Helper()
	select {
	case line, ok := <-p.lines:
		if !ok {
			return said{Event: "ended"}
		}
		return line
	case <-bounded(t).Done():
		t.Fatalf("%s says nothing", p.id)
		panic("unreachable")
	}
}

// kill ends the process with SIGKILL and waits for its end.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// leave makes the node leave and waits for the end of the process.
func (p *process) leave(t *testing.T) {
	t.Helper()
	if _, err := fmt.Fprintln(p.stdin, "leave"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.done:
	case <-bounded(t).Done():
		t.Fatalf("%s does not leave", p.id)
	}
	if !p.cmd.ProcessState.Success() {
		t.Fatalf("%s: %v", p.id, p.cmd.ProcessState)
	}
}
