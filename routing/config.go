package routing

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/catga/catga-go/internal/wire"
)

// Config says who this router is and how it stores what is sent. The zero
// value of every field is the documented default.
type Config struct {
	// Cluster is the name of the cluster; required.
	Cluster string
	// Node is the id of this node; required.
	Node string
	// Anonymous says that Node was made up for this process: nobody will come
	// back under it, so its mailbox does not outlive it.
	Anonymous bool
	// Replicas of the streams; 0 is 3 on a clustered NATS and 1 elsewhere.
	Replicas int
	// NoProvision says that an operator made the streams: a missing one is an
	// error and none is created.
	NoProvision bool
	// Codec encodes what typed verbs send; nil is JSON.
	Codec Codec
	// Middleware wraps every handler, the first one outermost.
	Middleware []func(Handler) Handler
	// Mail is what becomes of the mail of this node when it is gone, or does not
	// handle the kind any more: "keep" (also "") until it is forgotten,
	// "reroute" to any other handler, or "dead-letter" at once.
	Mail string
	// Forget is how long mail of a kind that a member does not handle any more is
	// kept, and shared work of a kind that nobody handles, that at least for
	// 72 h; 0 is 72 h. How long the mail of a gone node is kept is what Standing
	// says.
	Forget time.Duration
	// Standing tells how a node stands that this router was not told is a member,
	// and its Peer as it was last known. It is called often, by any goroutine.
	// Nil is what Update has told: lost is Absent, unheard of is Forgotten.
	Standing func(id string) (Peer, Standing)
	// DedupWindow is how long the server drops a repeated message id. Each
	// message costs the server's memory for its length (116 to 277 B,
	// measured). 0 is 2 min.
	DedupWindow time.Duration
	// FanoutAge is how long a message to many nodes waits for one that is
	// away; 0 is 24 h.
	FanoutAge time.Duration
	// DeadAge is how long dead letters are kept; 0 is 30 days, negative is for ever.
	DeadAge time.Duration
	// Log takes what happens to messages behind the scenes; nil is silent.
	Log *slog.Logger
}

const (
	defaultForget      = 72 * time.Hour
	defaultDedupWindow = 2 * time.Minute
	defaultFanoutAge   = 24 * time.Hour
	defaultDeadAge     = 30 * 24 * time.Hour
)

// checked returns the config with its defaults, or all its problems together.
func (c Config) checked() (Config, error) {
	var errs []error
	add := func(err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("routing: %w", err))
		}
	}
	add(wire.CheckCluster(c.Cluster))
	add(wire.CheckNode(c.Node))
	if c.Replicas < 0 || c.Replicas > 5 {
		add(fmt.Errorf("replicas %d: use 0 (automatic) to 5", c.Replicas))
	}
	switch c.Mail {
	case "", "keep", "reroute", "dead-letter":
	default:
		add(fmt.Errorf("mail policy %q: use keep, reroute or dead-letter", c.Mail))
	}
	for name, d := range map[string]time.Duration{"forget": c.Forget, "dedup window": c.DedupWindow, "fan-out age": c.FanoutAge} {
		if d < 0 {
			add(fmt.Errorf("%s %v is negative", name, d))
		}
	}
	if len(errs) > 0 {
		return c, errors.Join(errs...)
	}
	c.Middleware = append([]func(Handler) Handler(nil), c.Middleware...)
	if c.Codec == nil {
		c.Codec = JSON
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Log = c.Log.With("cluster", c.Cluster, "node", c.Node)
	c.Mail = cmp.Or(c.Mail, "keep")
	c.Forget = cmp.Or(c.Forget, defaultForget)
	c.DedupWindow = cmp.Or(c.DedupWindow, defaultDedupWindow)
	c.FanoutAge = cmp.Or(c.FanoutAge, defaultFanoutAge)
	c.DeadAge = max(cmp.Or(c.DeadAge, defaultDeadAge), 0)
	return c, nil
}
