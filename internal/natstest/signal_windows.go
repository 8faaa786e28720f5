package natstest

import "os"

const exeSuffix = ".exe"

// Pause does nothing: Windows has no SIGSTOP.
func (s *Server) Pause() {}

// Resume ends a Pause.
func (s *Server) Resume() {}

// LameDuck does nothing: Windows has no SIGUSR2.
func (s *Server) LameDuck() {}

func interrupt(p *os.Process) error { return p.Kill() }
