package provision

import "errors"

var (
	// ErrServerTooOld means that the NATS server is older than MinServer.
	ErrServerTooOld = errors.New("nats-server is too old")
	// ErrNoJetStream means that JetStream is not enabled on the server or for the account.
	ErrNoJetStream = errors.New("JetStream is not available")
	// ErrDenied means that the account or user may not use a subject that is needed.
	ErrDenied = errors.New("permission denied")
	// ErrMissing means that a stream does not exist and may not be made.
	ErrMissing = errors.New("stream does not exist")
	// ErrDiffers means that an existing stream differs in what a promise rests on.
	ErrDiffers = errors.New("stream exists with other settings")
)
