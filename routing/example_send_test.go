package routing_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/catga/catga-go/embedded"
	"github.com/catga/catga-go/routing"
)

// open starts a node of a cluster that consists of peers. A program has package
// cluster do this: it finds the peers and tells the router.
func open(srv *embedded.Server, id string, peers []routing.Peer, handle func(r *routing.Router)) *routing.Router {
	ctx := context.Background()
	r, err := routing.New(srv.Conn(), routing.Config{Cluster: "example", Node: id})
	if err != nil {
		log.Fatal(err)
	}
	handle(r)
	if err := r.Prepare(ctx); err != nil {
		log.Fatal(err)
	}
	if err := r.Start(ctx, 1); err != nil {
		log.Fatal(err)
	}
	for _, p := range peers {
		r.Update([]routing.Change{{Kind: routing.Up, Peer: p}})
	}
	return r
}

// start starts a server in memory.
func start() *embedded.Server {
	srv, err := embedded.Start(context.Background(), embedded.Config{})
	if err != nil {
		log.Fatal(err)
	}
	return srv
}

var twoPeers = []routing.Peer{
	{ID: "ann", Incarnation: 1, Kinds: []string{"greet"}},
	{ID: "bob", Incarnation: 1, Kinds: []string{"greet"}},
}

// Every target in turn: one node, any of those that handle the kind, all of
// them, all others, some by name.
func ExampleRouter_Send() {
	srv := start()
	defer srv.Close()
	ctx := context.Background()
	got := make(chan string)
	greeter := func(id string) func(r *routing.Router) {
		return func(r *routing.Router) {
			r.Handle("greet", func(_ context.Context, m *routing.Msg[routing.Raw]) (routing.Raw, error) {
				got <- fmt.Sprintf("%s: %s from %s", id, m.Body.Data, m.From)
				return routing.Raw{}, nil
			}, routing.HandleOptions{})
		}
	}
	ann := open(srv, "ann", twoPeers, greeter("ann"))
	defer ann.Close()
	bob := open(srv, "bob", twoPeers, greeter("bob"))
	defer bob.Close()

	send := func(to routing.Target, body string) {
		m := routing.Raw{Name: "greet", Data: []byte(body)}
		if err := ann.Send(ctx, to, m, routing.SendOptions{}); err != nil {
			fmt.Println(err)
		}
	}
	send(routing.To("bob"), "hello")
	fmt.Println(<-got)
	send(routing.Others(), "hello others")
	fmt.Println(<-got)
	send(routing.Nodes("ann"), "hello me")
	fmt.Println(<-got)
	send(routing.All(), "hello all")
	fmt.Println(<-got)
	fmt.Println(<-got)
	send(routing.Any(), "hello anybody")
	fmt.Println(len(<-got) > 0)
	send(routing.To("eve"), "hello")
	// Unordered output:
	// bob: hello from ann
	// bob: hello others from ann
	// ann: hello me from ann
	// ann: hello all from ann
	// bob: hello all from ann
	// true
	// routing: not delivered: no such member: "eve"
}

// The same id is stored once, whoever sends it.
func ExampleSendOptions() {
	srv := start()
	defer srv.Close()
	done := make(chan string, 2)
	ann := open(srv, "ann", nil, func(r *routing.Router) {
		r.Handle("order.place", func(_ context.Context, m *routing.Msg[routing.Raw]) (routing.Raw, error) {
			done <- m.ID
			return routing.Raw{}, nil
		}, routing.HandleOptions{})
	})
	defer ann.Close()
	m := routing.Raw{Name: "order.place", Data: []byte(`{"sku":"tea"}`)}
	for range 2 {
		err := ann.Send(context.Background(), routing.Any(), m, routing.SendOptions{ID: "order-17"})
		fmt.Println(err == nil, errors.Is(err, routing.ErrDuplicate))
	}
	fmt.Println(<-done)
	// Output:
	// true false
	// false true
	// order-17
}

// A message that fails for good is a dead letter, and can be sent again when
// the reason is gone.
func ExampleRouter_DeadLetters() {
	srv := start()
	defer srv.Close()
	ctx := context.Background()
	answers := make(chan bool, 2)
	answers <- false
	answers <- true
	done, failed := make(chan string), make(chan struct{})
	ann := open(srv, "ann", nil, func(r *routing.Router) {
		r.Handle("order.place", func(_ context.Context, m *routing.Msg[routing.Raw]) (routing.Raw, error) {
			if !<-answers {
				defer close(failed)
				return routing.Raw{}, routing.Permanent(errors.New("the shop is closed"))
			}
			done <- string(m.Body.Data)
			return routing.Raw{}, nil
		}, routing.HandleOptions{})
	})
	defer ann.Close()
	m := routing.Raw{Name: "order.place", Data: []byte("tea")}
	if err := ann.Send(ctx, routing.Any(), m, routing.SendOptions{}); err != nil {
		log.Fatal(err)
	}
	<-failed
	letters := ann.DeadLetters()
	var letter routing.DeadLetter
	for letter.Seq == 0 { // it is stored a moment after the handler has failed
		for l, err := range letters.List(ctx, "order.place") {
			if err != nil {
				log.Fatal(err)
			}
			letter = l
		}
	}
	fmt.Println(letter.Kind, letter.Attempts, letter.Reason)
	if err := letters.Replay(ctx, letter.Seq); err != nil {
		log.Fatal(err)
	}
	fmt.Println(<-done)
	_, err := letters.Get(ctx, letter.Seq)
	fmt.Println(errors.Is(err, routing.ErrNoDeadLetter))
	// Output:
	// order.place 1 the shop is closed
	// tea
	// true
}

// A handler that knows when it can go on says so.
func ExampleRetryAfter() {
	srv := start()
	defer srv.Close()
	attempts := make(chan int)
	ann := open(srv, "ann", nil, func(r *routing.Router) {
		r.Handle("page.fetch", func(_ context.Context, m *routing.Msg[routing.Raw]) (routing.Raw, error) {
			attempts <- m.Attempt
			if m.Attempt == 1 {
				return routing.Raw{}, routing.RetryAfter(10*time.Millisecond, errors.New("429 Too Many Requests"))
			}
			return routing.Raw{}, nil
		}, routing.HandleOptions{})
	})
	defer ann.Close()
	if err := ann.Send(context.Background(), routing.Any(), routing.Raw{Name: "page.fetch"}, routing.SendOptions{}); err != nil {
		log.Fatal(err)
	}
	fmt.Println(<-attempts, <-attempts)
	// Output: 1 2
}

// The soft stop: running handlers finish, what has not begun is for others.
func ExampleRouter_Drain() {
	srv := start()
	defer srv.Close()
	begun, done := make(chan struct{}), false
	ann := open(srv, "ann", nil, func(r *routing.Router) {
		r.Handle("report.build", func(context.Context, *routing.Msg[routing.Raw]) (routing.Raw, error) {
			close(begun)
			done = true
			return routing.Raw{}, nil
		}, routing.HandleOptions{})
	})
	ctx := context.Background()
	if err := ann.Send(ctx, routing.Any(), routing.Raw{Name: "report.build"}, routing.SendOptions{}); err != nil {
		log.Fatal(err)
	}
	<-begun
	fmt.Println(ann.Drain(ctx), done, ann.Close())
	err := ann.Send(ctx, routing.Any(), routing.Raw{Name: "report.build"}, routing.SendOptions{})
	fmt.Println(err)
	// Output:
	// <nil> true <nil>
	// routing: not delivered: closed
}
