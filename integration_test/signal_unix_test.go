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
