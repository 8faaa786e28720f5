package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/catga/catga-go/benchmarks/internal/bench"
	"github.com/catga/catga-go/embedded"
)

const (
	// later is SyncEvery of the cases that do not sync each write: what
	// nats-server by itself does.
	later = 2 * time.Minute
	// writeSize is the size of a write, in bytes.
	writeSize = 256
	// writeRound is how long a round of writes takes.
	writeRound = time.Second
	// crowd is how many writers there are where there are many.
	crowd = 64
)

// writes measures what an acknowledged write costs a single writer, who waits for
// each, at a server alone or at three that replicate.
func writes(servers int, syncEvery time.Duration) func(context.Context, int) (bench.Result, error) {
	return func(ctx context.Context, rounds int) (_ bench.Result, err error) {
		url, end, err := writable(servers, syncEvery)
		if err != nil {
			return bench.Result{}, err
		}
		defer func() { err = errors.Join(err, end()) }()
		nc, err := nats.Connect(url)
		if err != nil {
			return bench.Result{}, err
		}
		defer nc.Close()
		js, err := jetstream.New(nc)
		if err != nil {
			return bench.Result{}, err
		}
		if _, err := js.CreateStream(ctx, jetstream.StreamConfig{
			Name: "WRITES", Subjects: []string{"write"}, Replicas: servers, MaxBytes: 64 << 20,
		}); err != nil {
			return bench.Result{}, err
		}
		if _, err := write(ctx, js, 1); err != nil { // what comes first is not measured
			return bench.Result{}, err
		}
		var one, many []float64
		for range rounds {
			n, err := write(ctx, js, 1)
			if err != nil {
				return bench.Result{}, err
			}
			one = append(one, writeRound.Seconds()*1e6/float64(n))
			n, err = write(ctx, js, crowd)
			if err != nil {
				return bench.Result{}, err
			}
			many = append(many, float64(n)/writeRound.Seconds())
		}
		sync := "synced before it is acknowledged"
		if syncEvery > 0 {
			sync = fmt.Sprintf("synced every %v", syncEvery)
		}
		return bench.Result{Unit: "us", Servers: servers, Note: fmt.Sprintf(
			"a write of %d bytes by one writer, %s; %d writers store %.0f/s", writeSize, sync, crowd, bench.Result{}.Of(many).Ours)}.Of(one), nil
	}
}

// writable starts a server alone, or three, in processes of their own.
func writable(servers int, syncEvery time.Duration) (url string, end func() error, err error) {
	if servers == 1 {
		dir, err := os.MkdirTemp("", "catga-bench-")
		if err != nil {
			return "", nil, err
		}
		ports, err := bench.FreePorts(1)
		if err != nil {
			return "", nil, errors.Join(err, os.RemoveAll(dir))
		}
		addr := fmt.Sprintf("127.0.0.1:%d", ports[0])
		m := &machine{cfg: serverConfig{Config: embedded.Config{Dir: filepath.Join(dir, "d"), Addr: addr, SyncEvery: syncEvery}}}
		end := func() error { m.kill(); return os.RemoveAll(dir) }
		if err := m.again(); err != nil {
			return "", nil, errors.Join(err, end())
		}
		return "nats://" + addr, end, nil
	}
	t, err := newTrio(syncEvery)
	if err != nil {
		return "", nil, err
	}
	end = func() error { t.close(); return nil }
	if _, err := t.start(); err != nil {
		return "", nil, errors.Join(err, end())
	}
	return t.url(), end, nil
}

// write lets writers write for a round, each one message after the other, and
// returns how many were stored.
func write(ctx context.Context, js jetstream.JetStream, writers int) (stored int, err error) {
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		body = make([]byte, writeSize)
		over = time.Now().Add(writeRound)
	)
	for range writers {
		wg.Go(func() {
			n := 0
			var failed error
			for failed == nil && time.Now().Before(over) {
				if _, failed = js.Publish(ctx, "write", body); failed == nil {
					n++
				}
			}
			mu.Lock()
			defer mu.Unlock()
			stored, err = stored+n, errors.Join(err, failed)
		})
	}
	wg.Wait()
	return stored, err
}
