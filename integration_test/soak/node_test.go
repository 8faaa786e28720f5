package soak_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/cluster"
)

// nodeEnv makes the test binary a node process.
const nodeEnv = "CATGA_SOAK_NODE"

// nodeSpec says what a node process is.
type nodeSpec struct{ URL, Cluster, ID, Log string }

// said is one line of a node process.
type said struct {
	Event *sight `json:",omitempty"`
	View  *look  `json:",omitempty"`
	// Whole answers "dump".
	Whole *table `json:",omitempty"`
	// Self is the incarnation that it has from now on.
	Self uint64 `json:",omitempty"`
	// Starved is when it did not run, although nobody stopped it, perhaps.
	Starved *period `json:",omitempty"`
	// Offline is since when it has no connection, Online since when it has one again.
	Offline *time.Time `json:",omitempty"`
	Online  *time.Time `json:",omitempty"`
	// Left says that Leave has returned nil.
	Left  bool   `json:",omitempty"`
	Error string `json:",omitempty"`
}

// period is a time.
type period struct{ From, To time.Time }

// nodeMain is the main of a node process: it follows the cluster, changes its
// metadata now and then, and tells all that it sees, until its input ends or
// says "leave".
func nodeMain(spec string) int {
	var mu sync.Mutex
	out := json.NewEncoder(os.Stdout)
	say := func(line said) {
		mu.Lock()
		defer mu.Unlock()
		_ = out.Encode(line)
	}
	if err := runNode(spec, say); err != nil {
		say(said{Error: err.Error()})
		return 1
	}
	return 0
}

func runNode(spec string, say func(said)) error {
	var s nodeSpec
	if err := json.Unmarshal([]byte(spec), &s); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var log *slog.Logger
	if s.Log != "" {
		file, err := os.OpenFile(s.Log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		defer file.Close()
		log = slog.New(slog.NewTextHandler(file, &slog.HandlerOptions{Level: slog.LevelDebug})).With("pid", os.Getpid())
	}
	n, nc, err := joined(ctx, s, log)
	if err != nil {
		return err
	}
	defer nc.Close()
	defer n.Close()
	links(nc, say)
	say(said{Self: n.Self().Incarnation})

	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	follow(ctx, &wg, n, say)
	wg.Go(func() { chat(ctx, n) })
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		switch in.Text() {
		case "dump":
			say(said{Self: n.Self().Incarnation, Whole: tableOf(n.View())})
		case "leave":
			limited, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			if err := n.Leave(limited); err != nil {
				return err
			}
			say(said{Left: true})
			return nil
		}
	}
	return in.Err()
}

// joined is a node that has joined; NATS may be away for a while.
func joined(ctx context.Context, s nodeSpec, log *slog.Logger) (n *cluster.Node, nc *nats.Conn, err error) {
	for {
		attempt, cancel := context.WithTimeout(ctx, 20*time.Second)
		nc, err := cluster.Dial(attempt, s.URL)
		if err == nil {
			if n, err = cluster.New(nc, cluster.Config{Cluster: s.Cluster, Node: s.ID, Log: log}); err == nil {
				err = n.Join(attempt)
			}
			if err == nil {
				cancel()
				return n, nc, nil
			}
			nc.Close()
		}
		late := attempt.Err() != nil || errors.Is(err, context.DeadlineExceeded)
		cancel()
		if ctx.Err() != nil || !late {
			return nil, nil, err
		}
	}
}

// follow tells all that n sees, and when this process does not get to run.
func follow(ctx context.Context, wg *sync.WaitGroup, n *cluster.Node, say func(said)) {
	wg.Go(func() {
		for e := range n.Watch(ctx) {
			s := sightOf(e, time.Now())
			line := said{Event: &s}
			if e.Kind == cluster.Joined && e.Member.ID == n.ID() {
				line.Self = e.Member.Incarnation
			}
			say(line)
		}
	})
	wg.Go(func() {
		var last uint64
		for {
			var v cluster.View
			if n.Wait(ctx, func(now cluster.View) bool { v = now; return now.Revision != last }) != nil {
				return
			}
			last = v.Revision
			l := lookAt(v)
			say(said{View: &l})
		}
	})
	wg.Go(func() { watchdog(ctx, func(from, to time.Time) { say(said{Starved: &period{from, to}}) }) })
}

// watchdog tells when this process did not get to run for a while.
func watchdog(ctx context.Context, tell func(from, to time.Time)) {
	const every, late = 50 * time.Millisecond, 500 * time.Millisecond
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := time.Now()
		if now.Sub(last) > late {
			tell(last, now)
		}
		last = now
	}
}

// links tells when the node has no connection: what dropped it is in the script,
// how long it takes to have another one depends on the servers and the machine.
// (The channel of nc.StatusChanged tells RECONNECTING once more for each server
// that was tried in vain.)
func links(nc *nats.Conn, say func(said)) {
	nc.SetDisconnectErrHandler(func(*nats.Conn, error) {
		now := time.Now()
		say(said{Offline: &now})
	})
	nc.SetReconnectHandler(func(*nats.Conn) {
		now := time.Now()
		say(said{Online: &now})
	})
}

// chat changes the node's metadata every few seconds.
func chat(ctx context.Context, n *cluster.Node) {
	for i := 1; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second + rand.N(3*time.Second)):
		}
		limited, cancel := context.WithTimeout(ctx, 5*time.Second)
		// NATS may be away; the next one will do.
		_ = n.SetMetadata(limited, map[string]string{"n": strconv.Itoa(i)})
		cancel()
	}
}

// scan passes on each line of a process, until its end.
func scan(r io.Reader, take func(said)) {
	dec := json.NewDecoder(r)
	for {
		var line said
		if dec.Decode(&line) != nil {
			return
		}
		take(line)
	}
}
