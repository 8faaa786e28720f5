package dial

import (
	"cmp"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
)

// DefaultWait is how long Connect waits for the first connection where ctx has
// no deadline. It covers a server that is started by the same script or
// compose file a moment later, and is short enough for a person at a terminal.
const DefaultWait = 10 * time.Second

const (
	// reconnectWait and reconnectJitter are between two attempts. With the
	// stock 2 s a live node whose connection was dropped looks dead for 2 s.
	reconnectWait   = 50 * time.Millisecond
	reconnectJitter = 50 * time.Millisecond

	// pingInterval and maxPings find a link that was lost without a word in
	// 20 to 30 s. The stock settings need 4 to 6 minutes.
	pingInterval = 10 * time.Second
	maxPings     = 2
)

// Connect connects to the server at url, or to the first of several urls,
// separated by commas, that answers. An empty url is nats.DefaultURL. It waits
// for a server that is not there yet until ctx ends, or DefaultWait where ctx
// has no deadline.
//
// The connection reconnects for ever, 50 ms plus up to 50 ms jitter after each
// failure, also where a server refuses the login for a while. It sends a ping
// every 10 s and drops the link when two are unanswered. Where there are several
// servers, one that stands still holds it up for 200 ms, and for twice as long
// each time that nobody else is there. It has no reconnect
// buffer: a publish while disconnected fails at once and is not sent later
// behind the caller's back. What NATS reports asynchronously is heard by a
// nats.ErrorHandler of opts and by nobody else; the stock one would print it to
// standard error. Its name is the program's. opts come after these
// settings and win, except RetryOnFailedConnect, whose job ctx does here.
// A CustomDialer of the caller is used as it is and ends its attempts itself.
//
// Errors: nats.ErrNoServers where nothing answered in time, together with the
// error of ctx; nats.ErrAuthorization and its relatives where the login was
// refused; the error of ctx where it was cancelled; other errors of nats.go
// and crypto/tls as they come.
func Connect(ctx context.Context, url string, opts ...nats.Option) (*nats.Conn, error) {
	t, err := parseTarget(url)
	if err != nil {
		return nil, err
	}
	o := nats.GetDefaultOptions()
	o.Servers = t.servers
	o.Name = filepath.Base(cmp.Or(os.Args[0], "catga"))
	o.MaxReconnect = -1
	o.ReconnectWait = reconnectWait
	o.ReconnectJitter = reconnectJitter
	o.ReconnectJitterTLS = reconnectJitter
	o.ReconnectBufSize = -1
	o.IgnoreAuthErrorAbort = true
	o.PingInterval = pingInterval
	o.MaxPingsOut = maxPings
	o.AsyncErrorCB = func(*nats.Conn, *nats.Subscription, error) {} // nil is the stock one, which prints
	for _, opt := range opts {
		if opt == nil {
			continue
		}
		if err := opt(&o); err != nil {
			return nil, &failure{text: "an option of the NATS connection: " + err.Error(), errs: []error{err}}
		}
	}
	o.RetryOnFailedConnect = false

	start := time.Now()
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, DefaultWait)
		defer cancel()
	}
	if ctx.Err() != nil {
		return nil, t.gaveUp(ctx, start, nil)
	}

	if o.InProcessServer != nil {
		t.shown = "this process"
	}
	g := newGate(ctx, &o)
	var last error // the reason of the last attempt that ctx did not cut short
	for {
		nc, err := g.attempt(&o)
		if err == nil {
			return nc, nil
		}
		if !ended(ctx) {
			if last = err; hopeless(err) || o.InProcessServer != nil {
				return nil, t.refused(err)
			}
		}
		retry := time.NewTimer(reconnectWait + rand.N(reconnectJitter))
		select {
		case <-ctx.Done():
			retry.Stop()
			return nil, t.gaveUp(ctx, start, last)
		case <-retry.C:
		}
	}
}

// ended tells whether ctx has ended. Sockets may hear of its deadline a moment
// before it says so itself.
func ended(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && !time.Now().Before(deadline)
}
