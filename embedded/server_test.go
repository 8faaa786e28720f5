package embedded

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/catga/catga-go/internal/natstest"
)

func TestMemoryNeedsNothing(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	s := start(t, Config{})
	if !s.Embedded() || s.ClientURL() != "" || s.Err() != nil {
		t.Errorf("embedded %v, url %q, err %v", s.Embedded(), s.ClientURL(), s.Err())
	}
	js, _ := stream(t, s.Conn(), jetstream.MemoryStorage)
	if _, err := js.Publish(t.Context(), "s.x", []byte("1")); err != nil {
		t.Fatal(err)
	}
	if n := messages(t, s.Conn()); n != 1 {
		t.Errorf("%d messages", n)
	}
	// Even a process that is killed now leaves nothing behind.
	if left, err := os.ReadDir(tmp); err != nil || len(left) != 0 {
		t.Errorf("left in the temporary folder: %v, %v", left, err)
	}
}

func TestMemoryRefusesStreamsOnDisk(t *testing.T) {
	s := start(t, Config{})
	js, err := jetstream.New(s.Conn())
	if err != nil {
		t.Fatal(err)
	}
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Storage: jetstream.FileStorage})
	if e, ok := errors.AsType[*jetstream.APIError](err); !ok || e.ErrorCode != 10047 {
		t.Errorf("err %v", err)
	}
	info, err := js.AccountInfo(t.Context())
	if err != nil || info.Limits.MaxStore != 0 {
		t.Errorf("limits %+v, %v", info, err)
	}
}

func TestServersInMemoryShareNothing(t *testing.T) {
	a, b := start(t, Config{}), start(t, Config{})
	stream(t, a.Conn(), jetstream.MemoryStorage)
	js, err := jetstream.New(b.Conn())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Stream(t.Context(), "S"); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Error(err)
	}
}

func TestInBubble(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		start := time.Now()
		s, err := Start(t.Context(), Config{})
		if err != nil {
			t.Fatal(err)
		}
		nc, err := s.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		st, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
			Name: "S", Subjects: []string{"s.>"}, Storage: jetstream.MemoryStorage, MaxAge: time.Hour,
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := js.Publish(t.Context(), "s.x", nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour + time.Second) // fake time: an hour of the server
		if i, err := st.Info(t.Context()); err != nil || i.State.Msgs != 0 {
			t.Errorf("%+v, %v", i, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took > time.Hour+2*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestListener(t *testing.T) {
	s := start(t, Config{Addr: "127.0.0.1:0"})
	nc := natstest.Dial(t, s.ClientURL())
	if _, err := nc.RTT(); err != nil {
		t.Error(err)
	}
	if !strings.HasPrefix(s.ClientURL(), "nats://127.0.0.1:") {
		t.Errorf("url %q", s.ClientURL())
	}
}

func TestListenerOnAllInterfacesTellsALocalURL(t *testing.T) {
	for _, addr := range []string{":0", "0.0.0.0:0"} {
		s := start(t, Config{Addr: addr})
		if !strings.HasPrefix(s.ClientURL(), "nats://127.0.0.1:") {
			t.Errorf("Addr %q: url %q", addr, s.ClientURL())
		}
		natstest.Dial(t, s.ClientURL())
	}
}

func TestPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	addr := l.Addr().String()
	dir := t.TempDir()
	_, err = Start(t.Context(), Config{Dir: dir, Addr: addr})
	if !errors.Is(err, ErrAddrInUse) || !strings.Contains(err.Error(), addr) {
		t.Errorf("err %v", err)
	}
	start(t, Config{Dir: dir}) // nothing was left behind
}

func TestAddressOfAnotherMachine(t *testing.T) {
	_, err := Start(t.Context(), Config{Addr: "192.0.2.1:4222"})
	if !errors.Is(err, ErrFailed) || !strings.Contains(err.Error(), "cannot listen on 192.0.2.1:4222") {
		t.Errorf("err %v", err)
	}
}

func TestTokenAndTLS(t *testing.T) {
	web := httptest.NewTLSServer(nil) // its certificate serves here too
	defer web.Close()
	roots := x509.NewCertPool()
	roots.AddCert(web.Certificate())
	s := start(t, Config{
		Addr: "127.0.0.1:0", Token: "secret",
		TLS: &tls.Config{Certificates: web.TLS.Certificates, MinVersion: tls.VersionTLS12},
	})
	if !strings.HasPrefix(s.ClientURL(), "tls://") {
		t.Errorf("url %q", s.ClientURL())
	}
	if _, err := s.Conn().RTT(); err != nil { // needs neither
		t.Error(err)
	}
	trust := nats.Secure(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})
	natstest.Dial(t, s.ClientURL(), trust, nats.Token("secret"))

	_, err := DialOrStart(t.Context(), s.ClientURL(), Config{}, trust, nats.Token("wrong"))
	if !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("err %v", err)
	}
	_, err = DialOrStart(t.Context(), s.ClientURL(), Config{}, nats.Token("secret"))
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); !ok {
		t.Errorf("err %v", err)
	}
}

