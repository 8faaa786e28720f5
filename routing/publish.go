package routing

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/catga/catga-go/internal/provision"
)

const (
	// firstAttempt is how long the first attempt to store a message waits for the
	// server's word, and lastAttempt is the longest; each waits twice as long as
	// the one before. A leader that steps down, because its server stops, answers
	// nothing more to what it has in hand, and the next one is there in some ms.
	// A slow server gets the message a few times more and stores it once.
	firstAttempt = 500 * time.Millisecond
	lastAttempt  = 2 * time.Second

	// Error codes of a publish that nats.go has no name for.
	codeDuplicateInProcess = 10158 // the same id is being stored right now
	codeStorageAway        = 10008 // JetStream is not there for now
	codeNoQuorum           = 10009 // the peer is not current, or there is no leader
)

// stored is what the server says of a stored message.
type stored struct {
	seq       uint64
	duplicate bool
	// repeated says that an earlier attempt of the same call may have stored it.
	repeated bool
}

// pubAck is the answer to a publish. Shape:
// {"stream":"…","seq":4,"duplicate":true} or {"error":{"code":…,"err_code":…}}.
type pubAck struct {
	Stream    string              `json:"stream"`
	Seq       uint64              `json:"seq"`
	Duplicate bool                `json:"duplicate"`
	Error     *jetstream.APIError `json:"error"`
}

// parsePubAck reads the answer to a publish: an error of the server is returned
// as *jetstream.APIError.
func parsePubAck(data []byte) (pubAck, error) {
	var a pubAck
	if err := json.Unmarshal(data, &a); err != nil {
		return pubAck{}, fmt.Errorf("routing: the answer to a publish cannot be read: %w", err)
	}
	if a.Error != nil {
		return pubAck{}, a.Error
	}
	if a.Stream == "" || a.Seq == 0 {
		return pubAck{}, errors.New("routing: the answer to a publish is not one")
	}
	return a, nil
}

// store publishes m until the server says that it has it, or ctx ends. Every
// attempt carries the same Nats-Msg-Id, so that what was stored without our
// hearing of it is not stored twice. The error is an outcome.
func (r *Router) store(ctx context.Context, m *nats.Msg) (stored, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	if ctx.Err() != nil {
		return stored{}, notDelivered(ctxReason(ctx))
	}
	return r.storeAfter(ctx, m, nil)
}

// storeAfter is store after an earlier attempt whose end was not seen, and why;
// nil is no such attempt. ctx has a deadline.
func (r *Router) storeAfter(ctx context.Context, m *nats.Msg, doubt error) (stored, error) {
	var (
		last error // why the last attempt did not work
		wait *pause
	)
	for limit := firstAttempt; ; limit = min(2*limit, lastAttempt) {
		ack, sent, err := r.tryStore(ctx, m, limit)
		if err == nil {
			return stored{seq: ack.Seq, duplicate: ack.Duplicate, repeated: doubt != nil}, nil
		}
		last = err
		if sent && doubt == nil {
			doubt = err
		}
		if !storableLater(err) {
			break
		}
		if errors.Is(err, nats.ErrNoResponders) {
			r.miss() // a server that forgot its streams gets them again
		}
		if wait == nil {
			wait = newPause()
		}
		if ctx.Err() != nil || !wait.wait(ctx) {
			last = fmt.Errorf("%w (%w)", ctxReason(ctx), err)
			break
		}
	}
	if doubt != nil {
		return stored{}, unknown(last)
	}
	return stored{}, notDelivered(last)
}

// errNoWord is an attempt of which nothing was heard.
var errNoWord = errors.New("the server did not answer")

// tryStore is one attempt, which waits for limit. sent says of an error that the
// message may be stored.
func (r *Router) tryStore(ctx context.Context, m *nats.Msg, limit time.Duration) (ack pubAck, sent bool, err error) {
	a, err := r.beginStore(m, limit)
	if err != nil {
		return pubAck{}, false, err
	}
	return r.endStore(ctx, m, a)
}

// storing is an attempt to store a message whose end is not seen yet.
type storing struct {
	inbox *replies
	p     *pending
	lost  <-chan struct{}
}

// beginStore sends m, of which endStore hears within limit. Of an error nothing is
// stored; else endStore follows.
func (r *Router) beginStore(m *nats.Msg, limit time.Duration) (storing, error) {
	if !r.nc.IsConnected() {
		// Not into the reconnect buffer: it would be sent after we gave up.
		if r.nc.IsClosed() {
			return storing{}, nats.ErrConnectionClosed
		}
		return storing{}, nats.ErrDisconnected
	}
	lost := r.durable.link.lost()
	inbox := r.calls.replies.Load()
	if inbox == nil {
		return storing{}, ErrNotJoined
	}
	p, reply := inbox.await()
	out := *m
	out.Reply = reply
	if err := r.nc.PublishMsg(&out); err != nil {
		inbox.release(p, false)
		return storing{}, notTaken(err)
	}
	p.timer.Reset(limit)
	return storing{inbox, p, lost}, nil
}

// notTaken says why nats.go did not take a message to be sent. Whatever the reason,
// the server has no whole message: a write that fails cuts the last message of
// the buffer, which is this one, and ends the connection.
func notTaken(err error) error {
	switch {
	case errors.Is(err, nats.ErrMaxPayload):
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	case errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrConnectionDraining),
		errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, nats.ErrBadSubject),
		errors.Is(err, nats.ErrHeadersNotSupported):
		return err
	}
	return fmt.Errorf("%w: %w", nats.ErrDisconnected, err) // of the socket
}

// endStore waits for the end of an attempt. sent says of an error that the
// message may be stored.
func (r *Router) endStore(ctx context.Context, m *nats.Msg, a storing) (ack pubAck, sent bool, err error) {
	answered := false
	defer func() { a.inbox.release(a.p, answered) }()
	select {
	case answer := <-a.p.answer:
		answered = true
		if isNoResponders(answer) {
			return pubAck{}, false, nats.ErrNoResponders
		}
		ack, err := parsePubAck(answer.Data)
		if err == nil {
			return ack, true, nil
		}
		api, refused := errors.AsType[*jetstream.APIError](err)
		if refused && api.ErrorCode == jetstream.JSErrCodeStreamMessageExceedsMaximum {
			err = fmt.Errorf("%w: %w", ErrTooLarge, err)
		}
		return pubAck{}, !refused || api.ErrorCode == codeDuplicateInProcess, err
	case <-a.lost:
		return pubAck{}, true, nats.ErrDisconnected
	case <-a.inbox.closed:
		return pubAck{}, true, ErrClosed
	case <-a.p.timer.C:
		err = errNoWord
	case <-ctx.Done():
		err = ctxReason(ctx)
	}
	if denied := provision.PublishDenied(r.nc, m.Subject); denied != nil {
		return pubAck{}, false, denied // the server took nothing
	}
	return pubAck{}, true, err
}

// storableLater reports whether another attempt may store the message.
func storableLater(err error) bool {
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		switch api.ErrorCode {
		case codeDuplicateInProcess, codeStorageAway, codeNoQuorum:
			return true
		}
		return api.Code == 503 // short of resources, or without a leader, for now
	}
	return errors.Is(err, nats.ErrNoResponders) || errors.Is(err, nats.ErrDisconnected) ||
		errors.Is(err, nats.ErrReconnectBufExceeded) || errors.Is(err, errNoWord)
}
