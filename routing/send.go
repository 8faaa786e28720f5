package routing

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
)

// sendTimeout bounds a verb whose ctx has no deadline.
const sendTimeout = 30 * time.Second

// SendOptions are the options of one Send.
type SendOptions struct {
	// ID is the caller's id of the message, scoped to kind and target: a repeat
	// within the window of Config.DedupWindow is ErrDuplicate. Empty is a
	// generated one.
	ID string
	// AtMostOnce sends the message now or not at all, without storing it.
	AtMostOnce bool
	// Header is added to the message. Names that begin with Nats- or Catga- are
	// refused.
	Header nats.Header
}

// Send is not there yet.
func (r *Router) Send(ctx context.Context, to Target, m Raw, o SendOptions) error {
	if o.AtMostOnce {
		return r.cast(ctx, to, m, o)
	}
	return notDelivered(errNoCalls)
}
