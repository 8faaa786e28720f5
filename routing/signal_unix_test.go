//go:build unix

package routing

import "syscall"

// pause stops the child as SIGSTOP does; kill ends it still.
func (c *child) pause() {
	c.t.Helper()
	if err := c.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		c.t.Fatal(err)
	}
}
