package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"

	"github.com/catga/catga-go/cluster"
	"github.com/catga/catga-go/embedded"
)

// The messages of the examples.
type (
	greeting struct{ Text string }
	getPrice struct{ SKU string }
	price    struct{ Cents int }
)

func (greeting) Kind() string  { return "greeting" }
func (getPrice) Kind() string  { return "price.get" }
func (getPrice) Returns(price) {}

// demo is a NATS in this process and the nodes of one example.
type demo struct {
	ctx   context.Context
	srv   *embedded.Server
	nodes []*cluster.Node
	close []func() error
}

func newDemo() *demo {
	ctx := context.Background()
	srv, err := embedded.Start(ctx, embedded.Config{})
	if err != nil {
		panic(err)
	}
	return &demo{ctx: ctx, srv: srv, close: []func() error{srv.Close}}
}

// node makes a node that has not joined.
func (d *demo) node(id string) *cluster.Node {
	nc, err := d.srv.Dial(d.ctx) // one connection per node, as in processes of their own
	if err != nil {
		panic(err)
	}
	n, err := cluster.New(nc, cluster.Config{Cluster: "demo", Node: id})
	if err != nil {
		panic(err)
	}
	d.nodes = append(d.nodes, n)
	d.close = append(d.close, n.Close)
	return n
}

// join makes a node that has joined; it handles what register says.
func (d *demo) join(id string, register func(*cluster.Node)) *cluster.Node {
	n := d.node(id)
	if register != nil {
		register(n)
	}
	if err := n.Join(d.ctx); err != nil {
		panic(err)
	}
	return n
}

func (d *demo) end() {
	for i := len(d.close) - 1; i >= 0; i-- {
		if err := d.close[i](); err != nil {
			panic(err)
		}
	}
}

// describe gives nodes that have joined their metadata, and returns when n sees
// it.
func (d *demo) describe(n *cluster.Node, metadata map[string]map[string]string) {
	for _, one := range d.nodes {
		if md := metadata[one.ID()]; md != nil {
			if err := one.SetMetadata(d.ctx, md); err != nil {
				panic(err)
			}
		}
	}
	err := n.Wait(d.ctx, func(v cluster.View) bool {
		for id, md := range metadata {
			if m, _ := v.Member(id); !maps.Equal(m.Metadata, md) {
				return false
			}
		}
		return true
	})
	if err != nil {
		panic(err)
	}
}

// greeter handles greetings by telling them on a channel.
func greeter(heard chan<- string) func(*cluster.Node) {
	return func(n *cluster.Node) {
		cluster.Handle(n, func(_ context.Context, m *cluster.Msg[greeting]) error {
			heard <- fmt.Sprintf("%s hears %q from %s", n.ID(), m.Body.Text, m.From)
			return nil
		})
	}
}

// pricer answers getPrice.
func pricer(n *cluster.Node) {
	cluster.HandleCall(n, func(_ context.Context, m *cluster.Msg[getPrice]) (price, error) {
		if m.Body.SKU == "" {
			return price{}, &cluster.HandlerError{Code: 400, Message: "no SKU"}
		}
		return price{Cents: 100 * len(m.Body.SKU)}, nil
	})
}

func sees(ctx context.Context, n *cluster.Node, ids ...string) {
	err := n.Wait(ctx, func(v cluster.View) bool {
		for _, id := range ids {
			if _, ok := v.Member(id); !ok {
				return false
			}
		}
		return true
	})
	if err != nil {
		panic(err)
	}
}

// The smallest cluster: one process, NATS included.
func Example() {
	ctx := context.Background()
	srv, err := embedded.Start(ctx, embedded.Config{})
	if err != nil {
		panic(err)
	}
	defer srv.Close()
	node, err := cluster.New(srv.Conn(), cluster.Config{Cluster: "demo", Node: "n1"})
	if err != nil {
		panic(err)
	}
	heard := make(chan string)
	cluster.Handle(node, func(_ context.Context, m *cluster.Msg[greeting]) error {
		heard <- m.From + " says " + m.Body.Text
		return nil
	})
	if err := node.Join(ctx); err != nil {
		panic(err)
	}
	defer node.Close()
	if err := node.Send(ctx, cluster.To("n1"), greeting{"hello"}); err != nil {
		panic(err)
	}
	fmt.Println(<-heard)
	// Output: n1 says hello
}

