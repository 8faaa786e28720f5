package embedded

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/dial"
)

// Server is a nats-server in this process, or the connection to one elsewhere
// that took its place (see DialOrStart). Make it with Start or DialOrStart.
type Server struct {
	inst *instance     // nil where the server is elsewhere
	url  string        // where it is elsewhere
	opts []nats.Option // of every connection
	conn *nats.Conn

	life context.Context // ends when Close is called or the server failed
	end  context.CancelCauseFunc
	done chan struct{} // closed when everything has ended
	err  error         // why it ended by itself; set before done is closed
	shut error         // what went wrong while closing; set before done is closed

	mu    sync.Mutex
	conns []*nats.Conn // nil after the end
	ended bool
}

func newServer(inst *instance, url string, opts []nats.Option) *Server {
	s := &Server{inst: inst, url: url, opts: slices.Clone(opts), done: make(chan struct{})}
	s.life, s.end = context.WithCancelCause(context.Background())
	return s
}

// run waits for the end and clears up. It is the only goroutine of a Server
// beside those of nats-server and nats.go.
func (s *Server) run() {
	defer close(s.done)
	if s.inst != nil {
		select {
		case <-s.life.Done():
		case err := <-s.inst.log.fatal:
			s.end(err)
		}
	} else {
		closed := s.conn.StatusChanged(nats.CLOSED)
		if s.conn.IsClosed() { // before the channel was there
			s.end(s.lost())
		}
		select {
		case <-s.life.Done():
		case <-closed:
			s.end(s.lost())
		}
		s.conn.RemoveStatusListener(closed)
	}
	if cause := context.Cause(s.life); !errors.Is(cause, ErrClosed) { // the first cause counts
		s.err = cause
	}
	s.closeConns()
	if s.inst != nil {
		s.shut = s.inst.stop()
	}
}

// lost says that the connection which took the place of a server is closed.
func (s *Server) lost() error {
	text := "the connection to " + s.ClientURL() + " was closed"
	if err := s.conn.LastError(); err != nil {
		return &fault{is: nats.ErrConnectionClosed, text: text + ": " + err.Error(), errs: []error{err}}
	}
	return &fault{is: nats.ErrConnectionClosed, text: text}
}

// Conn returns the server's own connection to it, which ends with Close. A
// program that is one node of a cluster needs no other; several nodes in one
// process take one of Dial each. Leave closing it to Close.
func (s *Server) Conn() *nats.Conn { return s.conn }

// Embedded tells whether the server is in this process.
func (s *Server) Embedded() bool { return s.inst != nil }

// ClientURL returns where other processes connect: the listener of an embedded
// server, from this machine where it listens on all interfaces; or the url of
// DialOrStart. Logins are left out. It is empty where there is no listener.
func (s *Server) ClientURL() string {
	if s.inst != nil {
		return s.inst.url
	}
	return dial.Public(s.url)
}

// MonitorURL returns where the server tells about itself over HTTP, from this
// machine where it listens on all interfaces; empty without Config.Monitor.
func (s *Server) MonitorURL() string {
	if s.inst == nil {
		return ""
	}
	return s.inst.monitorURL()
}

// Name returns the name of the server in this process: Config.Name, or the one
// that was made up and is kept in Config.Dir; or that of the server that the
// connection to elsewhere has now.
func (s *Server) Name() string {
	if s.inst == nil {
		return s.conn.ConnectedServerName()
	}
	return s.inst.srv.Name()
}

// Done is closed when the server has ended: Close has finished, or the server
// failed and was shut down, or the connection that took its place was closed
// for good.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err returns why the server ended by itself. It is nil before Done is closed,
// and after Close.
//
// Errors: ErrFailed; nats.ErrConnectionClosed where the server is elsewhere.
func (s *Server) Err() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

// Dial makes one more connection, with the options of Start or DialOrStart
// first and opts after them. ctx bounds the wait. The connection ends with
// Close at the latest; whoever needs it shorter closes it.
//
// Errors: ErrClosed, and those of DialOrStart.
func (s *Server) Dial(ctx context.Context, opts ...nats.Option) (*nats.Conn, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.life, func() { cancel(ErrClosed) })()
	if s.life.Err() != nil {
		return nil, ErrClosed
	}
	nc, err := s.connect(ctx, opts)
	if s.life.Err() != nil {
		if nc != nil {
			nc.Close()
		}
		return nil, ErrClosed
	}
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	ended := s.ended
	if !ended {
		s.conns = append(slices.DeleteFunc(s.conns, (*nats.Conn).IsClosed), nc)
	}
	s.mu.Unlock()
	if ended {
		nc.Close()
		return nil, ErrClosed
	}
	return nc, nil
}

func (s *Server) connect(ctx context.Context, opts []nats.Option) (*nats.Conn, error) {
	opts = slices.Concat(s.opts, opts)
	url := s.url
	if s.inst != nil {
		opts, url = append(opts, s.inst.inProcess()), ""
	}
	nc, err := dial.Connect(ctx, url, opts...)
	if err != nil {
		return nil, &fault{is: err, text: err.Error()}
	}
	return nc, nil
}

// Close ends the server: its connections are flushed and closed, clients of the
// listener are told and get a moment to go elsewhere, streams are written out,
// the directory is unlocked. It takes some ms, with clients on the listener
// 0.2 s, and returns when all is done. It may be called at any time, by several
// goroutines, and again.
//
// A Server that is a connection to elsewhere closes its connections.
func (s *Server) Close() error {
	s.end(ErrClosed)
	<-s.done
	return s.shut
}

func (s *Server) closeConns() {
	s.mu.Lock()
	conns := append(s.conns, s.conn)
	s.conns, s.ended = nil, true
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), flushWait)
	defer cancel()
	for _, nc := range conns {
		if nc.IsConnected() {
			_ = nc.FlushWithContext(ctx)
		}
		nc.Close()
	}
}

// flushWait bounds the goodbye of the connections.
const flushWait = 250 * time.Millisecond