func TestLoginsOfProductionDoNotHinderEmbedding(t *testing.T) {
	s, err := DialOrStart(t.Context(), "", Config{}, nats.UserInfo("u", "p"),
		nats.Secure(&tls.Config{MinVersion: tls.VersionTLS12}), nats.Name("orders"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.Conn().Opts.Name != "orders" {
		t.Errorf("name %q", s.Conn().Opts.Name)
	}
}

func TestDialMakesConnectionsThatEndWithClose(t *testing.T) {
	s := start(t, Config{})
	a, err := s.Dial(t.Context(), nats.Name("a"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	if a.Opts.Name != "a" || a == s.Conn() {
		t.Errorf("name %q", a.Opts.Name)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	for i, nc := range []*nats.Conn{s.Conn(), a, b} {
		if !nc.IsClosed() {
			t.Errorf("connection %d is open", i)
		}
	}
	if _, err := s.Dial(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("err %v", err)
	}
}

func TestWhatWasPublishedBeforeCloseArrives(t *testing.T) {
	s := start(t, Config{Dir: t.TempDir(), Addr: "127.0.0.1:0"})
	other := natstest.Dial(t, s.ClientURL())
	sub, err := other.SubscribeSync("x")
	if err != nil {
		t.Fatal(err)
	}
	if err := other.FlushWithContext(within(t, 5*time.Second)); err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		if err := s.Conn().Publish("x", []byte("y")); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	ctx := within(t, 5*time.Second)
	for i := range 1000 {
		if _, err := sub.NextMsgWithContext(ctx); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
	}
}

func TestCloseTellsClients(t *testing.T) {
	s := start(t, Config{Addr: "127.0.0.1:0"})
	told, gone := make(chan struct{}, 1), make(chan struct{}, 1)
	natstest.Dial(t, s.ClientURL(),
		nats.LameDuckModeHandler(func(*nats.Conn) { told <- struct{}{} }),
		nats.DisconnectErrHandler(func(*nats.Conn, error) { gone <- struct{}{} }))
	begin := time.Now()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
	<-told
	<-gone
}

func TestCloseTwiceAndConcurrently(t *testing.T) {
	for _, cfg := range []Config{{}, {Addr: "127.0.0.1:0"}, {Dir: t.TempDir()}} {
		s, err := Start(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				select {
				case <-s.Done():
				default:
					t.Error("Close returned before the end")
				}
			})
			wg.Go(func() {
				nc, err := s.Dial(t.Context())
				if err != nil && !errors.Is(err, ErrClosed) {
					t.Error(err)
				}
				if err == nil {
					nc.Close()
				}
			})
		}
		wg.Wait()
		if s.Err() != nil {
			t.Error(s.Err())
		}
	}
}

func TestCtxOfStartBoundsTheCallNotTheLife(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s, err := Start(ctx, Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	cancel()
	if _, err := s.Conn().RTT(); err != nil {
		t.Error(err)
	}
}

func TestStartCancelledLeavesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	for i := range 30 {
		// From at once to after the end of a start.
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*300*time.Microsecond)
		s, err := Start(ctx, Config{Dir: dir, Addr: "127.0.0.1:0"})
		cancel()
		if err == nil {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			continue
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("err %v", err)
		}
	}
	start(t, Config{Dir: dir})
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("no more"))
	_, err := Start(ctx, Config{})
	if !errors.Is(err, ErrNotReady) || !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "no more") {
		t.Errorf("err %v", err)
	}
}

func TestStartCancelledWhileADirectoryIsRead(t *testing.T) {
	dir := t.TempDir()
	s := start(t, Config{Dir: dir, SyncEvery: time.Minute})
	js, err := jetstream.New(s.Conn())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		name := fmt.Sprint("S", i)
		if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{name}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	s = start(t, Config{Dir: dir})
	reading := time.Since(begin)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	begin = time.Now()
	_, err = Start(within(t, reading/20), Config{Dir: dir})
	t.Logf("reading takes %v, the cancelled start took %v", reading, time.Since(begin))
	if !errors.Is(err, ErrNotReady) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("err %v", err)
	}
	natstest.Eventually(t, "the directory is unlocked", func() bool {
		s, err := Start(t.Context(), Config{Dir: dir})
		if errors.Is(err, ErrDirLocked) { // a slow machine is still reading
			return false
		}
		if err != nil {
			t.Fatal(err)
		}
		return s.Close() == nil
	})
}

func TestFatalErrorEndsTheServer(t *testing.T) {
	s := start(t, Config{Dir: t.TempDir()})
	s.inst.log.Fatalf("cannot go on: %v", os.ErrInvalid)
	<-s.Done()
	if err := s.Err(); !errors.Is(err, ErrFailed) || !errors.Is(err, os.ErrInvalid) || err.Error() != "embedded: cannot go on: invalid argument" {
		t.Errorf("err %v", err)
	}
	if !s.Conn().IsClosed() {
		t.Error("the connection is open")
	}
}

// records is a slog.Handler that keeps texts.
type records struct {
	slog.Handler
	mu    *sync.Mutex
	texts *[]string
}

