//go:build unix

package natstest

import (
	"os"
	"syscall"
)

const exeSuffix = ""

// Pause stops the server with SIGSTOP: its sockets stay open and nothing answers.
func (s *Server) Pause() { s.signal(syscall.SIGSTOP) }

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
