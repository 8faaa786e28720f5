package routing

import (
	"cmp"
	"errors"
	"math"
	"math/rand/v2"
	"time"
)

// RetryPolicy says how often and when a durable message is tried again whose
// handler failed. The zero value is the default: 3 retries, 1 s, 2 s and 4 s
// later, each give or take a quarter.
type RetryPolicy struct {
	// Retries after the first attempt; 0 is 3, negative is none. Crashes of the
	// process and hand-backs count as attempts, so that a message that kills
	// its handlers comes to an end; see MaxAttempts.
	Retries int
	// Min is the pause before the first retry, doubled for each further one; 0 is 1 s.
	Min time.Duration
	// Max is the longest pause; 0 is 1 min.
	Max time.Duration
}

// MaxAttempts is the last attempt in which a message runs, whatever the policy
// says: one that was delivered more often has killed processes or wandered too
// long, and becomes a dead letter without running again. A policy with more
// retries than that raises it for its kind.
const MaxAttempts = 8

const (
	defaultRetries  = 3
	defaultRetryMin = time.Second
	defaultRetryMax = time.Minute
	// maxRetryPause keeps what a handler asks for with RetryAfter in bounds.
	maxRetryPause = 7 * 24 * time.Hour
)

func (p RetryPolicy) withDefaults() RetryPolicy {
	p.Retries = max(cmp.Or(p.Retries, defaultRetries), 0)
	p.Min = cmp.Or(max(p.Min, 0), defaultRetryMin)
	p.Max = max(cmp.Or(max(p.Max, 0), defaultRetryMax), p.Min)
	return p
}

// maxAttempt is the last attempt that may run under p.
func (p RetryPolicy) maxAttempt() int { return max(MaxAttempts, p.Retries+1) }

// verdict is what becomes of a message after a failed attempt.
type verdict struct {
	dead   bool
	reason string        // of a dead one
	after  time.Duration // until the next attempt of a living one
}

// decide is the pure core of retrying: attempt failed with err. Jitter is in
// [0, 1).
func (p RetryPolicy) decide(attempt int, err error, jitter float64) verdict {
	switch {
	case isPermanent(err):
		return verdict{dead: true, reason: "permanent: " + err.Error()}
	case attempt > p.Retries:
		return verdict{dead: true, reason: err.Error()}
	}
	if ra, ok := errors.AsType[*retryAfterError](err); ok {
		return verdict{after: min(ra.after, maxRetryPause)}
	}
	return verdict{after: p.pause(attempt, jitter)}
}

// pause is the time before the retry that follows attempt, from 1.
func (p RetryPolicy) pause(attempt int, jitter float64) time.Duration {
	d := float64(p.Min) * math.Pow(2, float64(attempt-1))
	d = min(d, float64(p.Max))
	return time.Duration(d * (0.75 + jitter/2))
}

func jitter() float64 { return rand.Float64() }
