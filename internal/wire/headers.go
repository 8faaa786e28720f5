package wire

// Headers. A message that needs none carries none: the kind is in the subject,
// a caller in the reply subject, the codec is JSON.
const (
	// HeaderMsgID is the id of a durable message and what the server drops
	// repeats by: "<sender>.<random>-<n>", or, for an id that the caller gave,
	// the id scoped to its target and kind.
	HeaderMsgID = "Nats-Msg-Id"
	// HeaderID is the message's id where HeaderMsgID is not it: an id that the
	// caller gave, and whatever was published again.
	HeaderID = "Catga-Id"
	// HeaderFrom is the sender where neither HeaderMsgID nor the reply subject tells it.
	HeaderFrom = "Catga-From"
	// HeaderVersion is the wire version of a message; absent means 1.
	HeaderVersion = "Catga-Version"
	// HeaderContentType is the codec of the body; absent means application/json.
	HeaderContentType = "Content-Type"
	// HeaderOnly lists, comma-separated, the only nodes that a fan-out message is for.
	HeaderOnly = "Catga-Only"
	// HeaderExcept is the one node that a fan-out message is not for.
	HeaderExcept = "Catga-Except"
	// HeaderSelect is the selector of a message: the metadata that a node must
	// have which it is for. In a mailbox it is how the sender chose the node: the
	// message is for any node that handles the kind and that the selector chooses,
	// and whoever moves the mail of a lost node gives it to another one of them.
	HeaderSelect = "Catga-Select"
	// HeaderTraceParent is the W3C trace context.
	HeaderTraceParent = "traceparent"
	// HeaderTraceState goes with HeaderTraceParent.
	HeaderTraceState = "tracestate"
	// HeaderTimeout is how long the caller waits for the answer, as a Go duration.
	HeaderTimeout = "Catga-Timeout"

	// HeaderError and HeaderErrorCode are the answer of a handler that failed,
	// as in nats.go/micro.
	HeaderError     = "Nats-Service-Error"
	HeaderErrorCode = "Nats-Service-Error-Code"

	// HeaderRefused is in the answer of a node that did not run the handler, and
	// says why: RefusedBusy and so on. HeaderError goes with it, for clients
	// that know only that.
	HeaderRefused = "Catga-Refused"

	// HeaderTTL is the life of one stored message, in whole seconds.
	HeaderTTL = "Nats-TTL"

	// HeaderSchedule is when the server delivers a delayed message, and
	// HeaderScheduleTarget to which subject.
	HeaderSchedule       = "Nats-Schedule"
	HeaderScheduleTarget = "Nats-Schedule-Target"

	// What a dead letter says of its end.
	HeaderDeadReason   = "Catga-Dead-Reason"
	HeaderDeadNode     = "Catga-Dead-Node"
	HeaderDeadAttempts = "Catga-Dead-Attempts"
	HeaderDeadSubject  = "Catga-Dead-Subject"
	HeaderDeadStream   = "Catga-Dead-Stream"
	HeaderDeadSeq      = "Catga-Dead-Seq"
	HeaderDeadSent     = "Catga-Dead-Sent"
	HeaderDeadStack    = "Catga-Dead-Stack"
	HeaderDeadCut      = "Catga-Dead-Cut"
)

// Values of HeaderRefused. A caller may ask another node.
const (
	// RefusedBusy says that as many calls of the kind run as may.
	RefusedBusy = "busy"
	// RefusedLeaving says that the node is on its way out.
	RefusedLeaving = "leaving"
	// RefusedVersion says that the node does not speak the wire version of the request.
	RefusedVersion = "version"
)
