package cluster

import (
	"time"

	"github.com/catga/catga-go/internal/provision"
	"github.com/catga/catga-go/kvregistry"
	"github.com/catga/catga-go/routing"
)

// The outcomes of a verb that sends. Each is wrapped together with its reason:
// errors.Is finds both.
var (
	// ErrNotDelivered means that nothing was stored and no handler was run.
	ErrNotDelivered = routing.ErrNotDelivered
	// ErrUnknown means that the message was sent and its end was not seen. A
	// durable message may be repeated with the same ID without harm.
	ErrUnknown = routing.ErrUnknown
)

// The reasons.
var (
	// ErrNoMember means that no member of that id was ever seen, or it has left,
	// or that a selector chooses none of the members that handle the kind.
	ErrNoMember = routing.ErrNoMember
	// ErrNoHandler means that the member, or any member, does not handle the kind.
	ErrNoHandler = routing.ErrNoHandler
	// ErrSelector means that the expression of a Where is no selector.
	ErrSelector = routing.ErrSelector
	// ErrTooLarge means that the message is larger than the server takes.
	ErrTooLarge = routing.ErrTooLarge
	// ErrBusy means that the node has as many calls in hand as it takes.
	ErrBusy = routing.ErrBusy
	// ErrDuplicate means that a message of that ID, target and kind is already stored.
	ErrDuplicate = routing.ErrDuplicate
	// ErrLeaving means that the node is leaving and takes no new work.
	ErrLeaving = routing.ErrLeaving
	// ErrNotJoined means that the verb needs Join or Observe first.
	ErrNotJoined = routing.ErrNotJoined
	// ErrClosed means that the node has been closed or has left.
	ErrClosed = routing.ErrClosed
	// ErrEvicted is the cause of the ctx of handlers that run when the node
	// finds that the others took it for dead.
	ErrEvicted = kvregistry.ErrEvicted
	// ErrNodeTaken means that another live process holds the node's id.
	ErrNodeTaken = kvregistry.ErrNodeTaken
	// ErrNoDeadLetter means that there is no dead letter of that number.
	ErrNoDeadLetter = routing.ErrNoDeadLetter
	// ErrNotDelayed means that no delayed message of that ID waits.
	ErrNotDelayed = routing.ErrNotDelayed
	// ErrJoined means that Join or Observe was called before.
	ErrJoined = kvregistry.ErrJoined
)

// What Join and Observe may find on the side of NATS. Each is wrapped together
// with what was found and what to do.
var (
	// ErrServerTooOld means that nats-server is older than 2.11.
	ErrServerTooOld = provision.ErrServerTooOld
	// ErrNoJetStream means that JetStream is off on the server or for the account.
	ErrNoJetStream = provision.ErrNoJetStream
	// ErrDenied means that the user lacks the permission that the error names.
	ErrDenied = provision.ErrDenied
	// ErrMissing means that a stream is not there and Config.NoProvision is set.
	ErrMissing = provision.ErrMissing
	// ErrDiffers means that a stream is there with settings that break a promise.
	ErrDiffers = provision.ErrDiffers
)

// HandlerError is the answer of a handler that failed. It is never retried for
// the caller. A handler returns one to choose Code and Message; any other error
// travels as code 500 with its text.
type HandlerError = routing.HandlerError

// BatchError tells which messages of a SendBatch are not stored for sure, and why;
// errors.Is finds the outcomes and reasons of all of them.
type BatchError = routing.BatchError

// Permanent marks an error that no retry can mend: the message goes straight to
// the dead letters. backoff/v4's Permanent means the same.
func Permanent(err error) error { return routing.Permanent(err) }

// RetryAfter asks for the next attempt after d instead of the delay of the
// handler's retry policy. The attempt counts.
func RetryAfter(d time.Duration, err error) error { return routing.RetryAfter(d, err) }
