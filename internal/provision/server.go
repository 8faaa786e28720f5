package provision

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// MinServer is the oldest nats-server that has what the streams need:
// per-message TTL and delete markers.
const MinServer = "2.11.0"

// CheckServer returns ErrServerTooOld when the server that nc is connected to
// is older than MinServer. A version that cannot be read passes.
func CheckServer(nc *nats.Conn) error {
	found := nc.ConnectedServerVersion()
	if found != "" && older(found, MinServer) {
		return fmt.Errorf("%w: found %s, need %s or newer (per-message TTL and delete markers)", ErrServerTooOld, found, MinServer)
	}
	return nil
}

func older(a, b string) bool {
	x, ok1 := parse(a)
	y, ok2 := parse(b)
	if !ok1 || !ok2 {
		return false
	}
	for i := range x {
		if x[i] != y[i] {
			return x[i] < y[i]
		}
	}
	return false
}

func parse(version string) (v [3]int, ok bool) {
	version, _, _ = strings.Cut(strings.TrimPrefix(version, "v"), "-")
	parts := strings.SplitN(version, ".", 3)
	if len(parts) != 3 {
		return v, false
	}
	for i, part := range parts {
		n, err := strconv.Atoi(part)
		if err != nil {
			return v, false
		}
		v[i] = n
	}
	return v, true
}

// denialPoll is how often Guard looks whether the server has refused its subject.
const denialPoll = 20 * time.Millisecond

// Guard runs do, which makes one request on subject, for at most five seconds.
// A server reports a publish without permission only as an asynchronous error
// of the connection, and the request times out; Guard sees that error, ends do
// and returns ErrDenied with the subject.
func Guard(ctx context.Context, nc *nats.Conn, subject string, do func(context.Context) error) error {
	before := nc.LastError()
	limited, stop := context.WithTimeout(ctx, attemptLimit)
	defer stop()
	guarded, cancel := context.WithCancelCause(limited)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		ticker := time.NewTicker(denialPoll)
		defer ticker.Stop()
		for {
			select {
			case <-guarded.Done():
				return
			case <-ticker.C:
				last := nc.LastError()
				if last == before { //nolint:errorlint // another one than before, not one like it
					continue
				}
				if err := refusal(nc, subject, last); err != nil {
					cancel(err)
					return
				}
			}
		}
	}()
	err := do(guarded)
	cause := context.Cause(guarded)
	cancel(nil)
	<-watched
	switch {
	case err == nil:
		return nil
	case errors.Is(cause, ErrDenied):
		return cause
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout):
		// The same refusal as in an earlier attempt is not a new error.
		if refused := refusal(nc, subject, nc.LastError()); refused != nil {
			return refused
		}
	}
	return err
}

// refusal returns ErrDenied when err is why a request on subject gets no
// answer: it may not be sent, or the answer may not be received.
func refusal(nc *nats.Conn, subject string, err error) error {
	inbox := cmp.Or(nc.Opts.InboxPrefix, strings.TrimSuffix(nats.InboxPrefix, "."))
	if denies(err, subject) && !strings.HasPrefix(subject, inbox+".") {
		return denied(subject, err)
	}
	if errors.Is(err, nats.ErrPermissionViolation) &&
		strings.Contains(strings.ToLower(err.Error()), strings.ToLower(`subscription to "`+inbox+`.`)) {
		return fmt.Errorf("%w: this user may not subscribe to %s.>, where answers arrive: grant it, or set nats.CustomInboxPrefix (%w)", ErrDenied, inbox, err)
	}
	return nil
}

// PublishDenied returns ErrDenied with the subject when the latest error of nc
// is that it may not publish to subject: ask after a request that was not answered.
func PublishDenied(nc *nats.Conn, subject string) error {
	if last := nc.LastError(); denies(last, subject) {
		return denied(subject, last)
	}
	return nil
}

// SubscribeDenied returns ErrDenied with the subject when the latest error of
// nc is that it may not subscribe to subject. A server reports that only as an
// asynchronous error: flush the connection after subscribing, then ask.
func SubscribeDenied(nc *nats.Conn, subject string) error {
	if last := nc.LastError(); denies(last, subject) {
		return fmt.Errorf("%w: this user may not subscribe to %s: grant it (%w)", ErrDenied, subject, last)
	}
	return nil
}

func denied(subject string, err error) error {
	return fmt.Errorf("%w: this user may not publish to %s: grant it (%w)", ErrDenied, subject, err)
}

// denies tells whether err is that subject is refused, or one that continues it:
// the filter of a new consumer is the end of its subject.
func denies(err error, subject string) bool {
	if err == nil || !errors.Is(err, nats.ErrPermissionViolation) {
		return false
	}
	text, begin := strings.ToLower(err.Error()), strings.ToLower(`"`+subject)
	return strings.Contains(text, begin+`"`) || strings.Contains(text, begin+`.`)
}
