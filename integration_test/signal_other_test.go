//go:build !unix

package integration_test

import (
	"fmt"
	"testing"
)

// pause kills the process where none can be stopped: a crash takes the place of
// a hang.
func (p *process) pause(*testing.T) { p.kill() }

// terminate asks the process to end by its input, where there is no SIGTERM.
func (p *process) terminate(t *testing.T) {
	t.Helper()
	if _, err := fmt.Fprintln(p.stdin, "leave"); err != nil {
		t.Fatal(err)
	}
}
