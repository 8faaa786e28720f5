package natstest

import (
	"net"
	"net/url"
	"sync"
	"testing"
)

// Proxy stands between clients and one server, so that a test can drop
// connections that both ends believe in.
type Proxy struct {
	target string
	lis    net.Listener
	wg     sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool
	shut  bool          // refuse new connections
	flow  chan struct{} // closed while bytes may pass
}

// NewProxy starts a proxy in front of the server at a nats:// url. It ends with
// the test.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal("natstest:", err)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal("natstest:", err)
	}
	p := &Proxy{target: u.Host, lis: lis, conns: map[net.Conn]bool{}, flow: make(chan struct{})}
	close(p.flow)
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		_ = lis.Close()
		p.Refuse()
		p.Release()
		p.wg.Wait()
	})
	return p
}

// URL is where clients connect.
func (p *Proxy) URL() string { return "nats://" + p.lis.Addr().String() }

// Drop closes every connection; clients may connect again at once.
func (p *Proxy) Drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}

// Refuse closes every connection and refuses new ones until Accept.
func (p *Proxy) Refuse() {
	p.mu.Lock()
	p.shut = true
	p.mu.Unlock()
	p.Drop()
}

// Accept ends Refuse.
func (p *Proxy) Accept() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shut = false
}

// Hold lets nothing pass until Release, as if every packet were lost: the
// connections stay open, the ends of them included that are closed meanwhile.
func (p *Proxy) Hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.flow:
		p.flow = make(chan struct{})
	default: // held already
	}
}

// Release ends Hold: what was sent meanwhile arrives.
func (p *Proxy) Release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.flow:
	default:
		close(p.flow)
	}
}

// pass waits while the proxy holds.
func (p *Proxy) pass() {
	p.mu.Lock()
	flow := p.flow
	p.mu.Unlock()
	<-flow
}

func (p *Proxy) accept() {
	for {
		client, err := p.lis.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = client.Close()
			continue
		}
		if !p.add(client, server) {
			_, _ = client.Close(), server.Close()
			continue
		}
		p.wg.Go(func() { p.pipe(client, server) })
		p.wg.Go(func() { p.pipe(server, client) })
	}
}

func (p *Proxy) add(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shut {
		return false
	}
	for _, c := range conns {
		p.conns[c] = true
	}
	return true
}

func (p *Proxy) pipe(dst, src net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		p.pass()
		if n > 0 {
			if _, err := dst.Write(buf[:n]); err != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	_, _ = dst.Close(), src.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, dst)
	delete(p.conns, src)
}
