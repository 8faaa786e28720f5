package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
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
	wait := i.healthy
	if set.Cluster.on() {
		wait = i.agreed
	}
	if err := wait(ctx, set); err != nil {
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

// agreed waits until the servers of a cluster have a leader, which has answered
// this one, and the streams of this one have caught up. Without a deadline it
// waits for ever: machines may start hours apart. It says what it waits for.
func (i *instance) agreed(ctx context.Context, set settings) error {
	tick := time.NewTicker(10 * readyTick)
	defer tick.Stop()
	say := time.NewTicker(sayEvery)
	defer say.Stop()
	for {
		what := i.pending()
		if what == "" {
			if what = i.probe(ctx); what == "" {
				return nil
			}
		}
		select {
		case <-tick.C:
		case err := <-i.log.fatal:
			return set.startError(err)
		case <-say.C:
			i.log.warn("JetStream is not ready", slog.String("why", i.explain(set, what)))
		case <-ctx.Done():
			return notReady(ctx, i.explain(set, what))
		}
	}
}

// pending returns what is missing before the cluster can be written.
func (i *instance) pending() string {
	info, err := i.srv.Jsz(nil)
	switch {
	case err != nil:
		return err.Error()
	case info.Meta == nil || info.Meta.Leader == "":
		return "no leader"
	}
	return unhealthy(i.srv.Healthz(&server.HealthzOptions{Details: true}))
}

// probe makes a stream and removes it again: only a write shows that the leader
// hears this server and that most servers agree. The first request after an
// election may be lost, so it waits for none for long.
func (i *instance) probe(ctx context.Context) string {
	nc, err := nats.Connect("", i.inProcess())
	if err != nil {
		return err.Error()
	}
	defer nc.Close()
	name := "CATGA_START_" + i.srv.Name()
	cfg := map[string]any{"name": name, "subjects": []string{"catga.start." + i.srv.Name()}, "retention": "limits", "storage": "memory", "num_replicas": 1}
	for _, step := range []struct {
		verb    string
		request any
	}{{"CREATE", cfg}, {"DELETE", nil}} {
		if err := ask(ctx, nc, "$JS.API.STREAM."+step.verb+"."+name, step.request, nil); err != nil {
			return fmt.Sprintf("a stream cannot be made yet: %v", err)
		}
	}
	return ""
}

// explain says more about what is pending, for people.
func (i *instance) explain(set settings, what string) string {
	routed := map[string]bool{}
	if routes, err := i.srv.Routez(nil); err == nil {
		for _, r := range routes.Routes {
			routed[r.RemoteID] = true
		}
	}
	if info, err := i.srv.Jsz(nil); err == nil && info.Meta != nil && info.Meta.Leader != "" {
		return what
	}
	return what + ": " + set.missing(len(routed)) + i.log.aboutPeers()
}

// sayEvery is how often a server that waits for others says so.
const sayEvery = 5 * time.Second

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
