package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

const (
	// lameDuck is how long clients of the listener get to go elsewhere at
	// Close, and lameDuckGrace how long before the first is disconnected.
	lameDuck      = 200 * time.Millisecond
	lameDuckGrace = 20 * time.Millisecond

	// pingInterval and maxPings find a client that vanished without a word in
	// 20 to 30 s. The stock settings need 4 to 6 minutes.
	pingInterval = 10 * time.Second
	maxPings     = 2

	// stopGrace is how long a failed Start waits for a server that is still
	// reading its directory.
	stopGrace = 2 * time.Second
)

// instance is a running nats-server and what belongs to it.
type instance struct {
	srv   *server.Server
	log   *serverLog
	dir   *dir   // nil in memory
	url   string // of the listener; empty = none
	token string
	logins
}

// startInstance starts a server and waits until it can be written.
func startInstance(ctx context.Context, set settings) (_ *instance, err error) {
	i := &instance{token: set.Token}
	name, store := cmp.Or(set.Name, serverName()), ""
	if set.Dir != "" {
		if i.dir, err = openDir(set.Dir, set.mark()); err != nil {
			return nil, err
		}
		name, store = i.dir.mark.Server, i.dir.path
	} else {
		// The server wants a folder even for streams in memory. Its default is
		// one that all servers of the machine share.
		if store, err = os.MkdirTemp("", "catga-memory-"); err != nil {
			return nil, unusable(os.TempDir(), err)
		}
		defer func() { _ = os.RemoveAll(store) }()
	}
	i.log = newServerLog(set.Log, name)
	if i.dir != nil {
		for _, s := range i.dir.removeHalfMade() {
			i.log.warn("removed a stream whose creation was cut short by a crash", slog.String("folder", s))
		}
	}
	o := set.options(name, store)
	i.logins = set.userOptions(o)
	if set.Cluster.on() {
		routes, err := set.routes(ctx)
		if err != nil {
			return nil, errors.Join(err, i.release())
		}
		set.clusterOptions(o, routes)
	}
	i.srv, err = server.NewServer(o)
	if err != nil {
		err = &fault{is: ErrFailed, text: err.Error(), errs: []error{err}}
		return nil, errors.Join(err, i.release())
	}
	i.srv.SetLoggerV2(i.log, i.log.debugging(), false, false)
	if set.exposed() && !set.protected() {
		i.log.warn("other machines may reach this server and read and write everything: set TLS and Token, or listen on 127.0.0.1",
			slog.String("addr", set.Addr))
	}

	// Start returns when streams are recovered and the listener is open.
	started := make(chan struct{})
	go func() {
		defer close(started)
		i.srv.Start()
	}()
	select {
	case <-started:
		err = i.ready(ctx, set)
	case <-ctx.Done():
		err = notReady(ctx, "streams are being recovered")
	}
	if err != nil {
		return nil, errors.Join(err, i.abandon(started))
	}
	return i, nil
}

// abandon stops a server that may still be starting. A server that reads a
// large directory cannot be interrupted, so it is left to end by itself.
func (i *instance) abandon(started <-chan struct{}) error {
	stopped := make(chan error, 1)
	go func() {
		<-started // Shutdown during Start leaves goroutines behind
		stopped <- i.stop()
	}()
	grace := time.NewTimer(stopGrace)
	defer grace.Stop()
	select {
	case err := <-stopped:
		return err
	case <-grace.C:
		return nil
	}
}

