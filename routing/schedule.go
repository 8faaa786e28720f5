package routing

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/catga/catga-go/internal/wire"
)

// A delayed message is a schedule of the server: it is stored in the stream of
// its target under a subject of its own, which no consumer brings, and the server
// stores it again under its target when its time has come. The subject is made of the id,
// so that Cancel finds it by that alone, and of target and kind, which an id is
// scoped to. A schedule that waits under the subject refuses a second one; the
// server's memory of ids would refuse it also after a Cancel.
//
// The server drops Nats-Msg-Id when the time has come, so Catga-Id has the id.

const (
	codeSchedulesOff  = 10188 // the stream takes no schedules
	codeSubjectInUse  = 10071 // the subject has a message already
	headerExpectFirst = "Nats-Expected-Last-Subject-Sequence"
)

// delayed reports whether the message is for later.
func (o SendOptions) delayed() bool { return !o.At.IsZero() && time.Until(o.At) > 0 }

// delay makes a message one for later.
func (r *Router) delay(m *nats.Msg, t target, kind string, o SendOptions) error {
	if t.to != toNode && t.to != toAny {
		return errors.New("a message to many cannot be delayed: send it to each node by To, or send it when its time has come")
	}
	if !serverHas(r.nc, 2, 12) {
		return fmt.Errorf("delayed messages need nats-server 2.12 or newer, this one is %s", r.nc.ConnectedServerVersion())
	}
	id := o.ID
	if id == "" {
		id = m.Header.Get(wire.HeaderMsgID)
	} else {
		m.Header[headerExpectFirst] = []string{"0"}
		m.Header[wire.HeaderMsgID] = []string{r.ids.next()} // of the attempts of this Send alone
	}
	m.Header[wire.HeaderID] = []string{id}
	m.Header[wire.HeaderFrom] = []string{r.id}
	m.Header[wire.HeaderSchedule] = []string{"@at " + o.At.UTC().Format(time.RFC3339Nano)}
	m.Header[wire.HeaderScheduleTarget] = []string{m.Subject}
	sched := r.cluster.WorkSched
	if t.id != "" { // named, or chosen by a selector
		sched = r.cluster.MailSched
	}
	m.Subject = sched(hashOf(id), hashOf(scopedID(t.scope(), kind, "")))
	return nil
}

// hashOf makes a token of a subject of any text.
func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:12])
}

// delayError is what the sender of a delayed message is told where the server
// refuses it.
func delayError(err error, o SendOptions) error {
	api, ok := errors.AsType[*jetstream.APIError](err)
	if !ok || o.At.IsZero() {
		return err
	}
	switch api.ErrorCode {
	case codeSubjectInUse:
		return ErrDuplicate
	case codeSchedulesOff:
		return fmt.Errorf("%w: the stream was made without delayed messages; mend it with: nats stream edit --allow-schedules <stream>", err)
	}
	return err
}

// Cancel takes back the delayed messages with the caller's id, of every kind and
// target. One whose time has come is not delayed any more; in that very moment it
// may be delivered though Cancel returned nil.
//
// It is looked for as work and as mail: with an error, what one of the two had is
// taken back all the same, and a repeat finds the rest.
//
// Errors: ErrNotDelayed, ErrDenied for a user without $JS.API.STREAM.PURGE of the
// work and mail streams, ErrNotJoined, ErrClosed, or what ended ctx.
func (r *Router) Cancel(ctx context.Context, id string) error {
	n, err := r.purgeDelayed(ctx, id)
	if err == nil && n == 0 {
		err = ErrNotDelayed
	}
	if err != nil {
		return fmt.Errorf("routing: cancel: %w", err)
	}
	return nil
}

// purgeDelayed removes them, and says how many there were.
func (r *Router) purgeDelayed(ctx context.Context, id string) (n int, err error) {
	if err := r.sendable(); err != nil {
		return 0, err
	}
	if err := checkCallerID(id); err != nil {
		return 0, err
	}
	if id == "" {
		return 0, errors.New("the message id is empty")
	}
	work, workErr := r.purge(ctx, r.cluster.WorkStream(), r.cluster.WorkSched(hashOf(id), "*"))
	mail, mailErr := r.purge(ctx, r.cluster.MailStream(), r.cluster.MailSched(hashOf(id), "*"))
	return work + mail, errors.Join(workErr, mailErr)
}

// purge removes messages of a stream, and says how many there were.
func (r *Router) purge(ctx context.Context, stream, filter string) (n int, err error) {
	subject := "$JS.API.STREAM.PURGE." + stream
	request, err := json.Marshal(map[string]string{"filter": filter})
	if err != nil {
		return 0, err
	}
	err = r.api(ctx, subject, func(ctx context.Context) error {
		m, err := r.nc.RequestWithContext(ctx, subject, request)
		if err != nil {
			return err
		}
		var answer struct {
			Purged int                 `json:"purged"`
			Error  *jetstream.APIError `json:"error"`
		}
		if err := json.Unmarshal(m.Data, &answer); err != nil {
			return err
		}
		if answer.Error != nil {
			return answer.Error
		}
		n += answer.Purged
		return nil
	})
	return n, err
}
