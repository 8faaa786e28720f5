//go:build unix

package natstest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const exeSuffix = ""

// Pause stops the server with SIGSTOP: its sockets stay open and nothing answers.
// It returns when all threads have stopped, where the system tells.
func (s *Server) Pause() {
	s.signal(syscall.SIGSTOP)
	for end := time.Now().Add(time.Second); s.running() && time.Now().Before(end); {
		<-time.After(time.Millisecond)
	}
}

// running tells whether a thread of the server has not stopped yet.
func (s *Server) running() bool {
	s.mu.Lock()
	cmd := s.cmd
	s.mu.Unlock()
	if cmd == nil {
		return false
	}
	stats, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", cmd.Process.Pid)) // the pattern is a good one
	for _, stat := range stats {
		data, err := os.ReadFile(stat)
		// After the name in parentheses comes the state.
		if i := bytes.LastIndexByte(data, ')'); err == nil && i >= 0 && !bytes.HasPrefix(data[i:], []byte(") T")) {
			return true
		}
	}
	return false
}

// Resume ends a Pause.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

// LameDuck asks the server to move its clients elsewhere and then to stop, as
// `nats-server --signal ldm` does.
func (s *Server) LameDuck() { s.signal(syscall.SIGUSR2) }

func (s *Server) signal(sig os.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		_ = s.cmd.Process.Signal(sig)
	}
}

func interrupt(p *os.Process) error { return p.Signal(os.Interrupt) }
