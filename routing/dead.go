package routing

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/catga/catga-go/internal/wire"
)

// DeadLetter is a message that could not be handled, and why.
type DeadLetter struct {
	Seq      uint64    // names it in Get, Replay and Drop
	Kind     string    // of the message
	ID       string    // of the message
	From     string    // who sent it
	Node     string    // where it ended
	Reason   string    // the last error
	Stack    string    // of a panic
	Attempts int       // how often it ran
	Subject  string    // where it was stored
	Sent     time.Time // when it was stored there
	Died     time.Time
	Message  Raw
	Header   nats.Header // as the message had it, and what says how it ended
}

const (
	// maxReason and maxStack keep what is said of a message smaller than what
	// Send leaves free of the server's limit.
	maxReason = 1024
	maxStack  = 8 << 10
	// deadRoom is what Send leaves free, so that the message fits with its
	// obituary into the dead letters.
	deadRoom = 4 << 10
)

// bury makes a delivery a dead letter: first it is stored as one, then it ends
// where it was. A crash between the two leaves one copy, because the letter's
// id is where the message was. Until the letter is stored the message stays in
// hand.
func (r *Router) bury(d *delivery, attempts int, cause error, reason string) {
	letter := r.letter(d, attempts, cause)
	for size := 0; !d.gone(); {
		_, err := r.store(d.life.ctx, letter)
		switch {
		case err == nil:
			r.log.Error("a message is a dead letter", "kind", d.kind.name, "attempts", attempts, "reason", reason)
			d.kind.tally.dead.Add(1)
			d.finish(ackTerm(reason))
			return
		case d.gone():
			return
		case r.ctx.Err() != nil:
			d.finish(ackNak)
			return
		case errors.Is(err, ErrTooLarge) && size < 2:
			size++
			r.shrink(letter, size)
		default:
			r.log.Error("a dead letter cannot be stored; trying again", "kind", d.kind.name, "err", err)
			if !r.sleep(lastPause) {
				d.finish(ackNak)
				return
			}
		}
	}
}

// letter makes the dead letter of a delivery.
func (r *Router) letter(d *delivery, attempts int, cause error) *nats.Msg {
	return r.letterOf(d.msg, d.ack, d.kind.name, r.id, attempts, cause)
}

// letterOf makes the dead letter of a message of the kind that ends at node.
func (r *Router) letterOf(m *nats.Msg, ack ackInfo, kind, node string, attempts int, cause error) *nats.Msg {
	id, from := idOf(m.Header)
	h := withoutServerHeaders(m.Header, 10)
	set := func(name, value string) {
		if value != "" {
			h[name] = []string{value}
		}
	}
	place := ack.stream[strings.LastIndexByte(ack.stream, '_')+1:] + "-" + strconv.FormatUint(ack.seq, 10)
	if ack.stream == r.cluster.FanoutStream() {
		place += "-" + node // each node has its own copy
	}
	set(wire.HeaderMsgID, place)
	set(wire.HeaderID, id)
	set(wire.HeaderFrom, from)
	set(wire.HeaderDeadReason, oneLine(cause.Error(), maxReason))
	set(wire.HeaderDeadNode, node)
	set(wire.HeaderDeadAttempts, strconv.Itoa(attempts))
	set(wire.HeaderDeadSubject, m.Subject)
	set(wire.HeaderDeadStream, ack.stream)
	set(wire.HeaderDeadSeq, strconv.FormatUint(ack.seq, 10))
	set(wire.HeaderDeadSent, ack.stored.UTC().Format(time.RFC3339Nano))
	if stack := stackOf(cause); stack != nil {
		set(wire.HeaderDeadStack, strconv.Quote(string(stack[:min(len(stack), maxStack)])))
	}
	return &nats.Msg{Subject: r.cluster.Dead(kind), Header: h, Data: m.Data}
}

// withoutServerHeaders copies what is the message's own of its headers, with
// room for more.
func withoutServerHeaders(from nats.Header, room int) nats.Header {
	h := make(nats.Header, len(from)+room)
	for name, values := range from {
		if !strings.HasPrefix(name, "Nats-") {
			h[name] = values
		}
	}
	return h
}

// shrink makes a letter fit that the server finds too large, which no message
// of Send is: it was published by somebody else, right at the limit.
func (r *Router) shrink(letter *nats.Msg, step int) {
	delete(letter.Header, wire.HeaderDeadStack)
	letter.Header.Set(wire.HeaderDeadReason, oneLine(letter.Header.Get(wire.HeaderDeadReason), 200))
	if step < 2 {
		return
	}
	letter.Header.Set(wire.HeaderDeadCut, strconv.Itoa(len(letter.Data)))
	letter.Data = letter.Data[:max(len(letter.Data)-deadRoom, 0)]
}

// oneLine makes text fit for a header.
func oneLine(text string, most int) string {
	text = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, text)
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "")
	}
	return cmp.Or(strings.TrimSpace(text), "unknown")
}

// DeadLetters lists, replays and drops dead letters.
type DeadLetters struct{ r *Router }

// DeadLetters gives access to the dead letters of the cluster.
func (r *Router) DeadLetters() DeadLetters { return DeadLetters{r} }

// List yields the dead letters of kind, oldest first; an empty kind is all. It
// ends with the newest letter there is when it gets there, or with an error.
func (l DeadLetters) List(ctx context.Context, kind string) iter.Seq2[DeadLetter, error] {
	return func(yield func(DeadLetter, error) bool) {
		subject := l.r.cluster.Dead(">")
		if kind != "" {
			if err := wire.CheckKind(kind); err != nil {
				yield(DeadLetter{}, fmt.Errorf("routing: dead letters: %w", err))
				return
			}
			subject = l.r.cluster.Dead(kind)
		}
		for seq := uint64(1); ; {
			m, err := l.get(ctx, seq, jetstream.WithGetMsgSubject(subject))
			if errors.Is(err, ErrNoDeadLetter) {
				return
			}
			if err != nil {
				yield(DeadLetter{}, err)
				return
			}
			if !yield(l.r.parseLetter(m), nil) {
				return
			}
			seq = m.Sequence + 1
		}
	}
}

