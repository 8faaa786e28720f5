package routing

import (
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/wire"
)

// request is what arrives on a call subject: a call, or an at-most-once
// message, which is one that wants no answer.
type request struct {
	msg     Msg[Raw]
	timeout time.Duration // how long the caller waits; 0 is not said
}

var (
	errVersion = errors.New("unknown wire version")
	errRequest = errors.New("bad request")
)

// decodeRequest reads a request; inboxes is the InboxRoot of the cluster.
// Sender: a node tells it by its reply subject; a plain NATS client may say
// Catga-From, and is else unknown.
func decodeRequest(req *request, inboxes string, m *nats.Msg) error {
	req.msg.Attempt = 1
	req.msg.Header = m.Header
	req.msg.Body = Raw{ContentType: jsonType, Data: m.Data}
	if from, ok := wire.CasterOf(m.Reply); ok {
		req.msg.From = from
	} else if from, ok := wire.CallerUnder(inboxes, m.Reply); ok {
		req.msg.From = from
	}
	if m.Header == nil {
		return nil
	}
	if err := checkVersion(m.Header); err != nil {
		return fmt.Errorf("%w: %w", errVersion, err)
	}
	if err := checkSelect(m.Header); err != nil {
		return fmt.Errorf("%w: %w", errRequest, err)
	}
	req.msg.Body.ContentType = contentTypeOf(m.Header)
	id, from := idOf(m.Header)
	req.msg.ID = id
	if req.msg.From == "" {
		req.msg.From = from
	}
	if s := m.Header.Get(wire.HeaderTimeout); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil || d <= 0 {
			return fmt.Errorf("%w: %s %.50q is not a positive duration such as 1.5s", errRequest, wire.HeaderTimeout, s)
		}
		req.timeout = d
	}
	return nil
}