func ExampleDial() {
	ctx := context.Background()
	srv, err := embedded.Start(ctx, embedded.Config{Addr: "127.0.0.1:0"}) // or any NATS with JetStream
	if err != nil {
		panic(err)
	}
	defer srv.Close()
	nc, err := cluster.Dial(ctx, srv.ClientURL())
	if err != nil {
		panic(err)
	}
	defer nc.Close()
	fmt.Println(nc.IsConnected())
	// Output: true
}

func ExampleNew() {
	d := newDemo()
	defer d.end()
	_, err := cluster.New(d.srv.Conn(), cluster.Config{Cluster: "my shop", Node: "n.1"})
	fmt.Println(err)
	// Output:
	// cluster: cluster name "my shop" contains ' ': use 1 to 64 of A-Z a-z 0-9 _ -
	// node id "n.1" contains '.': use 1 to 64 of A-Z a-z 0-9 _ -
}

func ExampleNode_Join() {
	d := newDemo()
	defer d.end()
	n := d.node("n1")
	fmt.Println(len(n.Members()), "members before")
	if err := n.Join(d.ctx); err != nil {
		panic(err)
	}
	fmt.Println(len(n.Members()), "member after")
	// A second live process under the same id is refused.
	fmt.Println(errors.Is(d.node("n1").Join(d.ctx), cluster.ErrNodeTaken))
	// Output:
	// 0 members before
	// 1 member after
	// true
}

func ExampleNode_Observe() {
	d := newDemo()
	defer d.end()
	d.join("n1", pricer)
	o := d.node("tool")
	if err := o.Observe(d.ctx); err != nil {
		panic(err)
	}
	p, err := cluster.Call(d.ctx, o, cluster.Any(), getPrice{"pen"})
	fmt.Println(p.Cents, err)
	for _, m := range o.Members() { // the tool is not one of them
		fmt.Println(m.ID)
	}
	// Output:
	// 300 <nil>
	// n1
}

func ExampleNode_Leave() {
	d := newDemo()
	defer d.end()
	a, b := d.join("a", nil), d.join("b", nil)
	sees(d.ctx, a, "b")
	if err := b.Leave(d.ctx); err != nil {
		panic(err)
	}
	gone := func(v cluster.View) bool { m, _ := v.Member("b"); return m.State == cluster.Offline }
	if err := a.Wait(d.ctx, gone); err != nil {
		panic(err)
	}
	m, _ := a.View().Member("b")
	fmt.Println(m.ID, m.State, m.Reason)
	// Output: b offline left
}

func ExampleNode_Close() {
	d := newDemo()
	defer d.end()
	n := d.join("n1", nil)
	fmt.Println(n.Close())
	fmt.Println(n.Close()) // twice is fine
	fmt.Println(errors.Is(n.Send(d.ctx, cluster.To("n1"), greeting{}), cluster.ErrClosed))
	// Output:
	// <nil>
	// <nil>
	// true
}

func ExampleNode_Done() {
	d := newDemo()
	defer d.end()
	n := d.join("n1", nil)
	go n.Close()
	<-n.Done()
	fmt.Println(n.Err())
	// Output: <nil>
}

func ExampleNode_ID() {
	d := newDemo()
	defer d.end()
	fmt.Println(d.node("n1").ID())
	fmt.Println(len(d.node("").ID()) > len("-123456")) // <program>-<6 random>
	// Output:
	// n1
	// true
}

func ExampleNode_Self() {
	d := newDemo()
	defer d.end()
	n := d.join("n1", pricer)
	fmt.Println(n.Self().ID, n.Self().State, n.Self().Kinds)
	// Output: n1 online [price.get]
}

func ExampleNode_Members() {
	d := newDemo()
	defer d.end()
	a := d.join("a", pricer)
	d.join("b", nil)
	sees(d.ctx, a, "b")
	for _, m := range a.Members() {
		fmt.Println(m.ID, m.Kinds)
	}
	// Output:
	// a [price.get]
	// b []
}

