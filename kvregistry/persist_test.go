//go:build unix

package kvregistry

import (
	"context"
	"testing"
	"time"

	"github.com/catga/catga-go/internal/natstest"
)

// A server that is busy for longer than one request may take: what a Join waits
// for lasts as long as its context, not as long as one request.
func TestASlowServerDoesNotEndAJoin(t *testing.T) {
	server := natstest.Start(t)
	r := join(t, natstest.Dial(t, server.URL()), Config{Cluster: "c", Node: "a"})
	waitFor(t, r, "a")
	s := r.session
	slow := func(what string, do func(context.Context) error) {
		t.Helper()
		server.Pause()
		natstest.Eventually(t, "the server to stand still", func() bool { return s.nc.FlushTimeout(50*time.Millisecond) != nil })
		resume := time.AfterFunc(putLimit+putLimit/4, server.Resume)
		defer resume.Stop()
		begin := time.Now()
		if err := do(t.Context()); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if took := time.Since(begin); took < putLimit {
			t.Errorf("%s took %v: the server was not slow", what, took)
		}
	}
	slow("flush", s.flush)
	slow("hearing itself", func(ctx context.Context) error {
		return s.own.do(ctx, func(ctx context.Context) error {
			life := s.own.life()
			if err := s.own.answers.await(ctx, life.id); err != nil {
				return err
			}
			return s.own.answers.settle(ctx, life)
		})
	})

	// The context bounds it all the same.
	server.Pause()
	defer server.Resume()
	natstest.Eventually(t, "the server to stand still", func() bool { return s.nc.FlushTimeout(50*time.Millisecond) != nil })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := s.flush(ctx); err == nil {
		t.Error("a flush through a server that is stopped succeeded")
	}
}
