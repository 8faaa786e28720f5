package embedded

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	readyTick = 5 * time.Millisecond
	// unhealthyWait is how long a server that has read its directory may call
	// itself unhealthy before Start gives up: standing alone, it recovers
	// everything before it says that it has started, and nothing afterwards.
	unhealthyWait = time.Second
)

// ready waits until a started server can be written.
func (i *instance) ready(ctx context.Context, set settings) error {
	if err := i.log.failed(); err != nil {
		return set.startError(err)
	}
	if set.Dir == "" {
		if err := i.srv.GlobalAccount().UpdateJetStreamLimits(memoryOnly()); err != nil {
			return &fault{is: ErrFailed, text: err.Error(), errs: []error{err}}
		}
	}
	if err := i.healthy(ctx, set); err != nil {
		return err
	}
	if set.listen {
		i.url = i.clientURL(set)
	}
	return nil
}

// healthy waits for the server's own word: unlike its other signs, it knows of
// streams that were not recovered, and of a cluster without a leader.
func (i *instance) healthy(ctx context.Context, set settings) error {
	tick := time.NewTicker(readyTick)
	defer tick.Stop()
	end := time.NewTimer(unhealthyWait)
	defer end.Stop()
	for {
		missing := unhealthy(i.srv.Healthz(&server.HealthzOptions{Details: true}))
		if missing == "" {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return notReady(ctx, missing)
		case <-end.C:
			return &fault{is: ErrNotReady, text: fmt.Sprintf(
				"JetStream is not ready: %s: restore directory %s from a backup, or move the stream's folder out of it to start without that stream",
				missing, set.Dir)}
		}
	}
}

// unhealthy returns what is wrong, or nothing.
func unhealthy(h *server.HealthStatus) string {
	var missing []string
	for _, e := range h.Errors {
		// The folder of a deleted stream starts with a dot; the server removes
		// it in the background.
		if e.Type == server.HealthzErrorStream && strings.HasPrefix(e.Stream, ".") {
			continue
		}
		missing = append(missing, e.Error)
	}
	return strings.Join(missing, "; ")
}

// memoryOnly are account limits that allow no stream on disk.
func memoryOnly() map[string]server.JetStreamAccountLimits {
	return map[string]server.JetStreamAccountLimits{"": {
		MaxMemory: -1, MaxStore: 0, MaxStreams: -1, MaxConsumers: -1, MaxAckPending: -1,
		MemoryMaxStreamBytes: -1, StoreMaxStreamBytes: -1,
	}}
}
