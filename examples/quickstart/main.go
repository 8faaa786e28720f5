// Two nodes greet each other. One embeds NATS: go run ./examples/quickstart n1
// The other uses it: go run ./examples/quickstart n2 nats://127.0.0.1:4222
package main

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/catga/catga-go/cluster"
	"github.com/catga/catga-go/embedded"
)

type greeting struct{ Text string }

func (greeting) Kind() string { return "greeting" }

func run(ctx context.Context, id, url string) error {
	srv, err := embedded.DialOrStart(ctx, url, embedded.Config{Addr: cmp.Or(os.Getenv("LISTEN"), "127.0.0.1:4222")})
	if err != nil {
		return err
	}
	defer srv.Close()
	node, err := cluster.New(srv.Conn(), cluster.Config{Cluster: "quickstart", Node: id})
	if err != nil {
		return err
	}
	cluster.Handle(node, func(_ context.Context, m *cluster.Msg[greeting]) error {
		fmt.Println(m.From, "says", m.Body.Text)
		return nil
	})
	if err := node.Join(ctx); err != nil {
		return err
	}
	defer node.Close()
	for ev := range node.Watch(ctx) {
		fmt.Println(ev)
		if ev.Kind == cluster.Joined && ev.Member.ID != id {
			if err := node.Send(ctx, cluster.To(ev.Member.ID), greeting{"hello " + ev.Member.ID}); err != nil {
				log.Println(err)
			}
		}
	}
	return node.Err()
}

func main() {
	if len(os.Args) < 2 || len(os.Args) > 3 {
		log.Fatal("usage: quickstart NODE [NATS-URL]")
	}
	ctx, _ := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	if err := run(ctx, os.Args[1], append(os.Args, "")[2]); err != nil && ctx.Err() == nil {
		log.Fatal(err)
	}
}
