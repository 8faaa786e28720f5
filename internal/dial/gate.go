package dial

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/opening"
)

// gate stands between nats.go and the network while the first connection is
// made, because nats.go knows no ctx: it ends what is under way when the
// caller's ctx ends, and remembers why a server could not be reached, which
// nats.go reports as "no servers available". Once connected it stands aside;
// reconnects are bounded by the Timeout of the options alone.
type gate struct {
	ended func(f func()) (stop func() bool) // calls f when the caller's ctx ends

	mu        sync.Mutex
	connected bool
	stops     []func() bool // release the sockets of the attempt under way
	err       error         // why the attempt could not reach a server
}

// newGate puts a gate into o.
func newGate(ctx context.Context, o *nats.Options) *gate {
	g := &gate{ended: func(f func()) func() bool { return context.AfterFunc(ctx, f) }}
	switch {
	case o.InProcessServer != nil:
		o.InProcessServer = inProcess{o.InProcessServer, g}
	case o.CustomDialer != nil:
		o.CustomDialer = customDialer{o.CustomDialer, g}
	default:
		var d net.Dialer
		if o.Dialer != nil { //nolint:staticcheck // users still set it, by nats.Dialer
			d = *o.Dialer //nolint:staticcheck // see above
		}
		if o.AllowMultipathTCP != nil {
			d.SetMultipathTCP(*o.AllowMultipathTCP)
		}
		timeout := o.Timeout
		if d.Timeout != 0 {
			timeout = d.Timeout
		}
		lookup, shuffle := !o.SkipHostLookup, !o.NoRandomize
		// nats.go would look names up without a ctx.
		o.SkipHostLookup = true
		limits := &opening.Limits{}
		o.CustomDialer = brisk{func(network, addr string) (net.Conn, error) {
			ctx, begin := ctx, time.Now()
			if g.isConnected() {
				ctx = context.Background()
			}
			limit := limits.Of(addr, timeout)
			ctx, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			addrs := []string{addr}
			if lookup {
				var err error
				if addrs, err = resolve(ctx, d.Resolver, addr); err != nil {
					return nil, g.note(err)
				}
				if shuffle {
					rand.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
				}
			}
			c, err := dialAny(ctx, d, limit, network, addrs)
			if err != nil {
				return nil, g.note(err)
			}
			return g.guard(limits.Guard(c, begin, limit)), nil
		}}
	}
	return g
}

// attempt tries each server once.
func (g *gate) attempt(o *nats.Options) (*nats.Conn, error) {
	g.mu.Lock()
	g.err = nil
	g.mu.Unlock()

	nc, err := o.Connect()

	g.mu.Lock()
	var cut bool
	for _, stop := range g.stops {
		cut = !stop() || cut
	}
	g.stops = nil
	reason := g.err
	g.connected = err == nil && !cut
	g.mu.Unlock()

	switch {
	case err == nil && cut:
		// The end of ctx closes the socket of this connection.
		nc.Close()
		return nil, context.Canceled
	case err == nil:
		return nc, nil
	case reason != nil && errors.Is(err, nats.ErrNoServers):
		return nil, reason
	}
	return nil, err
}

// guard closes c when ctx ends before there is a first connection.
func (g *gate) guard(c net.Conn) net.Conn {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.connected {
		g.stops = append(g.stops, g.ended(func() { _ = c.Close() }))
	}
	return c
}

func (g *gate) isConnected() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.connected
}

func (g *gate) note(err error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.err = err
	return err
}

// resolve turns host:port into the addresses of the host.
func resolve(ctx context.Context, r *net.Resolver, addr string) ([]string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || net.ParseIP(host) != nil {
		return []string{addr}, nil
	}
	if r == nil {
		r = net.DefaultResolver
	}
	ips, err := r.LookupHost(ctx, host)
	if err != nil {
		return nil, err
	}
	addrs := make([]string, len(ips))
	for i, ip := range ips {
		addrs[i] = net.JoinHostPort(ip, port)
	}
	return addrs, nil
}

// dialAny returns a connection to the first address that takes it. The
// addresses share the time.
func dialAny(ctx context.Context, d net.Dialer, timeout time.Duration, network string, addrs []string) (net.Conn, error) {
	d.Timeout = timeout / time.Duration(len(addrs))
	var errs []error
	for _, addr := range addrs {
		c, err := d.DialContext(ctx, network, addr)
		if err == nil {
			return c, nil
		}
		errs = append(errs, err)
	}
	if len(errs) == 1 {
		return nil, errs[0]
	}
	return nil, &failure{text: joined(errs), errs: errs}
}

// dialFunc is a function as a nats.CustomDialer.
type dialFunc func(network, addr string) (net.Conn, error)

func (f dialFunc) Dial(network, addr string) (net.Conn, error) { return f(network, addr) }

// brisk is a dialer that does not wait long for a server that stands still.
type brisk struct{ dialFunc }

// AttemptLimit tells how long a server that stands still holds up a client that
// can go to another one.
func (brisk) AttemptLimit() time.Duration { return opening.Shortest }

// inProcess is the caller's in-process server behind a gate.
type inProcess struct {
	nats.InProcessConnProvider
	g *gate
}

func (p inProcess) InProcessConn() (net.Conn, error) {
	c, err := p.InProcessConnProvider.InProcessConn()
	if err != nil {
		return nil, err
	}
	return p.g.guard(c), nil
}

// customDialer is the caller's dialer behind a gate.
type customDialer struct {
	nats.CustomDialer
	g *gate
}

func (d customDialer) Dial(network, addr string) (net.Conn, error) {
	c, err := d.CustomDialer.Dial(network, addr)
	if err != nil {
		return nil, d.g.note(err)
	}
	return d.g.guard(c), nil
}

// SkipTLSHandshake passes on what nats.go asks of a dialer that speaks TLS itself.
func (d customDialer) SkipTLSHandshake() bool {
	s, ok := d.CustomDialer.(interface{ SkipTLSHandshake() bool })
	return ok && s.SkipTLSHandshake()
}
