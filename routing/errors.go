package routing

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// Outcomes. A verb that sends returns nil, a *HandlerError (calls only), or an
// error that is exactly one of these two and wraps the reason.
var (
	// ErrNotDelivered says that the message reached nobody: nothing is stored
	// and no handler ran or will run. Sending it again is safe.
	ErrNotDelivered = errors.New("not delivered")
	// ErrUnknown says that the message may or may not have arrived: it left,
	// and no answer was seen. Sending it again is safe with the same id, or
	// where handling it twice is harmless.
	ErrUnknown = errors.New("outcome unknown")
)

// Reasons, wrapped by an outcome.
var (
	// ErrNoMember says that no such node is a member: never seen, left, or forgotten.
	ErrNoMember = errors.New("no such member")
	// ErrNoHandler says that nobody among the targets handles the kind.
	ErrNoHandler = errors.New("nobody handles the kind")
	// ErrTooLarge says that the message is larger than the server takes.
	ErrTooLarge = errors.New("message too large")
	// ErrBusy says that a node has as many calls of the kind as it takes.
	ErrBusy = errors.New("node is busy")
	// ErrNotJoined says that the router was not started.
	ErrNotJoined = errors.New("not joined")
	// ErrLeaving says that the router is draining: it takes nothing new.
	ErrLeaving = errors.New("leaving")
	// ErrClosed says that the router is closed; it is also the cause of the
	// ctx of handlers that Close found running.
	ErrClosed = errors.New("closed")
)

// ErrDuplicate says that a message with the caller's id is already stored for
// the same kind and target: what was wanted has happened. It is returned as it
// is, in no outcome.
var ErrDuplicate = errors.New("routing: a message with this id is already stored")

// ErrNoDeadLetter says that there is no dead letter with that sequence: it was
// replayed, dropped, or is past its age.
var ErrNoDeadLetter = errors.New("routing: no such dead letter")

// ErrNotDelayed says that no delayed message with that id waits: it was handed
// out, cancelled, or never sent.
var ErrNotDelayed = errors.New("routing: no such delayed message")

// HandlerError is the answer of a handler that failed. It is an outcome of its
// own: the call arrived, ran and said no; it is never retried for the caller.
type HandlerError struct {
	Node    string // the node whose handler it was
	Kind    string
	Code    int // as in HTTP: 500 unless the handler's error says otherwise
	Message string
}

// Error returns the handler's message and where it comes from.
func (e *HandlerError) Error() string {
	return fmt.Sprintf("routing: handler of %s at node %s: %s (code %d)", e.Kind, e.Node, e.Message, e.Code)
}

// notDelivered wraps a reason. ErrDuplicate and an outcome that is there
// already stay as they are.
func notDelivered(reason error) error { return outcome(ErrNotDelivered, reason) }

// unknown wraps the reason why the outcome is not known.
func unknown(reason error) error { return outcome(ErrUnknown, reason) }

func outcome(o, reason error) error {
	if errors.Is(reason, ErrNotDelivered) || errors.Is(reason, ErrUnknown) || errors.Is(reason, ErrDuplicate) {
		return reason
	}
	return fmt.Errorf("routing: %w: %w", o, reason)
}

// permanentError marks an error of a handler that a repetition cannot mend.
type permanentError struct{ err error }

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

// Permanent marks a handler's error as one that trying again cannot mend: the
// message goes to the dead letters at once. Permanent of nil is nil.
// backoff.Permanent of cenkalti/backoff/v4 is honoured in the same way.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

// isPermanent reports whether err was marked by Permanent of this package or
// of backoff/v4.
func isPermanent(err error) bool {
	if _, ok := errors.AsType[*permanentError](err); ok {
		return true
	}
	_, ok := errors.AsType[*backoff.PermanentError](err)
	return ok
}

// retryAfterError asks for the time of the next attempt.
type retryAfterError struct {
	after time.Duration
	err   error
}

func (e *retryAfterError) Error() string { return e.err.Error() }
func (e *retryAfterError) Unwrap() error { return e.err }

// RetryAfter marks a handler's error with how long to wait before the next
// attempt, in place of the pause of the kind's policy. The number of attempts
// stays that of the policy. RetryAfter of nil is nil; a negative d is 0.
func RetryAfter(d time.Duration, err error) error {
	if err == nil {
		return nil
	}
	return &retryAfterError{after: max(d, 0), err: err}
}

// errDeadline is the reason where a verb without a deadline of its own ran out
// of its 30 s.
var errDeadline = fmt.Errorf("no answer within %v: %w", sendTimeout, context.DeadlineExceeded)
