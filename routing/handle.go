package routing

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/catga/catga-go/internal/wire"
)

// HandleOptions say how the messages of a kind are handled on this node.
type HandleOptions struct {
	// Concurrency is how many durable messages of the kind run at once on this
	// node, and how many it takes from the server at a time; 0 is 16.
	Concurrency int
	// Retry is what happens when the handler fails on a durable message.
	Retry RetryPolicy
	// TimeLimit ends the handler's ctx; 0 is 5 min for durable messages and
	// the caller's deadline for calls, negative is no limit.
	TimeLimit time.Duration
	// Reply says that the kind answers calls: what the handler returns is for
	// the caller. A durable message of the kind runs it and drops the answer.
	Reply bool
}

const (
	defaultConcurrency = 16
	defaultTimeLimit   = 5 * time.Minute
)

// kind is one handled kind. But for its tally and its lane it does not change
// after Prepare.
type kind struct {
	name    string
	handler Handler // with the middleware around it
	opts    HandleOptions
	lane    *lane // where its durable messages run
	tally   tally
}

// Handle registers the handler of a kind. It panics where the program is
// wrong: a kind that cannot be one, a kind handled twice, no handler, or a call
// after Prepare.
func (r *Router) Handle(name string, h Handler, o HandleOptions) {
	if err := wire.CheckKind(name); err != nil {
		panic("routing: Handle: " + err.Error())
	}
	if h == nil {
		panic(fmt.Sprintf("routing: Handle: kind %q without a handler", name))
	}
	if o.Concurrency < 0 {
		panic(fmt.Sprintf("routing: Handle: kind %q with concurrency %d", name, o.Concurrency))
	}
	o.Concurrency = cmp.Or(o.Concurrency, defaultConcurrency)
	o.Retry = o.Retry.withDefaults()
	for _, wrap := range slices.Backward(r.cfg.Middleware) {
		h = wrap(h)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.phase != phaseNew {
		panic(fmt.Sprintf("routing: Handle: kind %q after Prepare", name))
	}
	if r.kinds[name] != nil {
		panic(fmt.Sprintf("routing: Handle: kind %q is handled twice", name))
	}
	k := &kind{name: name, handler: h, opts: o}
	k.lane = newLane(r, k)
	r.kinds[name] = k
}

// Kinds returns the handled kinds, sorted.
func (r *Router) Kinds() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.kinds))
}
