// Package natstest gives tests real NATS parts: an in-process server that
// works under fake time, nats-server processes built from the module graph
// that can be killed and stopped, three of them as a JetStream cluster, and
// connections with the settings of a long-lived node. Nothing here is linked
// into production: only tests import it.
package natstest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats-server/v2/server/ats"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/catga/catga-go/internal/opening"
)

// Main is the body of a TestMain: it runs the tests, then what after holds, and
// fails if a goroutine is left.
func Main(m *testing.M, after ...func()) {
	// Without a registration the server's access-time clock stops between
	// servers, and a bubble would start it inside itself.
	ats.Register()
	code := m.Run()
	for _, f := range after {
		f()
	}
	ats.Unregister()
	if err := removeBuilt(); err != nil {
		fmt.Fprintln(os.Stderr, "natstest:", err)
		code = max(code, 1)
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "natstest: goroutines are left after the tests:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// Mem is an in-process server that keeps everything in memory and listens
// nowhere.
type Mem struct{ Server *server.Server }

// Memory starts a Mem, which ends with the test. It works inside a bubble.
func Memory(t testing.TB) *Mem {
	t.Helper()
	s, err := server.NewServer(&server.Options{
		ServerName:         "mem",
		DontListen:         true,
		JetStream:          true,
		StoreDir:           t.TempDir(),
		JetStreamMaxMemory: 1 << 30,
		JetStreamMaxStore:  1,
		NoLog:              true,
		NoSigs:             true,
	})
	if err != nil {
		t.Fatal("natstest:", err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("natstest: the in-process server does not get ready")
	}
	if err := s.GlobalAccount().UpdateJetStreamLimits(MemoryOnly()); err != nil {
		t.Fatal("natstest:", err)
	}
	return &Mem{Server: s}
}

// MemoryOnly are the account limits that allow no file storage: streams are
// then made in memory.
func MemoryOnly() map[string]server.JetStreamAccountLimits {
	return map[string]server.JetStreamAccountLimits{"": {
		MaxMemory: -1, MaxStore: 0, MaxStreams: -1, MaxConsumers: -1, MaxAckPending: -1,
		MemoryMaxStreamBytes: -1, StoreMaxStreamBytes: -1,
	}}
}

// Dial returns an in-process connection, which is closed with the test.
func (m *Mem) Dial(t testing.TB, opts ...nats.Option) *nats.Conn {
	t.Helper()
	return Dial(t, "", append(opts, nats.InProcessServer(m.Server))...)
}

// Dial connects with the settings of a long-lived node: it reconnects for
// ever, after 50 ms and jitter, and buffers nothing meanwhile. opts win. The
// connection is closed with the test.
func Dial(t testing.TB, url string, opts ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(url, append([]nats.Option{
		nats.MaxReconnects(-1),
		nats.ReconnectWait(50 * time.Millisecond),
		nats.ReconnectJitter(50*time.Millisecond, 50*time.Millisecond),
		nats.ReconnectBufSize(-1),
		nats.SetCustomDialer(&opening.Dialer{Timeout: nats.DefaultTimeout}),
		nats.IgnoreAuthErrorAbort(),
		nats.PermissionErrOnSubscribe(true),
		// Tests provoke asynchronous errors; the stock handler prints them.
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}),
	}, opts...)...)
	if err != nil {
		t.Fatalf("natstest: dial %q: %v", url, err)
	}
	closed := make(chan struct{})
	nc.SetClosedHandler(func(*nats.Conn) { close(closed) })
	t.Cleanup(func() {
		nc.Close()
		<-closed
	})
	return nc
}

// Bubble runs f under fake time (testing/synctest). Everything that f starts
// must end inside it; cleanups of its t run inside too.
func Bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	// nats.go keeps a pool of timers for the whole process: a timer of an
	// earlier bubble must not be taken out of it in a later one, and two
	// collections empty a pool.
	runtime.GC()
	runtime.GC()
	synctest.Test(t, f)
	runtime.GC()
	runtime.GC()
}

// Eventually waits until ok holds, 20 s at most. It is for conditions that
// announce themselves nowhere; prefer an event.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// moduleRoot is the folder of the go.mod above the running test.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if filepath.Dir(dir) == dir {
			return "", fmt.Errorf("no go.mod above the test's folder")
		}
	}
}
