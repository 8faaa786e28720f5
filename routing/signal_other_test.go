//go:build !unix

package routing

// pause is for systems that can stop a process.
func (c *child) pause() { c.t.Skip("a process cannot be stopped here") }
