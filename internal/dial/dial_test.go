package dial

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/natstest"
)

func TestMain(m *testing.M) { natstest.Main(m) }

// listen starts a server that speaks real TCP.
func listen(t *testing.T, o server.Options) *server.Server {
	t.Helper()
	o.Host, o.NoLog, o.NoSigs = "127.0.0.1", true, true
	if o.Port == 0 {
		o.Port = -1
	}
	s, err := server.NewServer(&o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return s
}

// nowhere is an address that nothing listens on.
func nowhere(t *testing.T) (port int, url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port = l.Addr().(*net.TCPAddr).Port
	return port, fmt.Sprintf("nats://127.0.0.1:%d", port)
}

// stranger accepts connections and treats each with f.
func stranger(t *testing.T, f func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f(c)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return "nats://" + l.Addr().String()
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func wantText(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error %q does not say %q", err, p)
		}
	}
}

func TestConnectSetsWhatALongLivedNodeNeeds(t *testing.T) {
	s := listen(t, server.Options{})
	nc, err := Connect(t.Context(), s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	o := nc.Opts
	if o.MaxReconnect != -1 || o.ReconnectWait != 50*time.Millisecond || o.ReconnectJitter != 50*time.Millisecond ||
		o.ReconnectBufSize != -1 || !o.IgnoreAuthErrorAbort || o.Name == "" || o.PingInterval != 10*time.Second {
		t.Errorf("options %+v", o)
	}
}

// What NATS reports asynchronously is not printed.
func TestNothingIsPrinted(t *testing.T) {
	s := listen(t, server.Options{Users: []*server.User{{
		Username: "u", Password: "p", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{"secret"}}},
	}}})
	printed, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer printed.Close()
	stderr := os.Stderr
	os.Stderr = printed
	defer func() { os.Stderr = stderr }()
	closed := make(chan struct{})
	nc, err := Connect(within(t, 10*time.Second), s.ClientURL(), nats.UserInfo("u", "p"), nats.ClosedHandler(func(*nats.Conn) { close(closed) }))
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Publish("secret", nil); err != nil {
		t.Error(err)
	}
	if err := nc.Flush(); err != nil {
		t.Error(err)
	}
	if err := nc.LastError(); !errors.Is(err, nats.ErrPermissionViolation) {
		t.Errorf("the last error is %v", err)
	}
	nc.Close()
	<-closed // what was reported before was handled before
	if text, err := os.ReadFile(printed.Name()); err != nil || len(text) > 0 {
		t.Errorf("printed %q, %v", text, err)
	}
}

func TestOptionsOfTheCallerWin(t *testing.T) {
	s := listen(t, server.Options{})
	nc, err := Connect(t.Context(), s.ClientURL(), nil, nats.Name("mine"), nats.ReconnectWait(time.Second), nats.RetryOnFailedConnect(true))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if nc.Opts.Name != "mine" || nc.Opts.ReconnectWait != time.Second {
		t.Errorf("options %+v", nc.Opts)
	}
}

func TestServerStartedLaterIsReached(t *testing.T) {
	port, url := nowhere(t)
	type result struct {
		nc  *nats.Conn
		err error
	}
	got := make(chan result, 1)
	refused := make(chan struct{}, 1)
	go func() {
		nc, err := Connect(t.Context(), url, func(o *nats.Options) error {
			o.CustomDialer = dialFunc(func(network, addr string) (net.Conn, error) {
				c, err := net.Dial(network, addr)
				if err != nil {
					select {
					case refused <- struct{}{}:
					default:
					}
				}
				return c, err
			})
			return nil
		})
		got <- result{nc, err}
	}()
	<-refused // the first attempt has failed
	listen(t, server.Options{Port: port})
	r := <-got
	if r.err != nil {
		t.Fatal(r.err)
	}
	r.nc.Close()
}

func TestReconnectsAfterTheWaitHasEnded(t *testing.T) {
	port, url := nowhere(t)
	s := listen(t, server.Options{Port: port})
	ctx, cancel := context.WithCancel(t.Context())
	back := make(chan struct{})
	nc, err := Connect(ctx, url, nats.ReconnectHandler(func(*nats.Conn) { close(back) }))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	cancel() // bounds the call, not the life
	s.Shutdown()
	s.WaitForShutdown()
	if err := nc.Publish("x", nil); err == nil {
		// Nothing may have noticed yet; a flush must fail then.
		err = nc.FlushTimeout(100 * time.Millisecond)
		if err == nil {
			t.Error("a publish while disconnected is buffered")
		}
	}
	listen(t, server.Options{Port: port})
	select {
	case <-back:
	case <-time.After(10 * time.Second):
		t.Fatal("no reconnect")
	}
}

