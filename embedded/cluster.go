package embedded

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Cluster makes a server one of several that keep everything three times. The
// same Cluster on three or five machines is all that it takes; whoever is not
// among them connects as a client. The zero value is a server that stands alone.
type Cluster struct {
	// Name is the name of the cluster of servers, 1 to 64 of A-Z a-z 0-9 _ -,
	// the same on all of them. Empty: no cluster.
	Name string

	// Addr is where the other servers connect, as host:port, usually :6222. An
	// empty host is every interface. The port is the one that Peers name.
	Addr string

	// Peers are the addresses of all servers, this one included, each as
	// host:port: three or five of them, the same list everywhere. Or it is one
	// DNS name that resolves to all of them, as a headless service does; see
	// Servers.
	Peers []string

	// Servers is how many servers there are when the cluster is made for the
	// first time. 0: as many as Peers, or 3 where Peers is one name. A server
	// with an empty directory waits until the name resolves to that many.
	Servers int

	// Secret is what servers show each other; the same on all of them. Without
	// TLS it travels in the clear. Empty: whoever reaches Addr may be a server,
	// and then sees everything.
	Secret string

	// TLS protects the links between the servers: each shows its certificate and
	// checks that of the other against RootCAs and ClientCAs, so set both. It
	// must not be changed after Start. Nil: no TLS.
	TLS *tls.Config
}

const (
	minServers = 3
	// routeUser goes with Cluster.Secret: nats-server wants a pair.
	routeUser = "catga"
	// resolveWait is the pause before a name of Peers is resolved again.
	resolveWait = 250 * time.Millisecond
)

// on tells that the server is one of a cluster.
func (c Cluster) on() bool { return c.Name != "" }

// check returns the checked c, which Config.check puts into the settings.
func (c Cluster) check(problem func(format string, args ...any)) (_ Cluster, host string, port int) {
	if !validName(c.Name) {
		problem("Cluster.Name %q is not 1 to %d of A-Z a-z 0-9 _ -", c.Name, maxName)
	}
	host, port, err := splitAddr(c.Addr)
	if err != nil || port == 0 {
		problem("Cluster.Addr %q is not host:port with a port that Peers name: use :6222", c.Addr)
	}
	for _, p := range c.Peers {
		if h, n, err := splitAddr(p); err != nil || h == "" || n == 0 {
			problem("Cluster.Peers has %q, which is not host:port: use nats-1.example.com:6222", p)
		}
	}
	if sorted := slices.Compact(slices.Sorted(slices.Values(c.Peers))); len(sorted) != len(c.Peers) {
		problem("Cluster.Peers names an address twice")
	}
	one := len(c.Peers) == 1 && net.ParseIP(hostOf(c.Peers[0])) == nil
	if len(c.Peers) < minServers && !one {
		problem("Cluster.Peers has %d addresses: name all servers, this one included, three or five; or one DNS name that resolves to all of them", len(c.Peers))
	}
	if c.Servers == 0 {
		c.Servers = max(len(c.Peers), minServers)
	}
	if c.Servers < minServers || !one && c.Servers != len(c.Peers) {
		problem("Cluster.Servers is %d: use 0, or the number of servers behind the one name in Peers, three or more", c.Servers)
	}
	if strings.ContainsAny(c.Secret, " \t\r\n") {
		problem("Cluster.Secret has a blank in it")
	}
	if c.TLS != nil {
		if len(c.TLS.Certificates) == 0 && c.TLS.GetCertificate == nil {
			problem("Cluster.TLS has no certificate: set Certificates")
		}
		c.TLS = c.TLS.Clone()
		c.TLS.ClientAuth = tls.RequireAndVerifyClientCert
	}
	c.Peers = slices.Clone(c.Peers)
	return c, host, port
}

func hostOf(addr string) string {
	host, _, _ := net.SplitHostPort(addr)
	return host
}

// options puts the cluster into the options of nats-server.
func (s settings) clusterOptions(o *server.Options, routes []string) {
	o.Cluster = server.ClusterOpts{
		Name: s.Cluster.Name, Host: s.clusterHost, Port: s.clusterPort,
		NoAdvertise: s.hidden(),
		TLSConfig:   s.Cluster.TLS, TLSTimeout: 2,
		AuthTimeout: 2, // seconds; more than TLSTimeout is of no use
	}
	for _, r := range routes {
		u := &url.URL{Scheme: "nats-route", Host: r}
		if s.Cluster.Secret != "" {
			u.User = url.UserPassword(routeUser, s.Cluster.Secret)
		}
		o.Routes = append(o.Routes, u)
	}
	if s.Cluster.Secret != "" {
		o.Cluster.Username, o.Cluster.Password = routeUser, s.Cluster.Secret
	}
}