func ExampleNode_View() {
	d := newDemo()
	defer d.end()
	a := d.join("a", pricer)
	d.join("b", pricer)
	sees(d.ctx, a, "b")
	for _, m := range a.View().Handlers("price.get") {
		fmt.Println(m.ID)
	}
	// Output:
	// a
	// b
}

func ExampleNode_Watch() {
	d := newDemo()
	defer d.end()
	a, b := d.join("a", nil), d.join("b", nil)
	sees(d.ctx, a, "b")
	var wg sync.WaitGroup
	defer wg.Wait()
	for ev := range a.Watch(d.ctx) {
		fmt.Println(ev)
		switch ev.Kind {
		case cluster.Synced: // everybody who was there has been told
			wg.Go(func() { _ = b.SetMetadata(d.ctx, map[string]string{"zone": "eu"}) })
		case cluster.Updated:
			fmt.Println("zone", ev.Member.Metadata["zone"])
			wg.Go(func() { _ = b.Close() })
		case cluster.Left:
			return
		}
	}
	// Output:
	// Joined a
	// Joined b
	// Synced
	// Updated b
	// zone eu
	// Left b
}

func ExampleNode_Wait() {
	d := newDemo()
	defer d.end()
	a := d.join("a", nil)
	var wg sync.WaitGroup
	wg.Go(func() { d.join("b", pricer) })
	err := a.Wait(d.ctx, func(v cluster.View) bool { return len(v.Handlers("price.get")) > 0 })
	fmt.Println(err)
	wg.Wait()
	// Output: <nil>
}

func ExampleNode_SetMetadata() {
	d := newDemo()
	defer d.end()
	a, b := d.join("a", nil), d.join("b", nil)
	if err := b.SetMetadata(d.ctx, map[string]string{"zone": "eu"}); err != nil {
		panic(err)
	}
	inEU := func(v cluster.View) bool { m, _ := v.Member("b"); return m.Metadata["zone"] == "eu" }
	fmt.Println(a.Wait(d.ctx, inEU))
	// Output: <nil>
}

func ExampleNode_Status() {
	d := newDemo()
	defer d.end()
	n := d.node("n1")
	fmt.Println(n.Status().Ready)
	if err := n.Join(d.ctx); err != nil {
		panic(err)
	}
	fmt.Println(n.Status().Ready, n.Status().Stale)
	// Output:
	// false
	// true false
}

func ExampleNode_Check() {
	d := newDemo()
	defer d.end()
	n := d.join("n1", nil)
	fmt.Println(n.Check(d.ctx))
	// Output: <nil>
}

func ExampleNode_Health() {
	d := newDemo()
	defer d.end()
	n := d.join("n1", nil)
	mux := http.NewServeMux()
	mux.Handle("/health/", http.StripPrefix("/health", n.Health()))
	for _, path := range []string{"/health/live", "/health/ready", "/health/check"} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		fmt.Println(path, w.Code)
	}
	// Output:
	// /health/live 200
	// /health/ready 200
	// /health/check 200
}

func ExampleHandle() {
	d := newDemo()
	defer d.end()
	heard := make(chan string)
	n := d.node("n1")
	cluster.Handle(n, func(ctx context.Context, m *cluster.Msg[greeting]) error {
		heard <- fmt.Sprintf("%q from %s, attempt %d", m.Body.Text, m.From, m.Attempt)
		return nil // done; an error would be tried again
	})
	if err := n.Join(d.ctx); err != nil {
		panic(err)
	}
	if err := n.Send(d.ctx, cluster.Any(), greeting{"hi"}); err != nil {
		panic(err)
	}
	fmt.Println(<-heard)
	// Output: "hi" from n1, attempt 1
}

func ExampleHandleCall() {
	d := newDemo()
	defer d.end()
	n := d.node("n1")
	cluster.HandleCall(n, func(_ context.Context, m *cluster.Msg[getPrice]) (price, error) {
		if m.Body.SKU != "pen" {
			return price{}, &cluster.HandlerError{Code: 404, Message: "no " + m.Body.SKU}
		}
		return price{Cents: 120}, nil
	})
	if err := n.Join(d.ctx); err != nil {
		panic(err)
	}
	fmt.Println(cluster.Call(d.ctx, n, cluster.Any(), getPrice{"pen"}))
	_, err := cluster.Call(d.ctx, n, cluster.Any(), getPrice{"ink"})
	var refused *cluster.HandlerError
	fmt.Println(errors.As(err, &refused), refused.Code, refused.Message)
	// Output:
	// {120} <nil>
	// true 404 no ink
}