func TestNoServer(t *testing.T) {
	_, url := nowhere(t)
	_, err := Connect(within(t, 1500*time.Millisecond), url)
	if !errors.Is(err, nats.ErrNoServers) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v is not what it should be", err)
	}
	wantText(t, err, "no NATS server at "+url, "after waiting 1.", "connection refused", "start one there")
}

func TestNoServerWithoutDeadline(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		start := time.Now()
		_, err := Connect(context.Background(), "nats://192.0.2.1:4222", func(o *nats.Options) error {
			o.CustomDialer = dialFunc(func(string, string) (net.Conn, error) { return nil, errors.New("unplugged") })
			return nil
		})
		wantText(t, err, "no NATS server at nats://192.0.2.1:4222 after waiting 10s: unplugged")
		if took := time.Since(start); took != DefaultWait {
			t.Errorf("waited %v", took)
		}
	})
}

func TestUnknownHost(t *testing.T) {
	_, err := Connect(within(t, time.Second), "nats://nosuchhost.invalid:4222")
	wantText(t, err, "no NATS server at nats://nosuchhost.invalid:4222")
	if !errors.Is(err, nats.ErrNoServers) {
		t.Error(err)
	}
}

func TestLoginRefusedAtOnce(t *testing.T) {
	s := listen(t, server.Options{Username: "u", Password: "right"})
	port := s.Addr().(*net.TCPAddr).Port
	start := time.Now()
	_, err := Connect(t.Context(), fmt.Sprintf("nats://u:wrong@127.0.0.1:%d", port))
	if took := time.Since(start); took > time.Second {
		t.Errorf("took %v", took)
	}
	if !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("%v is not ErrAuthorization", err)
	}
	wantText(t, err, "refuses the login", "nats://xxxxx@127.0.0.1")
	if strings.Contains(err.Error(), "wrong") {
		t.Errorf("a password is shown: %v", err)
	}
}

func TestCredentialsFileMissing(t *testing.T) {
	s := listen(t, server.Options{})
	_, err := Connect(t.Context(), s.ClientURL(), nats.UserCredentials("/nosuch/user.creds"))
	wantText(t, err, "an option of the NATS connection", "/nosuch/user.creds")
	_, err = Connect(t.Context(), s.ClientURL(), nats.RootCAs("/nosuch/ca.pem"))
	wantText(t, err, "/nosuch/ca.pem")
}

func TestTLSNotTrusted(t *testing.T) {
	web := httptest.NewTLSServer(nil) // its certificate serves here too
	defer web.Close()
	s := listen(t, server.Options{TLSConfig: &tls.Config{Certificates: web.TLS.Certificates, MinVersion: tls.VersionTLS12}, TLSTimeout: 2})
	_, err := Connect(t.Context(), s.ClientURL())
	wantText(t, err, "no TLS with NATS", "certificate")
}

func TestTLSWantedNotOffered(t *testing.T) {
	s := listen(t, server.Options{})
	_, err := Connect(t.Context(), strings.Replace(s.ClientURL(), "nats://", "tls://", 1))
	wantText(t, err, "no TLS with NATS")
	if !errors.Is(err, nats.ErrSecureConnWanted) {
		t.Error(err)
	}
}

func TestStrangers(t *testing.T) {
	for _, c := range []struct {
		name, want string
		f          func(net.Conn)
	}{
		{"closes", "closes them again", func(net.Conn) {}},
		{"another protocol", "not a NATS server", func(c net.Conn) {
			_, _ = io.WriteString(c, "220 mail.test ESMTP\r\n")
			_, _ = bufio.NewReader(c).ReadByte()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Connect(within(t, time.Second), stranger(t, c.f))
			wantText(t, err, c.want)
		})
	}
	t.Run("silent", func(t *testing.T) {
		url := stranger(t, func(c net.Conn) { _, _ = bufio.NewReader(c).ReadByte() })
		_, err := Connect(within(t, time.Second), url, nats.Timeout(100*time.Millisecond))
		wantText(t, err, "does not speak")
	})
}

func TestCancelled(t *testing.T) {
	for _, c := range []struct{ name, url string }{
		{"refused", "nats://127.0.0.1:1"},
		{"unreachable", "nats://192.0.2.1:4222"}, // TEST-NET: packets go nowhere
		{"silent", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			url := c.url
			if url == "" {
				url = stranger(t, func(c net.Conn) { _, _ = bufio.NewReader(c).ReadByte() })
			}
			ctx, cancel := context.WithCancel(t.Context())
			stop := time.AfterFunc(50*time.Millisecond, cancel)
			defer stop.Stop()
			start := time.Now()
			_, err := Connect(ctx, url)
			// Some ms after the 50 ms; the rest is for a busy machine.
			if took := time.Since(start); took > 500*time.Millisecond {
				t.Errorf("took %v", took)
			}
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%v is not Canceled", err)
			}
			wantText(t, err, "gave up waiting for NATS")
		})
	}
	t.Run("before", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := Connect(ctx, "nats://127.0.0.1:1"); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func TestInProcess(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		m := natstest.Memory(t)
		nc, err := Connect(t.Context(), "", nats.InProcessServer(m.Server))
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		if _, err := nc.RTT(); err != nil {
			t.Error(err)
		}
	})
}

