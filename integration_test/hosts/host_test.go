//go:build hosts && linux

package hosts

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func init() { roles["hold"] = hold }

// hold is the process that keeps the namespaces of a host: they go with it.
func hold() error {
	fmt.Println("holding")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// host is a machine: a network namespace with one address, and a mount
// namespace with a small disk of its own. It ends with the test, also when
// that is killed: nothing of it has a name outside.
type host struct {
	t      testing.TB
	lab    *lab
	name   string
	ip     net.IP
	dir    string // where its disk is mounted
	port   int    // of the switch
	holder *exec.Cmd

	mu sync.Mutex
	p  *program // the one that runs, if any
}

// disk is the size of a host's disk in bytes.
const disk = 640 << 20 // of memory, and only what is used

// addHost starts a host and plugs it into the switch.
func (l *lab) addHost(name string) *host {
	t := l.t
	t.Helper()
	n := len(l.hosts) + 1
	h := &host{t: t, lab: l, name: name, ip: net.IPv4(10, 77, 0, byte(n)), dir: t.TempDir()}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	h.holder = exec.Command(self)
	h.holder.Env = append(os.Environ(), envRole+"=hold")
	h.holder.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET,
		// As a flag of unshare it makes the mounts private, too.
		Unshareflags: syscall.CLONE_NEWNS,
		Pdeathsig:    syscall.SIGKILL,
	}
	if _, err := h.holder.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := h.holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.holder.Start(); err != nil {
		t.Fatalf("no new network namespace: %v. These tests need root on Linux", err)
	}
	t.Cleanup(func() {
		_ = h.holder.Process.Kill()
		_ = h.holder.Wait()
	})
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("the holder of %s: %v", name, err)
	}
	device := fmt.Sprintf("catga%d-%d", os.Getpid()%100000, n)
	tap, err := openTap(device)
	if err != nil {
		t.Fatal(err)
	}
	run(t, "ip", "link", "set", device, "netns", strconv.Itoa(h.holder.Process.Pid))
	h.run("ip", "link", "set", device, "name", "eth0")
	h.run("ip", "addr", "add", h.ip.String()+"/24", "dev", "eth0")
	h.run("ip", "link", "set", "eth0", "up")
	h.run("ip", "link", "set", "lo", "up")
	h.run("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d", disk), "tmpfs", h.dir)
	h.port = l.lan.plug(tap)
	l.hosts = append(l.hosts, h)
	return h
}

// inside is the command that runs another one in the host.
func (h *host) inside(args ...string) []string {
	return append([]string{"nsenter", "--target", strconv.Itoa(h.holder.Process.Pid), "--net", "--mount"}, args...)
}

func (h *host) run(args ...string) {
	h.t.Helper()
	run(h.t, h.inside(args...)...)
}

func run(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// program is the machine process of a host.
type program struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	done chan struct{}
}

// start runs the machine of the host, which writes its history to the lab.
func (h *host) start() {
	h.t.Helper()
	self, err := os.Executable()
	if err != nil {
		h.t.Fatal(err)
	}
	spec, err := json.Marshal(machine{
		ID: h.name, IP: h.ip.String(), Dir: h.dir, Server: h.isServer(), Servers: h.lab.serverIPs(), Boot: h.lab.boot(h.name),
	})
	if err != nil {
		h.t.Fatal(err)
	}
	args := h.inside(self)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), envRole+"=machine", envMachine+"="+string(spec))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = h.lab.stderr(h.name)
	p := &program{cmd: cmd, done: make(chan struct{})}
	if p.in, err = cmd.StdinPipe(); err != nil {
		h.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.mu.Lock()
	h.p = p
	h.mu.Unlock()
	h.lab.wg.Go(func() {
		defer close(p.done)
		lines := json.NewDecoder(out)
		for {
			var e entry
			if err := lines.Decode(&e); err != nil {
				break
			}
			h.lab.add(e)
		}
		_ = cmd.Wait()
	})
}

func (h *host) isServer() bool { return strings.HasPrefix(h.name, "s") }

func (h *host) running() *program {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.p
}

// tell sends an order to the machine.
func (h *host) tell(order string) {
	if p := h.running(); p != nil {
		_, _ = io.WriteString(p.in, order+"\n")
	}
}

// signal sends a signal to the machine.
func (h *host) signal(s syscall.Signal) {
	if p := h.running(); p != nil {
		_ = p.cmd.Process.Signal(s)
	}
}

// kill is SIGKILL; it returns when the process is gone.
func (h *host) kill() {
	h.signal(syscall.SIGKILL)
	if p := h.running(); p != nil {
		<-p.done
	}
	h.mu.Lock()
	h.p = nil
	h.mu.Unlock()
}
