package routing

import (
	"context"
	"sync"
	"time"
)

// limited is the ctx of a handler whose time is limited. It starts a timer only
// when somebody waits for its end, or asks for a value that is not ours: most
// handlers are done before, and the timer is a tenth of what they cost.
//
// Its parent has no deadline.
type limited struct {
	parent   context.Context
	deadline time.Time
	cause    error // of the end at the deadline; nil is context.DeadlineExceeded

	mu    sync.Mutex
	ended bool
	armed context.Context // nil until somebody waits
	stop  context.CancelFunc
}

// limit returns a ctx that ends with parent, at the deadline, or with end.
func limit(parent context.Context, deadline time.Time, cause error) *limited {
	l := &limited{}
	l.begin(parent, deadline, cause)
	return l
}

// begin makes l, which is new, such a ctx.
func (l *limited) begin(parent context.Context, deadline time.Time, cause error) {
	l.parent, l.deadline, l.cause = parent, deadline, cause
}

// end ends it: the handler has returned.
func (l *limited) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	if l.stop != nil {
		l.stop()
	}
}

// arm returns the ctx that has a timer.
func (l *limited) arm() context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.armed == nil {
		if l.ended {
			l.armed, l.stop = context.WithCancel(l.parent)
			l.stop()
		} else {
			l.armed, l.stop = context.WithDeadlineCause(l.parent, l.deadline, l.cause)
		}
	}
	return l.armed
}

// Deadline implements context.Context.
func (l *limited) Deadline() (time.Time, bool) { return l.deadline, true }

// Done implements context.Context.
func (l *limited) Done() <-chan struct{} { return l.arm().Done() }

// Err implements context.Context.
func (l *limited) Err() error { return l.arm().Err() }

// Value implements context.Context. What is not ours may be how package context
// looks for the ctx that ends.
func (l *limited) Value(key any) any {
	switch key.(type) {
	case handlerKey, traceKey:
		return l.parent.Value(key)
	}
	return l.arm().Value(key)
}
