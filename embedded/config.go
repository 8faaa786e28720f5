package embedded

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Config says what kind of server Start makes. The zero value is a server that
// keeps everything in memory and is reached from this process only.
type Config struct {
	// Dir is where streams are kept. It is made where it is missing, readable
	// by this user alone. A relative path counts from the working directory at
	// Start. Empty: memory; streams must then be made with memory storage
	// (this project's are), one on file is refused by the server.
	Dir string

	// Addr is where other processes connect, as host:port. An empty host is
	// every interface of the machine; port 0 is a free one, which ClientURL
	// tells. Empty: no listener, only this process connects. On an address
	// that others reach set TLS and Token: without them everybody who reaches
	// it reads and writes everything.
	Addr string

	// Cluster makes this server one of several machines that keep everything
	// three times and go on when one of them is lost. It needs Dir; without Addr
	// the server listens for clients on a free port of 127.0.0.1. The zero value
	// is a server that stands alone.
	Cluster Cluster

	// Name is the server's name, 1 to 64 of A-Z a-z 0-9 _ -: unique among all
	// servers of a cluster, and kept for as long as the machine has its
	// directory. Empty: one is made up and kept in Dir.
	Name string

	// Log gets the server's own log: its notices at level Info, and its
	// debug lines where Log is enabled for Debug at Start. Nil: silent.
	Log *slog.Logger

	// SyncEvery trades safety for speed. 0: every write is synced to disk
	// before it is acknowledged; nothing acknowledged is lost when the power
	// goes. Above 0: writes are acknowledged at once and synced at this
	// interval; a power cut or a crash of the operating system loses what was
	// acknowledged since the last sync. A crash of the process loses nothing
	// either way. nats-server by itself uses 2 minutes. Without Dir it has no
	// meaning.
	//
	// The price of 0 is one disk sync per write. Measured on a virtual disk:
	// 0.3 ms instead of 0.02 ms for a single writer, 1,400 to 3,000 writes a
	// second instead of 20,000 to 70,000 from all writers together. A disk that
	// needs several ms for a sync takes a few hundred.
	SyncEvery time.Duration

	// MaxMemory limits what streams in memory hold together, in bytes.
	// 0: 1 GiB. A write beyond it is refused.
	MaxMemory int64

	// MaxStore limits what streams on disk hold together, in bytes. 0: three
	// quarters of what is free at Start and of what Dir holds already. A write
	// beyond it is refused. It has no meaning without Dir.
	MaxStore int64

	// MaxPayload limits one message, in bytes. 0: 1 MiB. At most 64 MiB; over
	// 8 MiB NATS gets slow.
	MaxPayload int

	// TLS makes clients of Addr use TLS; with ClientAuth and ClientCAs they
	// must show a certificate too. Connections of Conn and Dial need none of
	// it. It must not be changed after Start. Nil: no TLS.
	TLS *tls.Config

	// Token must be shown by clients of Addr, by nats.Token or as
	// nats://token@host:port. Connections of Conn and Dial show it by
	// themselves. Without TLS it travels in the clear. Empty: none.
	Token string

	// Users may connect to Addr, each with what it may do; nobody else may.
	// Connections of Conn and Dial may do everything. It excludes Token. Nil: no
	// users.
	Users []User

	// Monitor is where the server tells about itself over HTTP, as host:port:
	// /healthz, /varz, /jsz and others of nats-server, for dashboards and the
	// nats command. It has no login, so use an address that only operators
	// reach. Port 0 is a free one, which MonitorURL tells. Empty: none.
	Monitor string
}

const (
	defaultMaxMemory = 1 << 30
	maxMaxPayload    = 64 << 20
	anyHost          = "0.0.0.0"
)

// settings are a checked Config with its defaults filled in.
type settings struct {
	Config
	listen bool
	host   string
	port   int // 0 = any

	clusterHost string
	clusterPort int
	monitorHost string
	monitorPort int // 0 = any
}

