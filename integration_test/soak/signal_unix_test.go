//go:build unix

package soak_test

import (
	"os"
	"syscall"
)

// pause stops a process: its sockets stay open, and nothing answers.
func pause(p *os.Process) error { return p.Signal(syscall.SIGSTOP) }

// resume ends a pause.
func resume(p *os.Process) error { return p.Signal(syscall.SIGCONT) }
