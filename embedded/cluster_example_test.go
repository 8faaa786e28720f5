package embedded_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/catga/catga-go/embedded"
)

// threeServers are three servers in one process, which three machines would be
// with the same Peers. The function ends them.
func threeServers(ctx context.Context) (servers [3]*embedded.Server, end func()) {
	root, err := os.MkdirTemp("", "example-")
	if err != nil {
		log.Fatal(err)
	}
	var peers []string
	for range servers { // free ports; on machines: the same one everywhere
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			log.Fatal(err)
		}
		_ = l.Close() // it was only a look
		peers = append(peers, l.Addr().String())
	}
	var wg sync.WaitGroup
	for i, addr := range peers {
		wg.Go(func() {
			name := fmt.Sprint("nats-", i+1)
			s, err := embedded.Start(ctx, embedded.Config{
				Dir: filepath.Join(root, name), Name: name,
				Cluster: embedded.Cluster{Name: "shop", Addr: addr, Peers: peers},
			})
			if err != nil {
				log.Fatal(err)
			}
			servers[i] = s
		})
	}
	wg.Wait()
	return servers, func() {
		for _, s := range servers {
			_ = s.Close()
		}
		_ = os.RemoveAll(root)
	}
}

// Three machines with the same list of peers keep everything three times.
func ExampleStart_cluster() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	servers, end := threeServers(ctx)
	defer end()

	js, err := jetstream.New(servers[0].Conn())
	if err != nil {
		log.Fatal(err)
	}
	st, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "ORDERS", Replicas: 3})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("copies:", 1+len(st.CachedInfo().Cluster.Replicas))
	// Output: copies: 3
}

func allOnline(peers []embedded.Peer) bool {
	return !slices.ContainsFunc(peers, func(p embedded.Peer) bool { return !p.Online })
}

// Who counts in the cluster, and who of them is there.
func ExampleServer_Peers() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	servers, end := threeServers(ctx)
	defer end()

	peers, err := servers[0].Peers()
	for ; err == nil && ctx.Err() == nil && !allOnline(peers); peers, err = servers[0].Peers() {
		<-time.After(50 * time.Millisecond) // they may still be connecting to each other
	}
	if err != nil {
		log.Fatal(err)
	}
	for _, p := range peers {
		fmt.Println(p.Name, p.Online)
	}
	// Output:
	// nats-1 true
	// nats-2 true
	// nats-3 true
}

// A machine is lost for ever. Until it is removed it counts in every vote.
func ExampleServer_Remove() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	servers, end := threeServers(ctx)
	defer end()

	_ = servers[2].Close()
	if err := servers[0].Remove(ctx, servers[2].Name()); err != nil {
		log.Fatal(err)
	}
	peers, err := servers[0].Peers()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(peers))
	// Output: 2
}

// Two of three machines are lost for ever: nobody is left to agree with.
func ExampleServer_Rescue() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	servers, end := threeServers(ctx)
	defer end()

	_ = servers[1].Close()
	_ = servers[2].Close()
	if err := servers[0].Rescue(ctx, "nats-2", "nats-3"); err != nil {
		log.Fatal(err)
	}
	peers, err := servers[0].Peers()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(peers))
	// Output: 1
}

// Streams that were made with one copy get three, while they are used.
func ExampleServer_Replicate() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	servers, end := threeServers(ctx)
	defer end()

	js, err := jetstream.New(servers[0].Conn())
	if err != nil {
		log.Fatal(err)
	}
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "ORDERS"}); err != nil {
		log.Fatal(err)
	}
	if err := servers[0].Replicate(ctx, 3); err != nil {
		log.Fatal(err)
	}
	st, err := js.Stream(ctx, "ORDERS")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("copies:", st.CachedInfo().Config.Replicas)
	// Output: copies: 3
}

// A backup moves streams from a server that stands alone into a cluster.
func ExampleServer_Backup() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	root, err := os.MkdirTemp("", "example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(root)
	alone, err := embedded.Start(ctx, embedded.Config{Dir: filepath.Join(root, "alone")})
	if err != nil {
		log.Fatal(err)
	}
	defer alone.Close()
	js, err := jetstream.New(alone.Conn())
	if err != nil {
		log.Fatal(err)
	}
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "ORDERS"}); err != nil {
		log.Fatal(err)
	}
	if err := alone.Backup(ctx, filepath.Join(root, "backup")); err != nil {
		log.Fatal(err)
	}
	saved, err := os.ReadDir(filepath.Join(root, "backup"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(saved[0].Name())
	// Output: ORDERS
}

// Restore makes the streams of a backup.
func ExampleServer_Restore() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	root, err := os.MkdirTemp("", "example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(root)
	backup := filepath.Join(root, "backup")
	for _, name := range []string{"old", "new"} {
		srv, err := embedded.Start(ctx, embedded.Config{Dir: filepath.Join(root, name)})
		if err != nil {
			log.Fatal(err)
		}
		defer srv.Close()
		js, err := jetstream.New(srv.Conn())
		if err != nil {
			log.Fatal(err)
		}
		if name == "old" {
			if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders"}}); err != nil {
				log.Fatal(err)
			}
			if _, err := js.Publish(ctx, "orders", nil); err != nil {
				log.Fatal(err)
			}
			if err := srv.Backup(ctx, backup); err != nil {
				log.Fatal(err)
			}
			continue
		}
		if err := srv.Restore(ctx, backup); err != nil {
			log.Fatal(err)
		}
		st, err := js.Stream(ctx, "ORDERS")
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(st.CachedInfo().State.Msgs, "message")
	}
	// Output: 1 message
}

// The monitor tells about the server over HTTP, and the name which one it is.
func ExampleServer_MonitorURL() {
	srv, err := embedded.Start(context.Background(), embedded.Config{Name: "nats-1", Monitor: "127.0.0.1:0"})
	if err != nil {
		log.Fatal(err)
	}
	defer srv.Close()
	fmt.Println(srv.Name(), srv.MonitorURL() != "")
	// Output: nats-1 true
}