func ExampleNode_HandleRaw() {
	d := newDemo()
	defer d.end()
	n := d.node("n1")
	n.HandleRaw("shout", func(_ context.Context, m *cluster.Msg[cluster.Raw]) (cluster.Raw, error) {
		return cluster.Raw{ContentType: m.Body.ContentType, Data: []byte(strings.ToUpper(string(m.Body.Data)))}, nil
	})
	if err := n.Join(d.ctx); err != nil {
		panic(err)
	}
	answer, err := n.CallRaw(d.ctx, cluster.Any(), cluster.Raw{Name: "shout", ContentType: "text/plain", Data: []byte("hey")})
	fmt.Println(string(answer.Data), err)
	// Output: HEY <nil>
}

func ExampleNode_Send() {
	d := newDemo()
	defer d.end()
	heard := make(chan string)
	a := d.join("a", greeter(heard))
	d.join("b", greeter(heard))
	sees(d.ctx, a, "b")

	if err := a.Send(d.ctx, cluster.To("b"), greeting{"you"}); err != nil {
		panic(err)
	}
	fmt.Println(<-heard)

	err := a.Send(d.ctx, cluster.To("nobody"), greeting{"you"})
	fmt.Println(errors.Is(err, cluster.ErrNotDelivered), errors.Is(err, cluster.ErrNoMember))
	// Output:
	// b hears "you" from a
	// true true
}

func ExampleNode_Broadcast() {
	d := newDemo()
	defer d.end()
	heard := make(chan string)
	a := d.join("a", greeter(heard))
	d.join("b", greeter(heard))
	if err := a.Broadcast(d.ctx, greeting{"everybody"}); err != nil {
		panic(err)
	}
	fmt.Println(<-heard)
	fmt.Println(<-heard)
	// Unordered output:
	// a hears "everybody" from a
	// b hears "everybody" from a
}

func ExampleOthers() {
	d := newDemo()
	defer d.end()
	heard := make(chan string)
	a := d.join("a", greeter(heard))
	d.join("b", greeter(heard))
	if err := a.Send(d.ctx, cluster.Others(), greeting{"not me"}); err != nil {
		panic(err)
	}
	fmt.Println(<-heard)
	// Output: b hears "not me" from a
}

func ExampleNodes() {
	d := newDemo()
	defer d.end()
	heard := make(chan string)
	a := d.join("a", greeter(heard))
	d.join("b", greeter(heard))
	d.join("c", greeter(heard))
	sees(d.ctx, a, "b", "c")
	if err := a.Send(d.ctx, cluster.Nodes("a", "c"), greeting{"two"}); err != nil {
		panic(err)
	}
	fmt.Println(<-heard)
	fmt.Println(<-heard)
	// Unordered output:
	// a hears "two" from a
	// c hears "two" from a
}

func ExampleCall() {
	d := newDemo()
	defer d.end()
	n := d.join("caller", nil)
	d.join("shop", pricer)
	sees(d.ctx, n, "shop")
	p, err := cluster.Call(d.ctx, n, cluster.To("shop"), getPrice{"pen"}) // p is a price
	fmt.Println(p.Cents, err)
	// Output: 300 <nil>
}

func ExampleNode_CallRaw() {
	d := newDemo()
	defer d.end()
	n := d.join("shop", pricer)
	answer, err := n.CallRaw(d.ctx, cluster.Any(), cluster.Raw{Name: "price.get", Data: []byte(`{"SKU":"pen"}`)})
	fmt.Println(string(answer.Data), err)
	// Output: {"Cents":300} <nil>
}

func ExampleID() {
	d := newDemo()
	defer d.end()
	heard := make(chan string, 2)
	n := d.join("n1", greeter(heard))
	fmt.Println(n.Send(d.ctx, cluster.Any(), greeting{"once"}, cluster.ID("order-7")))
	err := n.Send(d.ctx, cluster.Any(), greeting{"once"}, cluster.ID("order-7"))
	fmt.Println(errors.Is(err, cluster.ErrDuplicate))
	fmt.Println(<-heard)
	// Output:
	// <nil>
	// true
	// n1 hears "once" from n1
}

