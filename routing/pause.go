package routing

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// pause is the growing, jittered wait between the attempts of something that
// is tried until its ctx ends.
type pause struct {
	b    *backoff.ExponentialBackOff
	used bool // since the last reset
}

const (
	firstPause = 20 * time.Millisecond
	lastPause  = time.Second
)

func newPause() *pause {
	return &pause{b: backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(firstPause),
		backoff.WithMaxInterval(lastPause),
		backoff.WithMultiplier(2),
		backoff.WithRandomizationFactor(0.3),
		backoff.WithMaxElapsedTime(0),
	)}
}

// next is how long to wait now.
func (p *pause) next() time.Duration {
	p.used = true
	return p.b.NextBackOff()
}

// reset starts over with the shortest wait. It is called for each message that
// arrives, and a reset looks at the clock.
func (p *pause) reset() {
	if p.used {
		p.used = false
		p.b.Reset()
	}
}

// wait waits, and reports whether ctx is still alive.
func (p *pause) wait(ctx context.Context) bool {
	timer := time.NewTimer(p.next())
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
