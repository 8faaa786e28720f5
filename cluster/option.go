package cluster

import (
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/routing"
)

// SendOption is an option of Send, SendBatch and Broadcast.
type SendOption interface{ send(*routing.SendOptions) }

// CallOption is an option of Call and CallRaw.
type CallOption interface{ call(*callOptions) }

// GatherOption is an option of Gather and GatherRaw.
type GatherOption interface{ gather(*routing.GatherOptions) }

// HandleOption is an option of Handle, HandleCall and HandleRaw.
type HandleOption interface{ handle(*routing.HandleOptions) }

type (
	sendOption   func(*routing.SendOptions)
	callOption   func(*callOptions)
	handleOption func(*routing.HandleOptions)
)

func (f sendOption) send(o *routing.SendOptions)       { f(o) }
func (f callOption) call(o *callOptions)               { f(o) }
func (f handleOption) handle(o *routing.HandleOptions) { f(o) }

// AtMostOnce sends now or not at all: nothing is stored, nothing is repeated,
// and nil means that it is on its way, not that somebody heard it. Messages that
// follow each other fast to one node leave together, a moment later; Leave and
// Close wait for that. To one node they leave in the order in which they were sent.
func AtMostOnce() SendOption {
	return sendOption(func(o *routing.SendOptions) { o.AtMostOnce = true })
}

// ID gives the message an id of the caller's. Sent again with the same id,
// target and kind within two minutes, by any node, it is stored once and the
// repeat returns ErrDuplicate.
func ID(id string) SendOption {
	return sendOption(func(o *routing.SendOptions) { o.ID = id })
}

// At delays a durable message to one node, To or Any, until t, by the clock of the
// NATS server: it is stored now, survives the end of its sender, and is delivered
// up to a second later than t. A t that is over is now. With an ID it can be taken
// back by Cancel, and the same id, target and kind is stored once while it waits.
// It needs nats-server 2.12.
func At(t time.Time) SendOption {
	return sendOption(func(o *routing.SendOptions) { o.At = t })
}

// After is At(time.Now().Add(d)), counted from when the verb is called.
func After(d time.Duration) SendOption {
	return sendOption(func(o *routing.SendOptions) { o.At = time.Now().Add(d) })
}

// Idempotent allows Call to ask another node where it is unknown whether the
// first one has run the request.
func Idempotent() CallOption {
	return callOption(func(o *callOptions) { o.Idempotent = true })
}

// callOptions are the options of a call, as it is made on some node.
type callOptions struct {
	routing.CallOptions
	pick PickFunc
}

// HeaderOption is an option of every verb that sends.
type HeaderOption struct{ header nats.Header }

func (h HeaderOption) send(o *routing.SendOptions) { o.Header = merged(o.Header, h.header) }
func (h HeaderOption) call(o *callOptions)         { o.Header = merged(o.Header, h.header) }

func (h HeaderOption) gather(o *routing.GatherOptions) { o.Header = merged(o.Header, h.header) }

// Header adds a header to the message. Names that begin with "Nats-" or
// "Catga-" are the library's own and are refused.
func Header(name, value string) HeaderOption {
	return HeaderOption{nats.Header{name: {value}}}
}

func merged(into, add nats.Header) nats.Header {
	if into == nil {
		into = nats.Header{}
	}
	for name, values := range add {
		into[name] = append(into[name], values...)
	}
	return into
}

// Concurrency is how many messages of the kind the node has in hand at once:
// by default 16 durable ones and 256 calls. It bounds both.
func Concurrency(n int) HandleOption {
	return handleOption(func(o *routing.HandleOptions) { o.Concurrency = n })
}

// TimeLimit ends the ctx of a handler after d. By default a durable handler has
// five minutes and a call has the caller's; negative is no limit. Go cannot stop a handler: one that
// ignores its ctx keeps its message until it returns.
func TimeLimit(d time.Duration) HandleOption {
	return handleOption(func(o *routing.HandleOptions) { o.TimeLimit = d })
}

// RetryPolicy says how often and how fast a failed durable message is tried again.
type RetryPolicy = routing.RetryPolicy

// Retry replaces the default policy of three retries.
func Retry(p RetryPolicy) HandleOption {
	return handleOption(func(o *routing.HandleOptions) { o.Retry = p })
}
