package cluster

import (
	"context"
	"fmt"
	"reflect"

	"github.com/catga/catga-go/routing"
)

// Handle registers h for the messages of T's kind. When h returns nil the
// message is done; when it returns an error it is tried again as the retry
// policy says (see Retry, Permanent, RetryAfter) and then becomes a dead
// letter, as it does at once when its body does not decode.
//
// Handle panics after Join, for an invalid kind, and for a kind that is already
// handled: these are mistakes of the program, found at its start.
func Handle[T Message](n *Node, h func(context.Context, *Msg[T]) error, opts ...HandleOption) {
	if h == nil {
		panic("cluster: Handle: the handler is nil")
	}
	handler := func(ctx context.Context, raw *Msg[Raw]) (Raw, error) {
		m, err := decoded[T](n, raw)
		if err != nil {
			return Raw{}, err
		}
		return Raw{}, h(ctx, m)
	}
	n.handle(kindOf[T]("Handle"), handler, false, opts)
}

// HandleCall registers h for the requests of Q's kind. What h returns goes to
// the caller; an error goes to the caller as a HandlerError. A durable message
// of the kind runs h and drops the answer.
//
// It panics where Handle does.
func HandleCall[Q Request[R], R any](n *Node, h func(context.Context, *Msg[Q]) (R, error), opts ...HandleOption) {
	if h == nil {
		panic("cluster: HandleCall: the handler is nil")
	}
	handler := func(ctx context.Context, raw *Msg[Raw]) (Raw, error) {
		m, err := decoded[Q](n, raw)
		if err != nil {
			return Raw{}, err
		}
		answer, err := h(ctx, m)
		if err != nil {
			return Raw{}, err
		}
		reply, err := n.router.Encode(raw.Body.Name, answer)
		return reply, Permanent(err)
	}
	n.handle(kindOf[Q]("HandleCall"), handler, true, opts)
}

// HandleRaw registers h for a kind that is known only at run time. The Raw that
// h returns is the answer of a call.
//
// It panics where Handle does.
func (n *Node) HandleRaw(kind string, h Handler, opts ...HandleOption) {
	n.handle(kind, h, true, opts)
}

func (n *Node) handle(kind string, h Handler, reply bool, opts []HandleOption) {
	o := routing.HandleOptions{Reply: reply}
	for _, opt := range opts {
		opt.handle(&o)
	}
	n.router.Handle(kind, h, o)
}

// kindOf asks T for its kind. T may be a pointer; its Kind then must not read
// through it, as the kind is constant per type.
func kindOf[T Message](verb string) string {
	var zero T
	if _, ok := any(zero).(Raw); ok {
		panic("cluster: " + verb + ": the kind of a Raw is known only at run time: use HandleRaw")
	}
	if t := reflect.TypeFor[T](); t.Kind() == reflect.Pointer {
		zero = reflect.New(t.Elem()).Interface().(T)
	} else if t.Kind() == reflect.Interface {
		panic(fmt.Sprintf("cluster: %s: %v is an interface: name the message's own type", verb, t))
	}
	return zero.Kind()
}

// decoded returns raw with its body as a T.
func decoded[T any](n *Node, raw *Msg[Raw]) (*Msg[T], error) {
	m := &Msg[T]{
		ID: raw.ID, From: raw.From, Attempt: raw.Attempt, Fence: raw.Fence, Sent: raw.Sent, Header: raw.Header,
	}
	if err := n.router.Decode(raw.Body, &m.Body); err != nil {
		return nil, err // a caller hears 400, or 415 where there is no codec
	}
	return m, nil
}
