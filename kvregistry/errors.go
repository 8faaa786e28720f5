package kvregistry

import (
	"errors"

	"github.com/catga/catga-go/internal/provision"
)

var (
	// ErrNodeTaken means that a live process has the name of this node. It is
	// final: choose another name or stop the other process.
	ErrNodeTaken = errors.New("kvregistry: a live node has this name")
	// ErrEvicted is the cause of what ends because the node was declared gone.
	ErrEvicted = errors.New("kvregistry: this node was declared gone")
	// ErrClosed means that the registry was closed or has left.
	ErrClosed = errors.New("kvregistry: closed")
	// ErrNotJoined means that the call needs Join (or Observe) first.
	ErrNotJoined = errors.New("kvregistry: not joined")
	// ErrJoined means that Join or Observe was called before.
	ErrJoined = errors.New("kvregistry: already joined")
	// ErrTooLarge means that the record would be larger than MaxRecord.
	ErrTooLarge = errors.New("kvregistry: record too large")
	// ErrConnectionClosed means that the connection was closed for good.
	ErrConnectionClosed = errors.New("kvregistry: the NATS connection is closed")

	// ErrServerTooOld means that the NATS server lacks what the registry needs.
	ErrServerTooOld = provision.ErrServerTooOld
	// ErrNoJetStream means that JetStream is off on the server or for the account.
	ErrNoJetStream = provision.ErrNoJetStream
	// ErrDenied means that a permission is missing; the text names the subject.
	ErrDenied = provision.ErrDenied
	// ErrMissing means that a bucket does not exist and NoProvision is set.
	ErrMissing = provision.ErrMissing
	// ErrDiffers means that a bucket exists with settings that break a promise.
	ErrDiffers = provision.ErrDiffers
)
