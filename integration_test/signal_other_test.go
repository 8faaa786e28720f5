//go:build !unix

package integration_test

import "testing"

// pause kills the process where none can be stopped: a crash takes the place of
// a hang.
func (p *process) pause(*testing.T) { p.kill() }
