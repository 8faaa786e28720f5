package embedded

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
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
}

const (
	defaultMaxMemory = 1 << 30
	maxMaxPayload    = 64 << 20
)

// settings are a checked Config with its defaults filled in.
type settings struct {
	Config
	listen bool
	host   string
	port   int // 0 = any
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
			s.host, s.port = cmp.Or(host, "0.0.0.0"), int(n)
		}
	} else {
		if c.TLS != nil {
			problem("TLS is set and Addr is not: there is no listener to protect")
		}
		if c.Token != "" {
			problem("Token is set and Addr is not: there is no listener to protect")
		}
	}
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
	return s.TLS != nil && (s.Token != "" || s.TLS.ClientAuth == tls.RequireAndVerifyClientCert)
}