// Get returns one dead letter, or ErrNoDeadLetter.
func (l DeadLetters) Get(ctx context.Context, seq uint64) (DeadLetter, error) {
	m, err := l.get(ctx, seq)
	if err != nil {
		return DeadLetter{}, err
	}
	return l.r.parseLetter(m), nil
}

// Replay sends a dead letter again where it was, as a new message with the same
// id for its handler and with its attempts counted anew, and removes the
// letter. One of a message to many goes only to the node where it ended. When
// Replay fails, the letter is still there; repeating it within the dedup window
// stores the message once.
//
// Errors: those of Send, ErrNoDeadLetter.
func (l DeadLetters) Replay(ctx context.Context, seq uint64) error {
	letter, err := l.Get(ctx, seq)
	if err != nil {
		return err
	}
	if err := l.r.admits(ctx); err != nil {
		return notDelivered(err)
	}
	msg, err := l.r.resurrected(ctx, letter)
	if err != nil {
		return notDelivered(err)
	}
	if _, err := l.r.store(ctx, msg); err != nil {
		return err
	}
	if err := l.Drop(ctx, seq); err != nil && !errors.Is(err, ErrNoDeadLetter) {
		return err
	}
	return nil
}

// resurrected makes the message that a letter was.
func (r *Router) resurrected(ctx context.Context, letter DeadLetter) (*nats.Msg, error) {
	t := target{to: toAny}
	if _, ok := strings.CutPrefix(letter.Subject, r.cluster.All("")); ok {
		t = target{to: toNode, id: letter.Node}
	} else if id, ok := r.cluster.NodeOfMail(letter.Subject); ok {
		t = target{to: toNode, id: id}
		if where := selectorOf(letter.Header); where != nil && where.err == nil {
			t = target{to: toAny, where: where} // it was for any such node
		}
	}
	t, err := r.aim(ctx, t, letter.Kind)
	if err != nil {
		return nil, err
	}
	h := maps.Clone(letter.Header)
	for name := range letter.Header {
		if strings.HasPrefix(name, "Nats-") || strings.HasPrefix(name, "Catga-Dead-") ||
			name == wire.HeaderOnly || name == wire.HeaderExcept || name == wire.HeaderSelect && t.where == nil {
			delete(h, name)
		}
	}
	// Under its own id the server would drop it as a repeat of what it was.
	h[wire.HeaderMsgID] = []string{letter.ID + "/d" + strconv.FormatUint(letter.Seq, 10)}
	return &nats.Msg{Subject: r.subject(t, letter.Kind), Header: h, Data: letter.Message.Data}, nil
}

// Drop removes a dead letter for good.
func (l DeadLetters) Drop(ctx context.Context, seq uint64) error {
	stream := l.r.cluster.DeadStream()
	err := l.r.api(ctx, "$JS.API.STREAM.MSG.DELETE."+stream, func(ctx context.Context) error {
		s, err := l.r.js.Stream(ctx, stream)
		if err != nil {
			return err
		}
		return s.DeleteMsg(ctx, seq)
	})
	if errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful) {
		// nats.go does not say why; a letter that is not there is the usual reason.
		if _, missing := l.get(ctx, seq); errors.Is(missing, ErrNoDeadLetter) {
			return missing
		}
	}
	return l.failure("drop", seq, err)
}

func (l DeadLetters) get(ctx context.Context, seq uint64, opts ...jetstream.GetMsgOpt) (m *jetstream.RawStreamMsg, err error) {
	stream := l.r.cluster.DeadStream()
	err = l.r.api(ctx, "$JS.API.DIRECT.GET."+stream, func(ctx context.Context) error {
		s, err := l.r.js.Stream(ctx, stream)
		if err != nil {
			return err
		}
		m, err = s.GetMsg(ctx, seq, opts...)
		return err
	})
	return m, l.failure("get", seq, err)
}

func (l DeadLetters) failure(what string, seq uint64, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return fmt.Errorf("%w: %d", ErrNoDeadLetter, seq)
	}
	return fmt.Errorf("routing: %s dead letter %d: %w", what, seq, err)
}

// parseLetter reads a message of the dead letters. What a foreign program
// wrote there may lack anything.
func (r *Router) parseLetter(m *jetstream.RawStreamMsg) DeadLetter {
	h := m.Header
	l := DeadLetter{
		Seq:     m.Sequence,
		Kind:    strings.TrimPrefix(m.Subject, r.cluster.Dead("")),
		Node:    h.Get(wire.HeaderDeadNode),
		Reason:  h.Get(wire.HeaderDeadReason),
		Subject: h.Get(wire.HeaderDeadSubject),
		Died:    m.Time,
		Header:  h,
	}
	l.ID, l.From = idOf(h)
	l.Message = Raw{Name: l.Kind, ContentType: contentTypeOf(h), Data: m.Data}
	// Absent or broken values are zero ones.
	l.Attempts, _ = strconv.Atoi(h.Get(wire.HeaderDeadAttempts))
	l.Sent, _ = time.Parse(time.RFC3339Nano, h.Get(wire.HeaderDeadSent))
	l.Stack, _ = strconv.Unquote(h.Get(wire.HeaderDeadStack))
	return l
}