func TestSecondServerOfTheList(t *testing.T) {
	_, gone := nowhere(t)
	s := listen(t, server.Options{})
	nc, err := Connect(t.Context(), gone+", "+s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
}

// A connection that is dropped while the next server of the list takes
// connections and says nothing is back soon; it tells for how long it waits.
func TestSilentServerDoesNotHoldUpAReconnect(t *testing.T) {
	s := listen(t, server.Options{})
	proxy := natstest.NewProxy(t, s.ClientURL())
	gate := make(chan struct{})
	silent := stranger(t, func(net.Conn) { <-gate })
	defer close(gate)
	reconnected := make(chan struct{}, 1)
	nc, err := Connect(within(t, 10*time.Second), proxy.URL()+","+silent, nats.DontRandomize(), nats.IgnoreDiscoveredServers(),
		nats.ReconnectHandler(func(*nats.Conn) { reconnected <- struct{}{} }))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	d, ok := nc.Opts.CustomDialer.(interface{ AttemptLimit() time.Duration })
	if !ok || d.AttemptLimit() >= nc.Opts.Timeout/2 {
		t.Fatalf("the dialer is %T", nc.Opts.CustomDialer)
	}
	begin := time.Now()
	proxy.Drop()
	<-reconnected
	if took := time.Since(begin); took < d.AttemptLimit() || took >= nc.Opts.Timeout {
		t.Errorf("connected again after %v", took)
	}
}

func TestParseTarget(t *testing.T) {
	for _, c := range []struct{ in, shown string }{
		{"", nats.DefaultURL},
		{" ", nats.DefaultURL},
		{"localhost", "nats://localhost"},
		{"a:1,,b:2", "nats://a:1, nats://b:2"},
		{"tls://a:1", "tls://a:1"},
		{"nats://token@a:1", "nats://xxxxx@a:1"},
		{"nats://u:secret@[::1]:4222", "nats://xxxxx@[::1]:4222"},
	} {
		got, err := parseTarget(c.in)
		if err != nil || got.shown != c.shown {
			t.Errorf("%q: %q, %v", c.in, got.shown, err)
		}
	}
}

func TestParseTargetReportsAllProblems(t *testing.T) {
	_, err := parseTarget("http://a:1,nats://:4222,nats://b:99999,nats://c:1")
	wantText(t, err, `scheme "http"`, "no host", `port "99999"`, "use nats://host:port")
	_, err = parseTarget(",,")
	wantText(t, err, "no url")
	_, err = parseTarget("nats://u:se%cret@a:4222")
	wantText(t, err, "cannot be read", "percent-encode")
	_, err = parseTarget("nats://a:x")
	wantText(t, err, "cannot be read", "nats://a:x", "invalid port")
	_, err = parseTarget("nats://u:se%cret@a:4222")
	if strings.Contains(err.Error(), "cret") {
		t.Errorf("a password is shown: %v", err)
	}
}

func TestPublic(t *testing.T) {
	for in, want := range map[string]string{
		"":                              nats.DefaultURL,
		"nats://u:p@a, tls://token@b:1": "nats://a:4222,tls://b:1",
		"http://a":                      "",
	} {
		if got := Public(in); got != want {
			t.Errorf("Public(%q) = %q, want %q", in, got, want)
		}
	}
}

// A login never shows in what people read, however badly it is written.
func FuzzParseTarget(f *testing.F) {
	f.Add("nats://", "secret", "a:4222")
	f.Add("", "se%cret", "a")
	f.Add("tls://", "1/cdefgh", "a")
	f.Add("nats://", "p@a/bcd?efgh#ij", "a:1")
	f.Fuzz(func(t *testing.T, scheme, secret, host string) {
		const mark = "hunter2"
		if strings.ContainsAny(secret, ",") || strings.Contains(scheme+host, mark) || strings.ContainsAny(scheme+host, ",@") {
			return
		}
		in := scheme + "u:" + secret + mark + "@" + host
		got, err := parseTarget(in)
		if err == nil && len(got.servers) == 0 {
			t.Error("no servers and no error")
		}
		if err != nil && strings.Contains(err.Error(), mark) || strings.Contains(got.shown, mark) || strings.Contains(Public(in), mark) {
			t.Errorf("%q: shown %q, public %q, error %v", in, got.shown, Public(in), err)
		}
	})
}
