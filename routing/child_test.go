package routing

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

	"github.com/nats-io/nats.go"
)

// durableChildEnv makes the test binary a node process: "<url> <id> <what>".
const durableChildEnv = "ROUTING_TEST_DURABLE_NODE"

// durableChild is the main of a node process.
func durableChild() {
	var url, id, what string
	if _, err := fmt.Sscan(os.Getenv(durableChildEnv), &url, &id, &what); err != nil {
		panic(err)
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // ends with the parent
		os.Exit(4)
	}()
	if err := childNode(url, id, what); err != nil {
		fmt.Println("error:", err)
	}
	os.Exit(1)
}

func dialChild(url string, opts ...nats.Option) (*nats.Conn, error) {
	return nats.Connect(url, append(opts, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond), nats.ReconnectBufSize(-1))...)
}

// child is a node process of a test.
type child struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan string
	ended chan struct{}
}

// startChild starts a node process and returns when it is ready.
func startChild(t *testing.T, url, id, what string) *child {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	cmd := exec.CommandContext(ctx, exe)
	cmd.Env = append(os.Environ(), durableChildEnv+"="+strings.Join([]string{url, id, what}, " "))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{t: t, cmd: cmd, lines: make(chan string, 1000), ended: make(chan struct{})}
	go func() {
		defer close(c.ended)
		for scan := bufio.NewScanner(stdout); scan.Scan(); {
			c.lines <- scan.Text()
		}
		_ = cmd.Wait() // it is killed, as a rule
		cancel()
	}()
	t.Cleanup(func() {
		_ = stdin.Close()
		c.kill()
	})
	c.expect("ready")
	return c
}

// expect waits for a line of the child.
func (c *child) expect(line string) {
	c.t.Helper()
	timeout := time.After(30 * time.Second)
	for {
		select {
		case got := <-c.lines:
			if got == line {
				return
			}
			if strings.HasPrefix(got, "error:") {
				c.t.Fatal("child:", got)
			}
		case <-timeout:
			c.t.Fatalf("the child did not say %q", line)
		}
	}
}

// kill ends the child as a crash does.
func (c *child) kill() {
	_ = c.cmd.Process.Kill() // it may have ended already
	<-c.ended
}

// wait waits until the child has ended by itself.
func (c *child) wait() {
	c.t.Helper()
	select {
	case <-c.ended:
	case <-time.After(30 * time.Second):
		c.t.Fatal("the child goes on")
	}
}
