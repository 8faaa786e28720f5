package routing

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
)

// Raw is a message whose kind is known only at run time, or an answer: bytes
// and how they are encoded.
type Raw struct {
	Name        string // the kind
	ContentType string // empty is application/json
	Data        []byte
}

// Kind returns the kind of the message.
func (r Raw) Kind() string { return r.Name }

// Msg is a message as a handler gets it. Tests may build one.
type Msg[T any] struct {
	Body T
	// ID is the message's id: the one its sender gave, or a generated one. It
	// is the same in every attempt. Empty for a call.
	ID string
	// From is the id of the node that sent it; empty for a plain NATS client.
	From string
	// Attempt counts the deliveries of a durable message from 1: failures,
	// crashes and hand-backs alike. 1 for a call.
	Attempt int
	// Fence grows with each change of owner of a key; 0 elsewhere.
	Fence uint64
	// Sent is when the server stored a durable message, or when a call arrived.
	Sent time.Time
	// Header is the message's headers, those of the protocol included; it may be nil.
	Header nats.Header
}

// Handler handles the messages of one kind. What it returns as Raw is the
// answer of a call; for anything else it is dropped.
//
// A handler may run several times for a durable message (at least once), also
// at the same time on two nodes when one of them only seemed to be dead. Its
// ctx ends with the caller's deadline or the time limit, whichever is first.
type Handler func(ctx context.Context, m *Msg[Raw]) (Raw, error)