func ExampleAtMostOnce() {
	d := newDemo()
	defer d.end()
	heard := make(chan string)
	n := d.join("n1", greeter(heard))
	if err := n.Send(d.ctx, cluster.All(), greeting{"now"}, cluster.AtMostOnce()); err != nil {
		panic(err)
	}
	fmt.Println(<-heard)
	// Output: n1 hears "now" from n1
}

func ExampleIdempotent() {
	d := newDemo()
	defer d.end()
	n := d.join("n1", pricer)
	// Reading a price twice does no harm: ask another node where it is unknown
	// whether the first one has answered.
	p, err := cluster.Call(d.ctx, n, cluster.Any(), getPrice{"pen"}, cluster.Idempotent())
	fmt.Println(p.Cents, err)
	// Output: 300 <nil>
}

func ExampleHeader() {
	d := newDemo()
	defer d.end()
	heard := make(chan string)
	n := d.join("n1", func(n *cluster.Node) {
		cluster.Handle(n, func(_ context.Context, m *cluster.Msg[greeting]) error {
			heard <- m.Header.Get("Tenant")
			return nil
		})
	})
	if err := n.Send(d.ctx, cluster.Any(), greeting{}, cluster.Header("Tenant", "acme")); err != nil {
		panic(err)
	}
	fmt.Println(<-heard)
	// Output: acme
}

func ExampleRetry() {
	d := newDemo()
	defer d.end()
	attempts := make(chan int)
	n := d.join("n1", func(n *cluster.Node) {
		cluster.Handle(n, func(_ context.Context, m *cluster.Msg[greeting]) error {
			attempts <- m.Attempt
			if m.Attempt < 3 {
				return errors.New("not yet")
			}
			return nil
		}, cluster.Retry(cluster.RetryPolicy{Retries: 5, Min: time.Millisecond}))
	})
	if err := n.Send(d.ctx, cluster.Any(), greeting{}); err != nil {
		panic(err)
	}
	fmt.Println(<-attempts, <-attempts, <-attempts)
	// Output: 1 2 3
}

func ExampleRetryAfter() {
	d := newDemo()
	defer d.end()
	attempts := make(chan int)
	n := d.join("n1", func(n *cluster.Node) {
		cluster.Handle(n, func(_ context.Context, m *cluster.Msg[greeting]) error {
			attempts <- m.Attempt
			if m.Attempt == 1 {
				return cluster.RetryAfter(5*time.Millisecond, errors.New("the printer is busy"))
			}
			return nil
		})
	})
	if err := n.Send(d.ctx, cluster.Any(), greeting{}); err != nil {
		panic(err)
	}
	fmt.Println(<-attempts, <-attempts)
	// Output: 1 2
}

func ExamplePermanent() {
	d := newDemo()
	defer d.end()
	n := d.join("n1", func(n *cluster.Node) {
		cluster.Handle(n, func(context.Context, *cluster.Msg[greeting]) error {
			return cluster.Permanent(errors.New("no greetings on Mondays"))
		})
	})
	if err := n.Send(d.ctx, cluster.Any(), greeting{}); err != nil {
		panic(err)
	}
	fmt.Println(firstDeadLetter(d.ctx, n, "greeting").Attempts, "attempt")
	// Output: 1 attempt
}

// firstDeadLetter waits for a dead letter.
func firstDeadLetter(ctx context.Context, n *cluster.Node, kind string) cluster.DeadLetter {
	for {
		for letter, err := range n.DeadLetters().List(ctx, kind) {
			if err != nil {
				panic(err)
			}
			return letter
		}
	}
}

