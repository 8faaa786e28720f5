package membership

import (
	"context"
	"sync"
	"time"
)

// limit bounds how long anything is waited for that should come.
const limit = 3 * time.Minute

// sighting is when each of several watchers has seen something.
type sighting struct {
	wg sync.WaitGroup

	mu   sync.Mutex
	last time.Time
	err  error
}

// watchFor has every watcher wait for something, from now on.
func watchFor(ctx context.Context, watchers []func(context.Context) error) *sighting {
	s := &sighting{}
	ctx, cancel := context.WithTimeout(ctx, limit)
	for _, wait := range watchers {
		s.wg.Go(func() {
			err := wait(ctx)
			now := time.Now()
			s.mu.Lock()
			defer s.mu.Unlock()
			if now.After(s.last) {
				s.last = now
			}
			if err != nil && s.err == nil {
				s.err = err
			}
		})
	}
	go func() {
		s.wg.Wait()
		cancel()
	}()
	return s
}

// since returns the seconds from start until the last watcher had seen it.
func (s *sighting) since(start time.Time) (float64, error) {
	s.wg.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last.Sub(start).Seconds(), s.err
}

// seen waits until all have seen it.
func (s *sighting) seen() error {
	_, err := s.since(time.Time{})
	return err
}

// pause waits for d, or for the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
