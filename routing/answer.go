package routing

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/wire"
)

// An answer is the body and, where it is not JSON, its Content-Type; a plain
// answer has no header at all. A failed handler answers with Nats-Service-Error
// and Nats-Service-Error-Code, as in nats.go/micro; a node that did not run the
// handler adds Catga-Refused.

const (
	codeBadRequest  = 400
	codeTooLarge    = 413
	codeUnsupported = 415
	codeInternal    = 500
	codeUnavailable = 503

	// maxErrorHeader is the longest error text that goes into a header, in
	// bytes. A longer one, or one of several lines, is the body as well.
	maxErrorHeader = 512
	textType       = "text/plain; charset=utf-8"

	headerStatus       = "Status"
	statusNoResponders = "503"
)

// successAnswer is the answer of a handler that returned a.
func successAnswer(reply string, a Raw) *nats.Msg {
	m := &nats.Msg{Subject: reply, Data: a.Data}
	if a.ContentType != "" && a.ContentType != jsonType {
		m.Header = nats.Header{wire.HeaderContentType: {a.ContentType}}
	}
	return m
}

// failureAnswer is the answer of a handler that failed: the code and message
// of its own *HandlerError, or its text and 500.
func failureAnswer(reply string, err error) *nats.Msg {
	code, text := codeInternal, err.Error()
	if he, ok := errors.AsType[*HandlerError](err); ok {
		text = he.Message
		if he.Code != 0 {
			code = he.Code
		}
	} else if errors.Is(err, ErrBody) {
		code = codeBadRequest
	} else if errors.Is(err, ErrContentType) {
		code = codeUnsupported
	}
	return errorAnswer(reply, code, text)
}

func errorAnswer(reply string, code int, text string) *nats.Msg {
	line := headerLine(text)
	m := &nats.Msg{Subject: reply, Header: nats.Header{
		wire.HeaderError:     {line},
		wire.HeaderErrorCode: {strconv.Itoa(code)},
	}}
	if line != text {
		m.Data = []byte(text)
		m.Header[wire.HeaderContentType] = []string{textType}
	}
	return m
}

// headerLine is what of text fits into a header: its first line, not too long,
// and never nothing.
func headerLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	line = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(line, "?"))
	if len(line) > maxErrorHeader {
		line = strings.ToValidUTF8(line[:maxErrorHeader], "") // half a rune at the end
	}
	line = strings.TrimSpace(line)
	if line == "" {
		return "error"
	}
	return line
}

// refusal is the answer of a node that did not run the handler.
func refusal(reply, why string) *nats.Msg {
	return &nats.Msg{Subject: reply, Header: nats.Header{
		wire.HeaderError:     {"not delivered: " + why},
		wire.HeaderErrorCode: {strconv.Itoa(codeUnavailable)},
		wire.HeaderRefused:   {why},
	}}
}

// decodeAnswer reads the answer of node to a call of kind. The error is a
// *HandlerError, or ErrNotDelivered with its reason.
func decodeAnswer(m *nats.Msg, node, kind string) (Raw, error) {
	a := Raw{Name: kind, ContentType: jsonType, Data: m.Data}
	if m.Header == nil {
		return a, nil
	}
	if why := m.Header.Get(wire.HeaderRefused); why != "" {
		return Raw{}, notDelivered(refused(node, why))
	}
	if isNoResponders(m) {
		return Raw{}, notDelivered(fmt.Errorf("node %s: %w", node, nats.ErrNoResponders))
	}
	text, code := m.Header.Get(wire.HeaderError), m.Header.Get(wire.HeaderErrorCode)
	if text == "" && code == "" {
		a.ContentType = contentTypeOf(m.Header)
		return a, nil
	}
	if len(m.Data) > 0 && m.Header.Get(wire.HeaderContentType) == textType {
		text = string(m.Data)
	}
	n, err := strconv.Atoi(code)
	if err != nil {
		n = codeInternal
	}
	return Raw{}, &HandlerError{Node: node, Kind: kind, Code: n, Message: text}
}

// isNoResponders reports whether m is the server's word that nobody listens.
func isNoResponders(m *nats.Msg) bool {
	return len(m.Data) == 0 && m.Header.Get(headerStatus) == statusNoResponders
}

// refused is why a node did not run the handler.
func refused(node, why string) error {
	switch why {
	case wire.RefusedBusy:
		return fmt.Errorf("node %s: %w", node, ErrBusy)
	case wire.RefusedLeaving:
		return fmt.Errorf("node %s: %w", node, ErrLeaving)
	default:
		return fmt.Errorf("node %s refused: %.100s", node, why)
	}
}
