package kvregistry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/catga/catga-go/internal/wire"
)

// MaxMetadata is the most that the keys and values of a node's metadata may have, in bytes.
const MaxMetadata = 64 << 10

const (
	defaultForget   = 72 * time.Hour
	anonymousForget = time.Minute
)

// Config is what New needs to know. The zero value of a field is its default.
type Config struct {
	// Cluster is the name of the cluster. Required: two applications on one
	// NATS must not merge by accident.
	Cluster string
	// Node is the name of this node. Required by Join, optional for Observe.
	Node string
	// Endpoint is where this node's own service listens, for others to read.
	Endpoint string
	// Metadata is what this node says of itself, at most MaxMetadata bytes.
	Metadata map[string]string
	// Kinds are the message kinds that this node handles.
	Kinds []string
	// Mail is what becomes of this node's mail when it is gone. Default MailKeep.
	Mail MailPolicy
	// Anonymous says that Node was made up at start: nobody will ask for it
	// again, so it is forgotten a minute after its end.
	Anonymous bool
	// Light makes a member that watches nobody and keeps no view of the others
	// until Members, View, Watch or Wait is called for the first time. It is
	// seen and watched like any other; it costs the cluster less, and its
	// crash is noticed by members that are not light: a cluster needs some of
	// them, five at least. Until it has a view, View is empty and Stale, and
	// Changed hears of Evicted only. Default false.
	Light bool
	// Replicas of the buckets when they are made. 0 = 3 on a clustered NATS, else 1.
	Replicas int
	// NoProvision means that an operator made the buckets.
	NoProvision bool
	// Forget is how long an offline member stays visible. 0 = 72 h (a minute
	// for an anonymous node); at least a second.
	Forget time.Duration
	// Log gets what an operator should know. nil = silent.
	Log *slog.Logger

	// BeforeClaim runs in Join when the name was found free, before the record
	// is written and so before anybody sees the node; again before a rejoin.
	// An error ends Join with that error.
	BeforeClaim func(ctx context.Context) error
	// Changed is called with the changes of one step, one call at a time,
	// before the view that has them is published: whoever reads the view finds
	// what Changed did already done. It must not block and must not call
	// methods of the Registry that wait.
	Changed func(changes []Event)
}

// check returns all that is wrong with cfg, together, and cfg with its
// defaults filled in and nothing shared with the caller.
func (cfg Config) check() (Config, error) {
	var errs []error
	if err := wire.CheckCluster(cfg.Cluster); err != nil {
		errs = append(errs, err)
	}
	if cfg.Node != "" {
		if err := wire.CheckNode(cfg.Node); err != nil {
			errs = append(errs, err)
		}
	}
	for _, kind := range cfg.Kinds {
		if err := wire.CheckKind(kind); err != nil {
			errs = append(errs, err)
		}
	}
	if err := checkMetadata(cfg.Metadata); err != nil {
		errs = append(errs, err)
	}
	switch cfg.Mail {
	case "":
		cfg.Mail = MailKeep
	case MailKeep, MailReroute, MailDeadLetter:
	default:
		errs = append(errs, fmt.Errorf("mail policy %q: use %q, %q or %q", cfg.Mail, MailKeep, MailReroute, MailDeadLetter))
	}
	if cfg.Replicas < 0 || cfg.Replicas > 5 {
		errs = append(errs, fmt.Errorf("%d replicas: use 1 to 5, or 0 for the default", cfg.Replicas))
	}
	switch {
	case cfg.Forget == 0 && cfg.Anonymous:
		cfg.Forget = anonymousForget
	case cfg.Forget == 0:
		cfg.Forget = defaultForget
	case cfg.Forget < time.Second:
		errs = append(errs, fmt.Errorf("forget after %v: at least a second", cfg.Forget))
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Metadata = maps.Clone(cfg.Metadata)
	cfg.Kinds = slices.Clone(cfg.Kinds)
	slices.Sort(cfg.Kinds)
	cfg.Kinds = slices.Compact(cfg.Kinds)
	if len(errs) > 0 {
		return cfg, fmt.Errorf("kvregistry: %w", errors.Join(errs...))
	}
	return cfg, nil
}

func checkMetadata(md map[string]string) error {
	size := 0
	for key, value := range md {
		if key == "" {
			return errors.New("metadata has an empty key")
		}
		size += len(key) + len(value)
	}
	if size > MaxMetadata {
		return fmt.Errorf("%w: metadata has %d bytes, %d at most", ErrTooLarge, size, MaxMetadata)
	}
	return nil
}