// check copies c, fills in defaults and reports all problems together.
func (c Config) check() (settings, error) {
	s := settings{Config: c}
	var problems []string
	problem := func(format string, args ...any) {
		problems = append(problems, fmt.Sprintf(format, args...))
	}
	if c.Dir != "" {
		dir, err := filepath.Abs(c.Dir)
		if err != nil {
			problem("Dir %q: %v", c.Dir, err)
		}
		s.Dir = dir
	}
	if c.Addr != "" {
		s.listen = true
		host, port, err := net.SplitHostPort(c.Addr)
		if err != nil {
			problem("Addr %q is not host:port: use 127.0.0.1:4222, :4222 or 127.0.0.1:0", c.Addr)
		} else if n, err := strconv.ParseUint(port, 10, 16); err != nil {
			problem("Addr %q has the port %q: use a number from 0 to 65535", c.Addr, port)
		} else {
			s.host, s.port = cmp.Or(host, anyHost), int(n)
		}
	} else if c.Cluster.on() {
		s.listen, s.host = true, "127.0.0.1"
	} else {
		if c.TLS != nil {
			problem("TLS is set and Addr is not: there is no listener to protect")
		}
		if c.Token != "" {
			problem("Token is set and Addr is not: there is no listener to protect")
		}
		if len(c.Users) > 0 {
			problem("Users is set and Addr is not: there is no listener to protect")
		}
	}
	if c.Cluster.on() {
		s.Cluster, s.clusterHost, s.clusterPort = c.Cluster.check(problem)
		s.clusterHost = cmp.Or(s.clusterHost, anyHost)
		if c.Dir == "" {
			problem("Cluster is set and Dir is not: a server that forgets what it agreed to would lose data of the others")
		}
	} else if c.Cluster.Addr != "" || len(c.Cluster.Peers) > 0 {
		problem("Cluster.Name is missing")
	}
	if c.Name != "" && !validName(c.Name) {
		problem("Name %q is not 1 to %d of A-Z a-z 0-9 _ -", c.Name, maxName)
	}
	if c.Monitor != "" {
		host, port, err := splitAddr(c.Monitor)
		if err != nil {
			problem("Monitor %q is not host:port: use 127.0.0.1:8222", c.Monitor)
		}
		s.monitorHost, s.monitorPort = cmp.Or(host, anyHost), port
	}
	checkUsers(c.Users, problem)
	if len(c.Users) > 0 && c.Token != "" {
		problem("Users and Token are both set: choose one")
	}
	s.Users = slices.Clone(c.Users)
	if strings.ContainsAny(c.Token, " \t\r\n@/:") {
		problem("Token has a blank or one of @ / : in it: it would not fit into an url")
	}
	if c.TLS != nil && len(c.TLS.Certificates) == 0 && c.TLS.GetCertificate == nil && c.TLS.GetConfigForClient == nil {
		problem("TLS has no certificate: set Certificates")
	}
	if c.SyncEvery < 0 {
		problem("SyncEvery is %v: use 0 for a sync before each acknowledgement, or an interval", c.SyncEvery)
	}
	if c.MaxMemory < 0 {
		problem("MaxMemory is %d: use 0 for the default, or bytes", c.MaxMemory)
	}
	if c.MaxStore < 0 {
		problem("MaxStore is %d: use 0 for the default, or bytes", c.MaxStore)
	}
	if c.MaxPayload < 0 || c.MaxPayload > maxMaxPayload {
		problem("MaxPayload is %d: use 0 for the default, or up to %d bytes", c.MaxPayload, maxMaxPayload)
	}
	if len(problems) > 0 {
		return settings{}, &fault{is: ErrConfig, text: "config: " + strings.Join(problems, "; ")}
	}
	s.MaxMemory = cmp.Or(s.MaxMemory, defaultMaxMemory)
	if s.TLS != nil {
		s.TLS = s.TLS.Clone()
	}
	return s, nil
}

// exposed tells that machines other than this one may reach the listener.
func (s settings) exposed() bool {
	if !s.listen || s.host == "localhost" {
		return false
	}
	ip := net.ParseIP(s.host)
	return ip == nil || !ip.IsLoopback()
}

// protected tells that clients must prove who they are, over an encrypted link.
func (s settings) protected() bool {
	return s.TLS != nil && (s.Token != "" || len(s.Users) > 0 || s.TLS.ClientAuth == tls.RequireAndVerifyClientCert)
}
