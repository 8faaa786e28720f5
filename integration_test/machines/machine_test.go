package machines_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/catga/catga-go/embedded"
	"github.com/catga/catga-go/internal/natstest"
)

// machineEnv makes the test binary a server process.
const machineEnv = "CATGA_MACHINES_SERVER"

// limit bounds whatever a test waits for.
const limit = 3 * time.Minute

// orderLimit bounds an order to a server, which then says why it failed.
const orderLimit = limit - 10*time.Second

// machineSpec says what a server process is.
type machineSpec struct {
	Dir, Name   string
	Addr, Route string // for clients and for servers
	Peers       []string
}

// machineMain is the main of a server process. It starts a server, says
// "ready", and does what it is told: "remove <name>", until its input ends.
func machineMain(spec string) int {
	err := func() error {
		var m machineSpec
		if err := json.Unmarshal([]byte(spec), &m); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		s, err := embedded.Start(ctx, embedded.Config{
			Dir: m.Dir, Name: m.Name, Addr: m.Addr,
			Cluster: embedded.Cluster{Name: "test", Addr: m.Route, Peers: m.Peers},
		})
		if err != nil {
			return err
		}
		defer s.Close()
		fmt.Println("ready")
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			name, ok := strings.CutPrefix(in.Text(), "remove ")
			if !ok {
				return fmt.Errorf("no order %q", in.Text())
			}
			removing, cancel := context.WithTimeout(context.Background(), orderLimit)
			err := s.Remove(removing, name)
			cancel()
			if err != nil {
				return err
			}
			peers, err := s.Peers()
			if err != nil {
				return err
			}
			fmt.Println("removed, of", len(peers))
		}
		return nil
	}()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// machine is a server process, which is killed and started again.
type machine struct {
	machineSpec
	cmd   *exec.Cmd
	in    io.Writer
	lines chan string
	done  chan struct{}
}

// newMachines makes n machines with addresses of their own, which are not
// started. The first three are each other's peers.
func newMachines(t *testing.T, n int) []*machine {
	t.Helper()
	clients, routes := natstest.Addrs(t, n), natstest.Addrs(t, n)
	root := t.TempDir()
	var all []*machine
	for i := range n {
		name := fmt.Sprint("m", i+1)
		all = append(all, &machine{machineSpec: machineSpec{
			Dir: filepath.Join(root, name), Name: name, Addr: clients[i], Route: routes[i], Peers: routes[:3],
		}})
	}
	return all
}

// launch starts the process and does not wait for the server.
func (m *machine) launch(t *testing.T) {
	t.Helper()
	spec, err := json.Marshal(m.machineSpec)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), machineEnv+"="+string(spec))
	cmd.Stderr = os.Stderr
	if m.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines, done := make(chan string, 16), make(chan struct{})
	m.cmd, m.lines, m.done = cmd, lines, done
	go func() {
		defer close(done)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
		close(lines)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
	})
}

// hear waits for what the server says next.
func (m *machine) hear(t *testing.T, want string) {
	t.Helper()
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	select {
	case line := <-m.lines:
		if line != want {
			t.Fatalf("server %s says %q instead of %q", m.Name, line, want)
		}
	case <-timeout.C:
		t.Fatalf("server %s does not say %q", m.Name, want)
	}
}

// tell sends an order and waits for the answer.
func (m *machine) tell(t *testing.T, order, answer string) {
	t.Helper()
	if _, err := io.WriteString(m.in, order+"\n"); err != nil {
		t.Fatal(err)
	}
	m.hear(t, answer)
}

// kill is SIGKILL; it returns when the process is gone.
func (m *machine) kill() {
	_ = m.cmd.Process.Kill()
	<-m.done
}

// startTogether starts machines side by side and waits until all are ready.
func startTogether(t *testing.T, machines ...*machine) {
	t.Helper()
	for _, m := range machines {
		m.launch(t)
	}
	for _, m := range machines {
		m.hear(t, "ready")
	}
}

func urls(machines ...*machine) string {
	var all []string
	for _, m := range machines {
		all = append(all, "nats://"+m.Addr)
	}
	return strings.Join(all, ",")
}
