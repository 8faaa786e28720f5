package membership

import (
	"errors"
	"log"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// errCut is what dialling through a link that is cut ends with.
var errCut = errors.New("the link is cut")

// link is memberlist's own transport with a switch: while it is cut, packets
// are lost in both directions and no connection is made.
type link struct {
	*memberlist.NetTransport
	isCut   atomic.Bool
	packets chan *memberlist.Packet
	streams chan net.Conn
	done    chan struct{}
	wg      sync.WaitGroup
}

// newLink makes the transport that memberlist would make for cfg, and sets it.
func newLink(cfg *memberlist.Config) (*link, error) {
	var (
		inner *memberlist.NetTransport
		err   error
	)
	// A free port of TCP need not be one of UDP.
	for range 10 {
		inner, err = memberlist.NewNetTransport(&memberlist.NetTransportConfig{
			BindAddrs: []string{cfg.BindAddr}, BindPort: cfg.BindPort, Logger: log.New(cfg.LogOutput, "", 0),
		})
		if err == nil {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	l := &link{NetTransport: inner, packets: make(chan *memberlist.Packet), streams: make(chan net.Conn), done: make(chan struct{})}
	cfg.Transport, cfg.BindPort, cfg.AdvertisePort = l, inner.GetAutoBindPort(), inner.GetAutoBindPort()
	l.wg.Go(l.receive)
	return l, nil
}

func (l *link) receive() {
	for {
		select {
		case <-l.done:
			return
		case p := <-l.NetTransport.PacketCh():
			if l.isCut.Load() {
				continue
			}
			select {
			case l.packets <- p:
			case <-l.done:
				return
			}
		case c := <-l.NetTransport.StreamCh():
			if l.isCut.Load() {
				_ = c.Close()
				continue
			}
			select {
			case l.streams <- c:
			case <-l.done:
				_ = c.Close()
				return
			}
		}
	}
}

func (l *link) PacketCh() <-chan *memberlist.Packet { return l.packets }
func (l *link) StreamCh() <-chan net.Conn           { return l.streams }

func (l *link) WriteTo(b []byte, addr string) (time.Time, error) {
	return l.WriteToAddress(b, memberlist.Address{Addr: addr})
}

func (l *link) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	if l.isCut.Load() {
		return time.Now(), nil
	}
	return l.NetTransport.WriteToAddress(b, a)
}

func (l *link) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return l.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

func (l *link) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	if l.isCut.Load() {
		return nil, errCut
	}
	return l.NetTransport.DialAddressTimeout(a, timeout)
}

func (l *link) Shutdown() error {
	err := l.NetTransport.Shutdown()
	close(l.done)
	l.wg.Wait()
	return err
}