func (r records) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }
func (r records) WithAttrs([]slog.Attr) slog.Handler           { return r }
func (r records) Handle(_ context.Context, rec slog.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	*r.texts = append(*r.texts, fmt.Sprint(rec.Level, " ", rec.Message))
	return nil
}

func TestLog(t *testing.T) {
	r := records{mu: new(sync.Mutex), texts: new([]string)}
	s := start(t, Config{Addr: ":0", Log: slog.New(r)})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	all := strings.Join(*r.texts, "\n")
	for _, want := range []string{"INFO nats-server: Server is ready", "WARN other machines may reach this server"} {
		if !strings.Contains(all, want) {
			t.Errorf("the log lacks %q:\n%s", want, all)
		}
	}
	if strings.Contains(all, "DEBUG") || strings.Contains(all, "ERROR") {
		t.Errorf("log:\n%s", all)
	}
}

func TestDialOrStart(t *testing.T) {
	there := start(t, Config{Addr: "127.0.0.1:0"})
	url := strings.Replace(there.ClientURL(), "nats://", "nats://u:p@", 1)
	// With an url the Config is not looked at.
	s, err := DialOrStart(t.Context(), url, Config{Addr: "nonsense"}, nats.Name("me"))
	if err != nil {
		t.Fatal(err)
	}
	if s.Embedded() || s.ClientURL() != there.ClientURL() {
		t.Errorf("embedded %v, url %q", s.Embedded(), s.ClientURL())
	}
	nc, err := s.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if nc.Opts.Name != "me" || nc.Opts.MaxReconnect != -1 {
		t.Errorf("options %+v", nc.Opts)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if !nc.IsClosed() || !s.Conn().IsClosed() || s.Err() != nil {
		t.Error("not closed")
	}
	if _, err := there.Conn().RTT(); err != nil {
		t.Errorf("the server itself was touched: %v", err)
	}
}

func TestDialOrStartNoServer(t *testing.T) {
	_, err := DialOrStart(within(t, 200*time.Millisecond), "nats://127.0.0.1:1", Config{})
	if !errors.Is(err, nats.ErrNoServers) || !strings.Contains(err.Error(), "embedded: no NATS server at nats://127.0.0.1:1 after waiting 2") {
		t.Errorf("err %v", err)
	}
}

func TestDialOrStartServerComesLater(t *testing.T) {
	first := start(t, Config{Addr: "127.0.0.1:0"})
	url := first.ClientURL()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	got := make(chan error, 1)
	go func() {
		s, err := DialOrStart(t.Context(), url, Config{})
		if err == nil {
			err = s.Close()
		}
		got <- err
	}()
	start(t, Config{Addr: strings.TrimPrefix(url, "nats://")})
	if err := <-got; err != nil {
		t.Error(err)
	}
}

func TestConnectionClosedForGood(t *testing.T) {
	there := start(t, Config{Addr: "127.0.0.1:0"})
	s, err := DialOrStart(t.Context(), there.ClientURL(), Config{})
	if err != nil {
		t.Fatal(err)
	}
	s.Conn().Close()
	<-s.Done()
	if err := s.Err(); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("err %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestConfigReportsAllProblems(t *testing.T) {
	_, err := Start(t.Context(), Config{
		Addr: "127.0.0.1", SyncEvery: -1, MaxMemory: -1, MaxStore: -1, MaxPayload: 1 << 30, TLS: &tls.Config{}, Token: "a b", //nolint:gosec // not used
	})
	if !errors.Is(err, ErrConfig) {
		t.Fatal(err)
	}
	for _, want := range []string{"Addr", "SyncEvery", "MaxMemory", "MaxStore", "MaxPayload", "TLS has no certificate", "Token has a blank"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
	for _, c := range []Config{{Addr: "a:b"}, {Addr: "a:70000"}, {Addr: "a:-1"}, {Token: "x"}, {TLS: &tls.Config{}}} { //nolint:gosec // not used
		if _, err := Start(t.Context(), c); !errors.Is(err, ErrConfig) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestLimits(t *testing.T) {
	s := start(t, Config{Dir: t.TempDir(), MaxStore: 1 << 20, MaxMemory: 2 << 20, MaxPayload: 1000})
	js, _ := stream(t, s.Conn(), jetstream.FileStorage)
	if _, err := js.Publish(t.Context(), "s.x", make([]byte, 1001)); !errors.Is(err, nats.ErrMaxPayload) {
		t.Errorf("err %v", err)
	}
	var full error
	sent := 0
	for ; sent < 2000 && full == nil; sent++ {
		_, full = js.Publish(t.Context(), "s.x", make([]byte, 1000))
	}
	if full == nil || !strings.Contains(full.Error(), "insufficient resources") {
		t.Fatalf("after %d messages: %v", sent, full)
	}
	t.Logf("full after %d KB: %v", sent, full)
	// Nothing is lost, and there is room after a purge.
	if n := messages(t, s.Conn()); n != uint64(sent-1) {
		t.Errorf("%d messages of %d", n, sent-1)
	}
	st, err := js.Stream(t.Context(), "S")
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "s.x", nil); err != nil {
		t.Error(err)
	}
}
