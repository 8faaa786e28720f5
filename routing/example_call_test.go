package routing_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/catga/catga-go/routing"
)

// One node asks another, by name and by what it can do.
func ExampleRouter_Call() {
	srv := start()
	defer srv.Close()
	peers := []routing.Peer{
		{ID: "ann", Incarnation: 1},
		{ID: "bob", Incarnation: 1, Kinds: []string{"price.get"}},
	}
	bob := open(srv, "bob", peers, func(r *routing.Router) {
		r.Handle("price.get", func(_ context.Context, m *routing.Msg[routing.Raw]) (routing.Raw, error) {
			var sku string
			if err := r.Decode(m.Body, &sku); err != nil {
				return routing.Raw{}, err
			}
			if sku != "tea" {
				return routing.Raw{}, &routing.HandlerError{Code: 404, Message: "no price for " + sku}
			}
			return r.Encode("price", 250)
		}, routing.HandleOptions{Reply: true})
	})
	defer bob.Close()
	ann := open(srv, "ann", peers, func(*routing.Router) {})
	defer ann.Close()

	ask := func(to routing.One, body string) {
		q := routing.Raw{Name: "price.get", Data: []byte(body)}
		a, err := ann.Call(context.Background(), to, q, routing.CallOptions{Idempotent: true})
		var cents int
		if err == nil {
			err = ann.Decode(a, &cents)
		}
		fmt.Println(cents, err)
	}
	ask(routing.To("bob"), `"tea"`)
	ask(routing.Any(), `"tea"`)
	ask(routing.Any(), `"coffee"`)
	ask(routing.Any(), `"te`)
	ask(routing.To("eve"), `"tea"`)
	// Output:
	// 250 <nil>
	// 250 <nil>
	// 0 routing: handler of price.get at node bob: no price for coffee (code 404)
	// 0 routing: handler of price.get at node bob: routing: broken body: price.get is not the application/json of a *string: unexpected end of JSON input (code 400)
	// 0 routing: not delivered: no such member: "eve"
}

// A handler's own error is told apart from a call that did not arrive.
func ExampleHandlerError() {
	srv := start()
	defer srv.Close()
	peers := []routing.Peer{{ID: "ann", Incarnation: 1, Kinds: []string{"door.open"}}}
	ann := open(srv, "ann", peers, func(r *routing.Router) {
		r.Handle("door.open", func(context.Context, *routing.Msg[routing.Raw]) (routing.Raw, error) {
			return routing.Raw{}, &routing.HandlerError{Code: 423, Message: "locked"}
		}, routing.HandleOptions{Reply: true})
	})
	defer ann.Close()
	for _, kind := range []string{"door.open", "window.open"} {
		_, err := ann.Call(context.Background(), routing.Any(), routing.Raw{Name: kind}, routing.CallOptions{})
		if failed, ok := errors.AsType[*routing.HandlerError](err); ok {
			fmt.Println(failed.Node, "said", failed.Code, failed.Message)
		}
		if errors.Is(err, routing.ErrNotDelivered) {
			fmt.Println("nobody ran it:", errors.Is(err, routing.ErrNoHandler))
		}
	}
	// Output:
	// ann said 423 locked
	// nobody ran it: true
}

// Now or not at all, to everybody else: who is away misses it.
func ExampleSendOptions_atMostOnce() {
	srv := start()
	defer srv.Close()
	peers := []routing.Peer{
		{ID: "ann", Incarnation: 1, Kinds: []string{"cache.drop"}},
		{ID: "bob", Incarnation: 1, Kinds: []string{"cache.drop"}},
	}
	dropped := make(chan string)
	cache := func(id string) func(*routing.Router) {
		return func(r *routing.Router) {
			r.Handle("cache.drop", func(_ context.Context, m *routing.Msg[routing.Raw]) (routing.Raw, error) {
				dropped <- fmt.Sprintf("%s drops %s, says %s", id, m.Body.Data, m.From)
				return routing.Raw{}, nil
			}, routing.HandleOptions{})
		}
	}
	ann := open(srv, "ann", peers, cache("ann"))
	defer ann.Close()
	bob := open(srv, "bob", peers, cache("bob"))
	defer bob.Close()
	m := routing.Raw{Name: "cache.drop", ContentType: routing.Bytes.ContentType(), Data: []byte("user/7")}
	err := ann.Send(context.Background(), routing.Others(), m, routing.SendOptions{AtMostOnce: true})
	fmt.Println(err)
	fmt.Println(<-dropped)
	// Output:
	// <nil>
	// bob drops user/7, says ann
}
