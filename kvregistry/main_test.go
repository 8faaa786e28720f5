package kvregistry

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/catga/catga-go/internal/natstest"
	"github.com/catga/catga-go/internal/opening"
	"github.com/nats-io/nats.go"
)

// envNode makes the test binary one member of a cluster instead of running
// tests: "<url> <cluster> <node>".
const envNode = "KVREGISTRY_TEST_NODE"

func TestMain(m *testing.M) {
	if spec := os.Getenv(envNode); spec != "" {
		if err := runNode(spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	natstest.Main(m)
}

// runNode is a member until its standard input ends.
func runNode(spec string) error {
	var url, cluster, node string
	if _, err := fmt.Sscan(spec, &url, &cluster, &node); err != nil {
		return err
	}
	nc, err := nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond),
		nats.ReconnectJitter(50*time.Millisecond, 50*time.Millisecond), nats.ReconnectBufSize(-1),
		nats.SetCustomDialer(&opening.Dialer{Timeout: nats.DefaultTimeout}))
	if err != nil {
		return err
	}
	defer nc.Close()
	r, err := New(nc, Config{Cluster: cluster, Node: node, Log: testLog(node)})
	if err != nil {
		return err
	}
	if err := r.Join(context.Background()); err != nil {
		return err
	}
	fmt.Println("joined", r.Self().Incarnation)
	_, _ = io.Copy(io.Discard, os.Stdin)
	return r.Close()
}

// process is a member in a process of its own.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
	out   *bufio.Reader
}

// startNode starts a member in a process of its own, which ends with the test.
func startNode(t testing.TB, url, cluster, node string) *process {
	t.Helper()
	p := launchNode(t, url, cluster, node)
	p.waitJoined(t)
	return p
}

// launchNode is startNode without waiting for the member to have joined.
func launchNode(t testing.TB, url, cluster, node string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envNode+"="+url+" "+cluster+" "+node)
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
	p := &process{cmd: cmd, stdin: stdin, out: bufio.NewReader(stdout)}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return p
}

func (p *process) waitJoined(t testing.TB) {
	t.Helper()
	line, err := p.out.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "joined") {
		t.Fatalf("node process: %q %v", line, err)
	}
}

// kill is SIGKILL.
func (p *process) kill() { _ = p.cmd.Process.Kill() }
