package routing

import (
	"context"
	"fmt"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/wire"
)

// The envelope is what a message carries beside its body. What the subject or
// the reply subject says already is not repeated in a header, and what is the
// default is not said at all: most messages carry the id and nothing else.

// newHeader returns the headers that any message of a user needs: the user's
// own, the body's type where it is not JSON, and the trace of ctx. It is nil
// where there is nothing to say; extra is the room to leave for more.
func newHeader(ctx context.Context, m Raw, own nats.Header, extra int) (nats.Header, error) {
	trace := traceOf(ctx)
	n := len(own) + extra + len(trace)
	typed := m.ContentType != "" && m.ContentType != jsonType
	if typed {
		n++
	}
	if n == 0 {
		return nil, nil
	}
	h := make(nats.Header, n)
	for name, value := range trace {
		h[name] = []string{value}
	}
	for name, values := range own {
		if err := checkHeader(name, values); err != nil {
			return nil, err
		}
		h[name] = slices.Clone(values)
	}
	if typed {
		h[wire.HeaderContentType] = []string{m.ContentType}
	}
	return h, nil
}

// checkHeader reports why a user may not set the header.
func checkHeader(name string, values []string) error {
	canonical := textproto.CanonicalMIMEHeaderKey(name)
	switch {
	case name == "" || strings.ContainsAny(name, ": \r\n\t"):
		return fmt.Errorf("header %q is not a header name", name)
	case strings.HasPrefix(canonical, "Nats-"), strings.HasPrefix(canonical, "Catga-"):
		return fmt.Errorf("header %q: names that begin with Nats- and Catga- belong to the protocol", name)
	case canonical == wire.HeaderContentType:
		return fmt.Errorf("header %q is set by the codec", name)
	}
	for _, v := range values {
		if strings.ContainsAny(v, "\r\n") {
			return fmt.Errorf("header %q has a line break in its value", name)
		}
	}
	return nil
}

// onlyID returns the message's id where it is all that h says, as in most
// messages.
func onlyID(h nats.Header) (id string, ok bool) {
	if len(h) != 1 {
		return "", false
	}
	values := h[wire.HeaderMsgID]
	if len(values) == 0 {
		return "", false
	}
	return values[0], true
}

// idOf returns the message's id and its sender.
func idOf(h nats.Header) (id, from string) {
	id = h.Get(wire.HeaderID)
	if id == "" {
		id = h.Get(wire.HeaderMsgID)
		from = senderOfID(id)
	}
	if f := h.Get(wire.HeaderFrom); f != "" {
		from = f
		if wire.CheckNode(from) != nil {
			from = ""
		}
	}
	return id, from
}

// contentTypeOf returns how the body is encoded.
func contentTypeOf(h nats.Header) string {
	if t := h.Get(wire.HeaderContentType); t != "" {
		return t
	}
	return jsonType
}

// checkVersion reports a message of a protocol that this library does not know.
func checkVersion(h nats.Header) error {
	v := h.Get(wire.HeaderVersion)
	if v == "" {
		return nil
	}
	if n, err := strconv.Atoi(v); err != nil || n != wire.Version {
		return fmt.Errorf("routing: message has wire version %q, this node speaks %d", v, wire.Version)
	}
	return nil
}

// isFor reports whether a message to many is meant for this node, by what the
// node itself knows of its metadata now.
func (r *Router) isFor(h nats.Header) bool {
	var metadata map[string]string
	if self := r.self.Load(); self != nil {
		metadata = self.Metadata
	}
	return isFor(h, r.id, metadata)
}

// isFor is the pure part. A message with a selector that is none is for
// everybody: who would run it refuses it, see checkSelect.
func isFor(h nats.Header, id string, metadata map[string]string) bool {
	if h.Get(wire.HeaderExcept) == id {
		return false
	}
	if s := selectorOf(h); s.problem() == nil && !s.matches(metadata) {
		return false
	}
	only, ok := h[wire.HeaderOnly]
	if !ok {
		return true
	}
	for _, list := range only {
		for one := range strings.SplitSeq(list, ",") {
			if strings.TrimSpace(one) == id {
				return true
			}
		}
	}
	return false
}

// selectorOf returns the selector in h, nil where there is none.
func selectorOf(h nats.Header) *selector {
	values := h[wire.HeaderSelect]
	if len(values) == 0 {
		return nil
	}
	return parseSelector(strings.Join(values, ","))
}

// checkSelect reports a message whose selector nobody can read.
func checkSelect(h nats.Header) error {
	if err := selectorOf(h).problem(); err != nil {
		return Permanent(fmt.Errorf("routing: header %s: %w", wire.HeaderSelect, err))
	}
	return nil
}

// ackInfo is what the server says of a delivery in its ack subject.
type ackInfo struct {
	stream, consumer string
	attempt          uint64    // deliveries of the message so far
	seq              uint64    // in the stream
	delivery         uint64    // of the consumer
	stored           time.Time // when the stream took it
	pending          uint64    // messages behind it
}

const ackPrefix = "$JS.ACK."

// parseAck takes an ack subject apart. Shape, up to server 2.15 and by default:
// $JS.ACK.<stream>.<consumer>.<attempt>.<seq>.<delivery>.<nanos>.<pending>
// and as of ADR-15 with <domain>.<account> before the stream and possibly more
// tokens at the end.
func parseAck(subject string) (ackInfo, error) {
	rest, ok := strings.CutPrefix(subject, ackPrefix)
	if !ok {
		return ackInfo{}, fmt.Errorf("routing: %q is not an ack subject", subject)
	}
	var tokens [9]string
	n := 0
	for token := range strings.SplitSeq(rest, ".") {
		if n < len(tokens) {
			tokens[n] = token
		}
		n++
	}
	t := tokens[:]
	switch {
	case n == 7:
	case n >= 9:
		t = tokens[2:]
	default:
		return ackInfo{}, fmt.Errorf("routing: ack subject %q has %d tokens", subject, n+2)
	}
	var numbers [5]uint64
	for i := range numbers {
		v, err := strconv.ParseUint(t[2+i], 10, 64)
		if err != nil {
			return ackInfo{}, fmt.Errorf("routing: ack subject %q: %w", subject, err)
		}
		numbers[i] = v
	}
	return ackInfo{
		stream:   t[0],
		consumer: t[1],
		attempt:  numbers[0],
		seq:      numbers[1],
		delivery: numbers[2],
		stored:   time.Unix(0, int64(numbers[3])), //nolint:gosec // the server's clock, well below the limit
		pending:  numbers[4],
	}, nil
}

// foreignAck is the ack subject of a delivery that somebody else got: the
// server looks at the sequences only.
func foreignAck(stream, consumer string, seq, delivery uint64) string {
	return ackPrefix + stream + "." + consumer + ".1." +
		strconv.FormatUint(seq, 10) + "." + strconv.FormatUint(delivery, 10) + ".0.0"
}
