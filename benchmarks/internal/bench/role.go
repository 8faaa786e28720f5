package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
)

// envRole makes this program run one of its roles instead of a suite.
const envRole = "CATGA_BENCH_ROLE"

// Role is what a process of this program does when it was started by another
// one. It reads its orders from in, one JSON value per line, says what it has
// to say to out in the same way, and ends when in ends.
type Role func(ctx context.Context, in *json.Decoder, out *json.Encoder) error

var (
	rolesMu sync.Mutex
	roles   = map[string]Role{}
)

// AddRole names a role. Roles are added before main runs, as package variables:
//
//	var _ = bench.AddRole("server", serve)
func AddRole(name string, role Role) string {
	rolesMu.Lock()
	defer rolesMu.Unlock()
	if roles[name] != nil {
		panic("bench: role " + name + " twice")
	}
	roles[name] = role
	return name
}

// InRole tells whether this process was started for a role.
func InRole() bool { return os.Getenv(envRole) != "" }

// RunRole runs the role of this process and returns its exit code.
func RunRole() int {
	name := os.Getenv(envRole)
	role := roles[name]
	if role == nil {
		fmt.Fprintln(os.Stderr, "benchmarks: no role", name)
		return 1
	}
	if err := role(context.Background(), json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)); err != nil && !errors.Is(err, io.EOF) {
		fmt.Fprintf(os.Stderr, "benchmarks: %s: %v\n", name, err)
		return 1
	}
	return 0
}

// Process is a process of this program in a role. It dies with this one.
type Process struct {
	cmd *exec.Cmd
	in  *json.Encoder
	end io.Closer
	out *json.Decoder
}

// StartRole starts a process in a role.
func StartRole(name string) (*Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), envRole+"="+name)
	cmd.Stderr = os.Stderr
	dieWithParent(cmd)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("role %s: %w", name, err)
	}
	return &Process{cmd: cmd, in: json.NewEncoder(stdin), end: stdin, out: json.NewDecoder(bufio.NewReader(stdout))}, nil
}

// Tell sends v to the process.
func (p *Process) Tell(v any) error { return p.in.Encode(v) }

// Hear reads what the process says next into v.
func (p *Process) Hear(v any) error { return p.out.Decode(v) }

// PID returns the id of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Kill is SIGKILL, and returns when the process is gone.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// Close ends the input of the process and waits for its end.
func (p *Process) Close() error {
	_ = p.end.Close()
	return p.cmd.Wait()
}