func ExampleNode_DeadLetters() {
	d := newDemo()
	defer d.end()
	var mu sync.Mutex
	broken := true
	heard := make(chan string)
	n := d.join("n1", func(n *cluster.Node) {
		cluster.Handle(n, func(_ context.Context, m *cluster.Msg[greeting]) error {
			mu.Lock()
			defer mu.Unlock()
			if broken {
				return cluster.Permanent(errors.New("out of paper"))
			}
			heard <- m.Body.Text
			return nil
		})
	})
	if err := n.Send(d.ctx, cluster.Any(), greeting{"hi"}); err != nil {
		panic(err)
	}
	letter := firstDeadLetter(d.ctx, n, "greeting")
	fmt.Println(letter.Kind, "failed on", letter.Node)

	mu.Lock()
	broken = false
	mu.Unlock()
	if err := n.DeadLetters().Replay(d.ctx, letter.Seq); err != nil {
		panic(err)
	}
	fmt.Println(<-heard)
	// Output:
	// greeting failed on n1
	// hi
}

func ExampleConcurrency() {
	d := newDemo()
	defer d.end()
	heard := make(chan string)
	n := d.join("n1", func(n *cluster.Node) {
		cluster.Handle(n, func(_ context.Context, m *cluster.Msg[greeting]) error {
			heard <- m.Body.Text // alone: the next one begins when this one has returned
			return nil
		}, cluster.Concurrency(1))
	})
	for _, text := range []string{"one", "two", "three"} {
		if err := n.Send(d.ctx, cluster.Any(), greeting{text}); err != nil {
			panic(err)
		}
	}
	fmt.Println(<-heard, <-heard, <-heard)
	// Output: one two three
}

func ExampleTimeLimit() {
	d := newDemo()
	defer d.end()
	n := d.join("n1", func(n *cluster.Node) {
		cluster.HandleCall(n, func(ctx context.Context, _ *cluster.Msg[getPrice]) (price, error) {
			<-ctx.Done() // something that takes too long
			return price{}, &cluster.HandlerError{Code: 504, Message: "the supplier does not answer"}
		}, cluster.TimeLimit(10*time.Millisecond))
	})
	_, err := cluster.Call(d.ctx, n, cluster.Any(), getPrice{"pen"})
	var refused *cluster.HandlerError
	fmt.Println(errors.As(err, &refused), refused.Message)
	// Output: true the supplier does not answer
}

func ExampleNode_Stats() {
	d := newDemo()
	defer d.end()
	n := d.join("n1", pricer)
	for range 3 {
		if _, err := cluster.Call(d.ctx, n, cluster.Any(), getPrice{"pen"}); err != nil {
			panic(err)
		}
	}
	if _, err := cluster.Call(d.ctx, n, cluster.Any(), getPrice{}); err != nil {
		fmt.Println(err)
	}
	for _, s := range n.Stats() {
		fmt.Println(s.Kind, "- calls:", s.Calls, "failed:", s.Failed, "in flight:", s.InFlight, "mean is known:", s.Mean > 0)
	}
	// Output:
	// routing: handler of price.get at node n1: no SKU (code 400)
	// price.get - calls: 4 failed: 1 in flight: 0 mean is known: true
}

func ExampleNode_Pause() {
	d := newDemo()
	defer d.end()
	n1, n2 := d.join("n1", pricer), d.join("n2", nil)
	sees(d.ctx, n2, "n1")

	if err := n1.Pause("price.get"); err != nil {
		panic(err)
	}
	ctx, cancel := context.WithTimeout(d.ctx, 50*time.Millisecond)
	defer cancel()
	_, err := cluster.Call(ctx, n2, cluster.Any(), getPrice{"pen"})
	fmt.Println(errors.Is(err, cluster.ErrNotDelivered), errors.Is(err, cluster.ErrBusy))
	fmt.Println(n1.Pause("coffee.make"))
	// Output:
	// true true
	// routing: pause: this node does not handle "coffee.make": nobody handles the kind
}

func ExampleNode_Resume() {
	d := newDemo()
	defer d.end()
	heard := make(chan string, 1)
	n := d.join("n1", greeter(heard))
	if err := n.Pause("greeting"); err != nil {
		panic(err)
	}
	if err := n.Send(d.ctx, cluster.To("n1"), greeting{"hello"}); err != nil {
		panic(err) // it is stored, and waits
	}
	fmt.Println("paused:", n.Stats()[0].Paused, "handled:", n.Stats()[0].Received)
	if err := n.Resume("greeting"); err != nil {
		panic(err)
	}
	fmt.Println(<-heard)
	// Output:
	// paused: true handled: 0
	// n1 hears "hello" from n1
}
