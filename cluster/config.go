package cluster

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/catga/catga-go/internal/wire"
)

// Config says what a node is. The zero value of every field but Cluster is its
// documented default.
type Config struct {
	// Cluster is the name of the cluster, 1 to 64 of A-Z a-z 0-9 _ -. It has no
	// default: two applications on one NATS must not merge by accident.
	Cluster string
	// Node is the node's id, unique in the cluster, 1 to 64 of A-Z a-z 0-9 _ -.
	// A process that comes back under its id gets the messages that waited for
	// it. Empty means anonymous: <program>-<6 random>; mail of an anonymous node
	// is not kept and the node is forgotten a minute after its end.
	Node string
	// Endpoint is where the node's own service listens, for others to read.
	// The library does not use it.
	Endpoint string
	// Metadata is what others may want to know of the node. See SetMetadata.
	Metadata map[string]string
	// Codec turns message bodies into bytes; nil is JSON. A receiver goes by the
	// content type that the message states, so codecs may differ between nodes
	// as long as each node's own Codec, JSON or raw bytes is used.
	Codec Codec
	// Middleware wraps every handler of the node, the first one outermost.
	Middleware []func(Handler) Handler
	// Log hears what an operator may want to know; nil is silent.
	Log *slog.Logger
	// Replicas of the registry and the streams when the node has to make them;
	// 0 means 3 on a clustered NATS, else 1.
	Replicas int
	// NoProvision: the buckets and streams were made by an operator (see
	// docs/operations.md); one that is missing is an error.
	NoProvision bool
	// Mail says what becomes of this node's mail when it is gone. It travels in
	// the node's record. Empty is MailKeep for a named node and MailDeadLetter
	// for an anonymous one.
	Mail MailPolicy
	// Forget is how long an offline node and its mail are kept; 0 means 72 h for
	// a named node and 1 min for an anonymous one.
	Forget time.Duration

	anonymous bool // Node was made up by check
}

// check returns cfg with its defaults, or all its problems.
func (cfg Config) check() (Config, error) {
	var problems []error
	problem := func(err error) {
		if err != nil {
			problems = append(problems, err)
		}
	}
	problem(wire.CheckCluster(cfg.Cluster))
	if cfg.Node == "" {
		cfg.Node, cfg.anonymous = anonymousID(), true
		cfg.Mail = cmp.Or(cfg.Mail, MailDeadLetter) // nobody comes back under the name
	}
	problem(wire.CheckNode(cfg.Node))
	for i, mw := range cfg.Middleware {
		if mw == nil {
			problem(fmt.Errorf("middleware %d is nil", i))
		}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return cfg, errors.Join(problems...)
}

// anonymousID returns <program>-<6 random>.
func anonymousID() string {
	program := strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe")
	clean := strings.Map(func(r rune) rune {
		if wire.CheckNode(string(r)) == nil {
			return r
		}
		return '_'
	}, program)
	if clean == "" {
		clean = "node"
	}
	const room = wire.MaxName - 7
	return clean[:min(len(clean), room)] + "-" + strings.ToLower(rand.Text()[:6])
}
