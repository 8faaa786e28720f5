package embedded

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	readyTick = 5 * time.Millisecond
	// recoverWait is how long a server that has read its directory may call
	// itself unhealthy before Start gives up. It covers the removal of deleted
	// streams, which goes on in the background; what is unhealthy longer stays
	// so.
	recoverWait = 5 * time.Second
)

// ready waits until a started server can be written.
func (n *node) ready(ctx context.Context, set settings) error {
	if err := n.log.failed(); err != nil {
		return set.startError(err)
	}
	if set.Dir == "" {
		if err := n.srv.GlobalAccount().UpdateJetStreamLimits(memoryOnly()); err != nil {
			return &fault{is: ErrFailed, text: err.Error(), errs: []error{err}}
		}
	}
	if err := n.healthy(ctx, set); err != nil {
		return err
	}
	if set.listen {
		n.url = n.clientURL(set)
	}
	return nil
}

// healthy waits for the server's own word: unlike its other signs, it knows of
// streams that were not recovered and of a cluster without a leader.
func (n *node) healthy(ctx context.Context, set settings) error {
	tick := time.NewTicker(readyTick)
	defer tick.Stop()
	end := time.NewTimer(recoverWait)
	defer end.Stop()
	for {
		h := n.srv.Healthz(&server.HealthzOptions{})
		if h.Error == "" {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return notReady(ctx, h.Error)
		case <-end.C:
			return &fault{is: ErrNotReady, text: fmt.Sprintf(
				"JetStream is not ready: %s: restore directory %s from a backup, or move the stream's folder out of it to start without that stream",
				h.Error, set.Dir)}
		}
	}
}

// memoryOnly are account limits that allow no stream on disk.
func memoryOnly() map[string]server.JetStreamAccountLimits {
	return map[string]server.JetStreamAccountLimits{"": {
		MaxMemory: -1, MaxStore: 0, MaxStreams: -1, MaxConsumers: -1, MaxAckPending: -1,
		MemoryMaxStreamBytes: -1, StoreMaxStreamBytes: -1,
	}}
}
