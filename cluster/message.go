package cluster

import (
	"fmt"

	"github.com/catga/catga-go/routing"
)

// Message is what can be sent: a value that knows its name on the wire.
type Message interface {
	// Kind is the name on the wire, constant per type: dot-separated tokens of
	// A-Z a-z 0-9 _ -, such as "order.place".
	Kind() string
}

// Request is a message that is answered with an R. Returns is never called; it
// ties the types together: func (GetPrice) Returns(Price) {}.
type Request[R any] interface {
	Message
	Returns(R)
}

// Raw is a message whose kind is known only at run time, with a body that is
// already encoded. An empty ContentType means application/json.
type Raw = routing.Raw

// Msg is a received message with its body and what is known of it. Tests of
// handlers may build one.
type Msg[T any] = routing.Msg[T]

// Handler is the shape of every handler under its types, and what middleware
// wraps.
type Handler = routing.Handler

// Codec turns values into bytes and back.
type Codec = routing.Codec

var (
	// JSON is the default codec, encoding/json.
	JSON = routing.JSON
	// Bytes is the codec of bodies that are bytes already: types whose
	// underlying type is []byte, and encoding.BinaryMarshaler.
	Bytes = routing.Bytes
)

// encode returns m as it travels.
func (n *Node) encode(m Message) (Raw, error) {
	if m == nil {
		return Raw{}, fmt.Errorf("cluster: %w: the message is nil", ErrNotDelivered)
	}
	if raw, ok := m.(Raw); ok {
		return raw, nil
	}
	raw, err := n.router.Encode(m.Kind(), m)
	if err != nil {
		return Raw{}, fmt.Errorf("%w: %w", ErrNotDelivered, err)
	}
	return raw, nil
}
