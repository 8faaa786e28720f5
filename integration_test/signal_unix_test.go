//go:build unix

package integration_test

import (
	"syscall"
	"testing"
)

// pause stops the process as SIGSTOP does; kill ends it still.
func (p *process) pause(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
}

// terminate asks the process to end, as who stops a service does.
func (p *process) terminate(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
}
