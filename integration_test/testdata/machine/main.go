// Command machine is one of three machines of an embedded cluster: a server and
// a node in one process. Its argument is its settings as JSON; it says on its
// standard output what it does, and leaves when its standard input ends.
package main

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/catga/catga-go/cluster"
	"github.com/catga/catga-go/embedded"
)

var version = "0" // set by the linker

type settings struct {
	Name, Dir, Addr, Route string
	Peers                  []string
}

type said struct{ Event, Text string }

type job struct{ ID string }

func (job) Kind() string { return "upgrade.job" }

type ask struct{}

type told struct{ Node, Version string }

func (ask) Kind() string { return "upgrade.ask" }
func (ask) Returns(told) {}

func main() {
	log.SetFlags(0)
	var s settings
	if err := json.Unmarshal([]byte(os.Args[1]), &s); err != nil {
		log.Fatal(err)
	}
	if err := run(s); err != nil {
		log.Fatal(s.Name, ": ", err)
	}
}

func run(s settings) error {
	var mu sync.Mutex
	out := json.NewEncoder(os.Stdout)
	say := func(event, text string) {
		mu.Lock()
		defer mu.Unlock()
		_ = out.Encode(said{event, text})
	}
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	srv, err := embedded.Start(ctx, embedded.Config{
		Name: s.Name, Dir: s.Dir, Addr: s.Addr,
		Cluster: embedded.Cluster{Name: "machines", Addr: s.Route, Peers: s.Peers},
	})
	if err != nil {
		return err
	}
	defer srv.Close()
	node, err := cluster.New(srv.Conn(), cluster.Config{
		Cluster: "upgrade", Node: s.Name, Metadata: map[string]string{"version": version},
	})
	if err != nil {
		return err
	}
	defer node.Close()
	cluster.Handle(node, func(_ context.Context, m *cluster.Msg[job]) error {
		say("done", m.Body.ID)
		return nil
	})
	cluster.HandleCall(node, func(context.Context, *cluster.Msg[ask]) (told, error) {
		return told{s.Name, version}, nil
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	web := &http.Server{Handler: node.Health()}
	go func() { _ = web.Serve(l) }()
	defer web.Close()
	say("serving", l.Addr().String())
	if err := node.Join(ctx); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	soft, end := context.WithTimeout(context.Background(), 20*time.Second)
	defer end()
	return node.Leave(soft)
}
