package embedded

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/dial"
)

// Start starts a server and returns when its JetStream can be written. ctx
// bounds the wait, never the life; without a deadline Start takes the time that
// reading the directory takes. opts are for the connections of Conn and Dial;
// what they say of TLS and logins is ignored, since a connection inside the
// process needs neither.
//
// Errors: ErrConfig, ErrDirUnusable, ErrDirLocked, ErrDirMode, ErrAddrInUse,
// ErrNotReady together with the error of ctx, ErrFailed. After an error nothing
// is left behind. One case needs patience: where ctx ends while a large
// directory is being read, which cannot be interrupted, Start returns and the
// directory stays locked until that is done.
func Start(ctx context.Context, cfg Config, opts ...nats.Option) (*Server, error) {
	set, err := cfg.check()
	if err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, notReady(ctx, "nothing was started")
	}
	inst, err := startInstance(ctx, set)
	if err != nil {
		return nil, err
	}
	s := newServer(inst, "", opts)
	s.conn, err = s.connect(ctx, nil)
	if err != nil {
		return nil, errors.Join(err, inst.stop())
	}
	go s.run()
	return s, nil
}

// DialOrStart connects to the server at url, or starts one where url is empty:
// the whole difference between a developer's machine and production. With an
// url cfg has no meaning and is not looked at.
//
// The connection is that of a long-lived service: it reconnects for ever, 50 to
// 100 ms after each failure, and buffers nothing meanwhile. The first one is
// waited for as long as ctx allows, or 10 s where ctx has no deadline, so that
// a server which is started at the same time is reached. url may be several,
// separated by commas.
//
// Errors: with an url nats.ErrNoServers where nothing answered in time, with
// the error of ctx; nats.ErrAuthorization and its relatives at once, where the
// login was refused; others of nats.go and crypto/tls. Without an url those of
// Start.
func DialOrStart(ctx context.Context, url string, cfg Config, opts ...nats.Option) (*Server, error) {
	if strings.TrimSpace(url) == "" {
		return Start(ctx, cfg, opts...)
	}
	nc, err := dial.Connect(ctx, url, opts...)
	if err != nil {
		return nil, &fault{is: err, text: err.Error()}
	}
	s := newServer(nil, url, opts)
	s.conn = nc
	go s.run()
	return s, nil
}

// notReady says that ctx ended, and what was still missing.
func notReady(ctx context.Context, missing string) error {
	return &fault{
		is: ErrNotReady, errs: []error{ctx.Err(), context.Cause(ctx)},
		text: fmt.Sprintf("JetStream is not ready: %v: %s", context.Cause(ctx), missing),
	}
}