// options translates settings for nats-server. What is not said here is the
// server's default.
func (s settings) options(name, store string) *server.Options {
	o := &server.Options{
		ServerName:             name,
		NoSigs:                 true, // or it would end the process on Ctrl-C
		DontListen:             !s.listen,
		JetStream:              true,
		DisableJetStreamBanner: true,
		StoreDir:               store,
		JetStreamMaxMemory:     s.MaxMemory,
		MaxPayload:             int32(s.MaxPayload), //nolint:gosec // checked: 64 MiB at most
		PingInterval:           pingInterval,
		MaxPingsOut:            maxPings,
		LameDuckDuration:       lameDuck,
		LameDuckGracePeriod:    lameDuckGrace,
		TLSConfig:              s.TLS,
		TLSTimeout:             2, // seconds; 0 would be none at all
		Authorization:          s.Token,
	}
	if s.Monitor != "" {
		o.HTTPHost, o.HTTPPort = s.monitorHost, s.monitorPort
		if s.monitorPort == 0 {
			o.HTTPPort = server.RANDOM_PORT
		}
	}
	switch {
	case s.Dir == "":
		o.JetStreamMaxStore = 1 // 0 would be the free space of the disk
	case s.MaxStore > 0:
		o.JetStreamMaxStore = s.MaxStore
	default:
		o.JetStreamMaxStore = -1 // the server finds out
	}
	if s.SyncEvery > 0 {
		o.SyncInterval = s.SyncEvery
	} else {
		o.SyncAlways = true
	}
	if s.listen {
		o.Host, o.Port = s.host, s.port
		if s.port == 0 {
			o.Port = server.RANDOM_PORT
		}
	}
	return o
}

// mark is what the marker of the directory must say.
func (s settings) mark() marker {
	if s.Cluster.on() {
		return marker{Mode: modeCluster, Cluster: s.Cluster.Name, Server: s.Name}
	}
	return marker{Mode: modeAlone, Server: s.Name}
}

// startError explains what the server called fatal at its start.
func (s settings) startError(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "listen" {
		addr := s.Addr
		if op.Addr != nil {
			addr = op.Addr.String()
		}
		// syscall.EADDRINUSE is an invented number on Windows; 10048 is its own.
		if errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.Errno(10048)) {
			return &fault{is: ErrAddrInUse, errs: []error{err}, text: fmt.Sprintf(
				"address %s is in use: stop what listens there, choose another one, or connect to it by its url", addr)}
		}
		return &fault{is: ErrFailed, errs: []error{err}, text: fmt.Sprintf("cannot listen on %s: %v", addr, op.Err)}
	}
	return err
}

// inProcess is the option that connects to i inside the process. It comes
// last: logins and TLS among the options of the caller are meant for a server
// elsewhere.
func (i *instance) inProcess() nats.Option {
	return func(o *nats.Options) error {
		o.InProcessServer = i.srv
		o.Secure, o.TLSConfig, o.TLSHandshakeFirst = false, nil, false
		o.TLSCertCB, o.RootCAsCB = nil, nil
		o.User, o.Password, o.UserInfo, o.TokenHandler = "", "", nil, nil
		o.UserJWT, o.Nkey, o.SignatureCB = nil, "", nil
		o.Token, o.User, o.Password = i.token, i.all.user, i.all.password
		return nil
	}
}

// stop shuts the server down and waits for its goroutines.
func (i *instance) stop() error {
	if i.url != "" {
		i.srv.LameDuckShutdown()
	}
	i.srv.Shutdown()
	i.srv.WaitForShutdown()
	return i.release()
}

// release frees the directory.
func (i *instance) release() error {
	if i.dir == nil {
		return nil
	}
	return i.dir.close()
}

// clientURL is where the listener of srv is reached from this machine.
func (i *instance) clientURL(set settings) string {
	scheme := "nats"
	if set.TLS != nil {
		scheme = "tls"
	}
	return scheme + "://" + local(set.host, i.srv.Addr())
}

// monitorURL is where the monitor is reached from this machine, or nothing.
func (i *instance) monitorURL() string {
	addr := i.srv.MonitorAddr()
	if addr == nil {
		return ""
	}
	return "http://" + local(addr.IP.String(), addr)
}

// local is host:port of a listener, seen from this machine.
func local(host string, addr net.Addr) string {
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip.To4() == nil {
			host = "::1"
		}
	}
	return net.JoinHostPort(host, strconv.Itoa(addr.(*net.TCPAddr).Port))
}