// hidden tells that clients of other servers must not learn this server's
// address: it is a loopback one, which means something else on other machines.
func (s settings) hidden() bool {
	if s.exposed() {
		return false
	}
	return slices.ContainsFunc(s.Cluster.Peers, func(p string) bool {
		ip := net.ParseIP(hostOf(p))
		return ip == nil || !ip.IsLoopback()
	})
}

// routes returns where the other servers are. A name is replaced by what it
// resolves to. The number of routes decides how many servers a new cluster has,
// so that two halves that do not see each other never become two clusters. A
// server of a cluster that is there already waits for as many others as it takes
// to go on, because nats-server ends its attempts at a name with the first
// connection, and with a name that is its own only: five servers that start
// again could stay two and three.
func (s settings) routes(ctx context.Context) ([]string, error) {
	c := s.Cluster
	if len(c.Peers) > 1 {
		return c.Peers, nil
	}
	known := s.hasMeta()
	host, port, _ := net.SplitHostPort(c.Peers[0])
	for {
		found, err := net.DefaultResolver.LookupHost(ctx, host)
		if err == nil {
			others := withoutOwn(found)
			switch {
			case known && len(others) >= c.Servers/2:
				return nameFirst(c.Peers[0], others, port), nil
			case !known && len(found) >= c.Servers:
				if len(others) == len(found) {
					others = others[1:] // one of them is this one
				}
				return nameFirst(c.Peers[0], others, port), nil
			}
			err = fmt.Errorf("%s resolves to %d addresses (%s), and there should be %d servers", host, len(found), strings.Join(found, ", "), c.Servers)
		}
		if wait(ctx, resolveWait) != nil {
			return nil, notReady(ctx, err.Error()+": start them all; on Kubernetes set publishNotReadyAddresses")
		}
	}
}

// withoutOwn returns the addresses that are not of this machine.
func withoutOwn(found []string) []string {
	local, _ := net.InterfaceAddrs()
	return slices.DeleteFunc(slices.Clone(found), func(addr string) bool {
		ip := net.ParseIP(addr)
		return slices.ContainsFunc(local, func(a net.Addr) bool {
			n, ok := a.(*net.IPNet)
			return ok && n.IP.Equal(ip)
		})
	})
}

// nameFirst returns the name and the addresses: the name is asked again at each
// attempt, so that servers are found that have moved.
func nameFirst(name string, addrs []string, port string) []string {
	routes := []string{name}
	for _, addr := range addrs {
		routes = append(routes, net.JoinHostPort(addr, port))
	}
	return routes
}

// metaDir is where a server of a cluster keeps what all of them agree on.
func metaDir(dir string) string { return filepath.Join(dir, storeDir, "$SYS", "_js_", "_meta_") }

func (s settings) hasMeta() bool {
	_, err := os.Stat(metaDir(s.Dir))
	return !errors.Is(err, fs.ErrNotExist)
}

// missing says which of the peers do not answer, and why; dial tries one.
func (s settings) missing(routed int) string {
	var missing []string
	for _, p := range s.Cluster.Peers {
		conn, err := net.DialTimeout("tcp", p, dialWait)
		if err != nil {
			if op, ok := errors.AsType[*net.OpError](err); ok {
				err = op.Err
			}
			missing = append(missing, fmt.Sprintf("%s (%v)", p, err))
			continue
		}
		_ = conn.Close()
	}
	switch {
	case len(missing) > 0:
		return fmt.Sprintf("waiting for the servers %s: start them, or correct Cluster.Peers", strings.Join(missing, ", "))
	case routed+1 < s.Cluster.Servers:
		return fmt.Sprintf("all peers accept connections and %d of %d are in the cluster %q: compare Cluster.Name, Secret and TLS on all servers",
			routed+1, s.Cluster.Servers, s.Cluster.Name)
	}
	return "all servers are connected and have no leader yet"
}

// dialWait bounds the look at one peer that missing takes.
const dialWait = 300 * time.Millisecond

const maxName = 64

func validName(name string) bool {
	return name != "" && len(name) <= maxName && !strings.ContainsFunc(name, func(r rune) bool {
		return r != '_' && r != '-' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	})
}

// splitAddr splits host:port.
func splitAddr(addr string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, err
	}
	n, err := strconv.ParseUint(text, 10, 16)
	return host, int(n), err
}
