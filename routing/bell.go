package routing

import "sync/atomic"

// bell tells those who wait that something has happened since they began.
type bell struct{ c atomic.Pointer[chan struct{}] }

func (b *bell) init() {
	c := make(chan struct{})
	b.c.Store(&c)
}

// next is closed by the next ring.
func (b *bell) next() <-chan struct{} { return *b.c.Load() }

// ring wakes all who wait.
func (b *bell) ring() {
	c := make(chan struct{})
	close(*b.c.Swap(&c))
}
