package embedded

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Replicate makes every stream with fewer copies have that many, while it is
// used, and returns when all copies are complete. It is for streams that were
// made before there were three servers, or restored from one that stood alone.
// Their consumers get as many. It works through the connection of Conn, so on
// servers elsewhere, too; of those it knows only what the leader of a stream says
// of the others, which have the last messages and may still read the older ones.
//
// Errors: ErrConfig where the number is not 1 to 5, ErrNotReady with the streams
// that are not complete when ctx ends, or the server's.
func (s *Server) Replicate(ctx context.Context, replicas int) error {
	if replicas < 1 || replicas > 5 {
		return &fault{is: ErrConfig, text: fmt.Sprintf("replicas are %d: use 3, or 1 to 5", replicas)}
	}
	js, err := jetstream.New(s.conn)
	if err != nil {
		return err
	}
	var changed []string
	list := js.ListStreams(ctx)
	for info := range list.Info() {
		if info.Config.Replicas >= replicas {
			continue
		}
		cfg := info.Config
		cfg.Replicas = replicas
		if err := s.replicate(ctx, js, cfg); err != nil {
			return err
		}
		changed = append(changed, cfg.Name)
	}
	if err := list.Err(); err != nil {
		return &fault{is: ErrNotReady, errs: []error{err}, text: fmt.Sprintf("the streams cannot be listed: %v", err)}
	}
	for _, name := range changed {
		if err := complete(ctx, js, name, replicas); err != nil {
			return err
		}
	}
	if len(changed) == 0 || s.clustered() != nil {
		return nil
	}
	nc, err := s.inst.system(ctx)
	if err != nil {
		return err
	}
	defer nc.Close()
	return s.inst.settled(ctx, nc, func(stream string) bool { return slices.Contains(changed, stream) })
}

// replicate changes one stream. The answer may be lost with an election.
func (s *Server) replicate(ctx context.Context, js jetstream.JetStream, cfg jetstream.StreamConfig) error {
	for {
		_, err := js.UpdateStream(ctx, cfg)
		if err == nil {
			return nil
		}
		api, refused := errors.AsType[*jetstream.APIError](err)
		if refused && api.Code != codeUnavailable || wait(ctx, replicatePause) != nil {
			return &fault{is: ErrNotReady, errs: []error{err, ctx.Err()}, text: fmt.Sprintf(
				"stream %s cannot have %d copies: %v: there must be that many servers", cfg.Name, cfg.Replicas, err)}
		}
	}
}

const replicatePause = 100 * time.Millisecond

// complete waits until all copies of a stream have caught up, as its leader sees
// it; settled asks them.
func complete(ctx context.Context, js jetstream.JetStream, name string, replicas int) error {
	for {
		current := 0
		if st, err := js.Stream(ctx, name); err == nil {
			if c := st.CachedInfo().Cluster; c != nil && c.Leader != "" && c.Desired == nil {
				current++
				for _, r := range c.Replicas {
					if r.Current && !r.Offline {
						current++
					}
				}
			}
		}
		if current >= replicas {
			return nil
		}
		if wait(ctx, replicatePause) != nil {
			return notReady(ctx, fmt.Sprintf("stream %s has %d of %d complete copies", name, current, replicas))
		}
	}
}
