package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/catga/catga-go/embedded"
)

// A server in memory: for tests, and for programs that are one process.
func ExampleStart() {
	ctx := context.Background()
	srv, err := embedded.Start(ctx, embedded.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer srv.Close()

	js, err := jetstream.New(srv.Conn())
	if err != nil {
		log.Fatal(err)
	}
	kv, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "prices", Storage: jetstream.MemoryStorage})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := kv.PutString(ctx, "tea", "4.20"); err != nil {
		log.Fatal(err)
	}
	price, err := kv.Get(ctx, "tea")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(price.Value()))
	// Output: 4.20
}

// A server on disk keeps its streams, and its directory to itself.
func ExampleStart_dir() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	srv, err := embedded.Start(ctx, embedded.Config{Dir: dir})
	if err != nil {
		log.Fatal(err)
	}
	defer srv.Close()

	_, err = embedded.Start(ctx, embedded.Config{Dir: dir})
	fmt.Println(errors.Is(err, embedded.ErrDirLocked))
	// Output: true
}

// The one-liner of a service's main: NATS_URL in production, nothing at home.
func ExampleDialOrStart() {
	srv, err := embedded.DialOrStart(context.Background(), os.Getenv("EXAMPLE_NATS_URL"), embedded.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer srv.Close()
	fmt.Println("embedded:", srv.Embedded())
	// Output: embedded: true
}

// No server at the url: the error says where it looked, and for how long.
func ExampleDialOrStart_noServer() {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_, err := embedded.DialOrStart(ctx, "nats://127.0.0.1:1", embedded.Config{})
	fmt.Println(errors.Is(err, nats.ErrNoServers))
	// Output: true
}

// Several nodes in one process take a connection each.
func ExampleServer_Dial() {
	ctx := context.Background()
	srv, err := embedded.Start(ctx, embedded.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer srv.Close()
	for _, name := range []string{"a", "b"} {
		nc, err := srv.Dial(ctx, nats.Name(name))
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(nc.Opts.Name, nc.Status())
	}
	// Output:
	// a CONNECTED
	// b CONNECTED
}

// Another process connects to the listener.
func ExampleServer_ClientURL() {
	ctx := context.Background()
	srv, err := embedded.Start(ctx, embedded.Config{Addr: "127.0.0.1:0"})
	if err != nil {
		log.Fatal(err)
	}
	defer srv.Close()
	other, err := embedded.DialOrStart(ctx, srv.ClientURL(), embedded.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer other.Close()
	fmt.Println(other.Embedded(), other.ClientURL() == srv.ClientURL())
	// Output: false true
}

// A service waits for its signal and for the server, whichever ends first.
func ExampleServer_Done() {
	srv, err := embedded.Start(context.Background(), embedded.Config{})
	if err != nil {
		log.Fatal(err)
	}
	go srv.Close()
	<-srv.Done()
	fmt.Println(srv.Err())
	// Output: <nil>
}
