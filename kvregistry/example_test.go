package kvregistry_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/embedded"
	"github.com/catga/catga-go/kvregistry"
)

// member joins the cluster "shop" over a connection of its own, as each
// process would.
func member(ctx context.Context, server *embedded.Server, cfg kvregistry.Config) (*kvregistry.Registry, *nats.Conn) {
	nc, err := server.Dial(ctx)
	if err != nil {
		log.Fatal(err)
	}
	cfg.Cluster = "shop"
	reg, err := kvregistry.New(nc, cfg)
	if err != nil {
		log.Fatal(err)
	}
	if err := reg.Join(ctx); err != nil {
		log.Fatal(err)
	}
	return reg, nc
}

func start(ctx context.Context) *embedded.Server {
	server, err := embedded.Start(ctx, embedded.Config{})
	if err != nil {
		log.Fatal(err)
	}
	return server
}

func Example() {
	ctx := context.Background()
	server := start(ctx)
	defer server.Close()

	orders, _ := member(ctx, server, kvregistry.Config{Node: "orders-1", Metadata: map[string]string{"zone": "a"}})
	defer orders.Close()
	billing, _ := member(ctx, server, kvregistry.Config{Node: "billing-1"})
	defer billing.Close()

	err := orders.Wait(ctx, func(v kvregistry.View) bool { return len(v.Members) == 2 })
	if err != nil {
		log.Fatal(err)
	}
	for _, m := range orders.Members() {
		fmt.Println(m.ID, m.State, m.Metadata)
	}
	// Output:
	// billing-1 online map[]
	// orders-1 online map[zone:a]
}

func ExampleRegistry_Watch() {
	ctx := context.Background()
	server := start(ctx)
	defer server.Close()

	a, _ := member(ctx, server, kvregistry.Config{Node: "a"})
	defer a.Close()
	b, _ := member(ctx, server, kvregistry.Config{Node: "b"})
	defer b.Close()
	_, crashing := member(ctx, server, kvregistry.Config{Node: "c"})
	for e := range a.Watch(ctx) {
		switch e.Kind {
		case kvregistry.Joined:
			fmt.Println(e.Member.ID, "joined")
			if e.Member.ID == "c" {
				go crashing.Close() // as if its process had died
			}
		case kvregistry.Lost:
			fmt.Println(e.Member.ID, "lost:", e.Member.Reason)
			return
		}
	}
	// Unordered output:
	// a joined
	// b joined
	// c joined
	// c lost: crashed
}

func ExampleRegistry_Leave() {
	ctx := context.Background()
	server := start(ctx)
	defer server.Close()

	a, _ := member(ctx, server, kvregistry.Config{Node: "a"})
	defer a.Close()
	b, _ := member(ctx, server, kvregistry.Config{Node: "b"})
	if err := b.Leave(ctx); err != nil {
		log.Fatal(err)
	}
	err := a.Wait(ctx, func(v kvregistry.View) bool {
		m, ok := v.Member("b")
		return ok && m.State == kvregistry.Offline
	})
	if err != nil {
		log.Fatal(err)
	}
	m, _ := a.View().Member("b")
	fmt.Println(m.ID, m.State, m.Reason)
	// Output: b offline left
}

func ExampleRegistry_SetMetadata() {
	ctx := context.Background()
	server := start(ctx)
	defer server.Close()

	a, _ := member(ctx, server, kvregistry.Config{Node: "a", Metadata: map[string]string{"version": "1"}})
	defer a.Close()
	if err := a.SetMetadata(ctx, map[string]string{"version": "2"}); err != nil {
		log.Fatal(err)
	}
	m, _ := a.View().Member("a")
	fmt.Println(m.Metadata)
	// Output: map[version:2]
}

func ExampleRegistry_Observe() {
	ctx := context.Background()
	server := start(ctx)
	defer server.Close()

	a, _ := member(ctx, server, kvregistry.Config{Node: "a", Kinds: []string{"order.place"}})
	defer a.Close()
	observer, err := kvregistry.New(server.Conn(), kvregistry.Config{Cluster: "shop"})
	if err != nil {
		log.Fatal(err)
	}
	defer observer.Close()
	if err := observer.Observe(ctx); err != nil {
		log.Fatal(err)
	}
	for _, m := range observer.View().Handlers("order.place") {
		fmt.Println(m.ID)
	}
	// Output: a
}

func ExampleErrNodeTaken() {
	ctx := context.Background()
	server := start(ctx)
	defer server.Close()

	a, nc := member(ctx, server, kvregistry.Config{Node: "a"})
	defer a.Close()
	second, err := kvregistry.New(nc, kvregistry.Config{Cluster: "shop", Node: "a"})
	if err != nil {
		log.Fatal(err)
	}
	defer second.Close()
	fmt.Println(errors.Is(second.Join(ctx), kvregistry.ErrNodeTaken))
	// Output: true
}

func ExampleRegistry_Status() {
	ctx := context.Background()
	server := start(ctx)
	defer server.Close()

	a, _ := member(ctx, server, kvregistry.Config{Node: "a"})
	defer a.Close()
	if err := a.SetState(ctx, kvregistry.Draining); err != nil {
		log.Fatal(err)
	}
	st := a.Status()
	fmt.Println(st.Ready, st.State, st.Stale, st.Evicted)
	// Output: true draining false false
}
