package embedded

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/catga/catga-go/internal/natstest"
)

// nameServer answers questions for one name with addresses that change, as the DNS
// of a headless service does.
type nameServer struct {
	conn net.PacketConn

	mu    sync.Mutex
	addrs []net.IP
	asked int
}

// resolveWith starts a name server and lets the whole process ask it.
func resolveWith(t *testing.T) *nameServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &nameServer{conn: conn}
	var wg sync.WaitGroup
	wg.Go(n.serve)
	before := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
	t.Cleanup(func() {
		net.DefaultResolver = before
		_ = conn.Close()
		wg.Wait()
	})
	return n
}

func (n *nameServer) set(addrs ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addrs = nil
	for _, a := range addrs {
		n.addrs = append(n.addrs, net.ParseIP(a).To4())
	}
}

// serve answers each question (RFC 1035) with all addresses, or with none where
// it is not for IPv4.
func (n *nameServer) serve() {
	buf := make([]byte, 512)
	for {
		size, from, err := n.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		const header, typeA = 12, 1
		end := header
		for end < size && buf[end] != 0 { // labels
			end += int(buf[end]) + 1
		}
		end += 5 // the end of the name, type and class
		if end > size {
			continue
		}
		n.mu.Lock()
		addrs := n.addrs
		n.asked++
		n.mu.Unlock()
		if binary.BigEndian.Uint16(buf[end-4:]) != typeA {
			addrs = nil
		}
		answer := append([]byte(nil), buf[:end]...)
		binary.BigEndian.PutUint16(answer[2:], 0x8580) // an answer, with authority, no error
		binary.BigEndian.PutUint16(answer[6:], uint16(len(addrs)))
		binary.BigEndian.PutUint32(answer[8:], 0)
		for _, ip := range addrs {
			// The name of the question, type A, class IN, valid for 0 s, 4 bytes.
			answer = append(answer, 0xc0, header, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
			answer = append(answer, ip...)
		}
		_, _ = n.conn.WriteTo(answer, from)
	}
}

// behindOneName are configurations of servers with addresses of their own and
// one port, which know each other by one name only.
func behindOneName(t *testing.T, servers int) (cfgs []Config, addrs []string) {
	t.Helper()
	_, port, err := net.SplitHostPort(natstest.Addrs(t, 1)[0])
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	for i := range servers {
		ip := fmt.Sprint("127.0.7.", i+1)
		addrs = append(addrs, ip)
		cfgs = append(cfgs, Config{
			Dir: filepath.Join(root, fmt.Sprint("m", i+1)), Name: fmt.Sprint("m", i+1), Addr: ip + ":0",
			Cluster: Cluster{Name: "test", Addr: net.JoinHostPort(ip, port), Peers: []string{"nats.test.example:" + port}},
		})
	}
	return cfgs, addrs
}

func TestPeersBehindOneName(t *testing.T) {
	cfgs, addrs := behindOneName(t, 4)
	dns := resolveWith(t)
	// The name appears when the first servers wait for it already, and with two
	// of three at first.
	started := make(chan []*Server)
	go func() { started <- startAll(t, cfgs[:3]) }()
	waits := func(what string) {
		t.Helper()
		dns.mu.Lock()
		before := dns.asked
		dns.mu.Unlock()
		natstest.Eventually(t, what, func() bool {
			dns.mu.Lock()
			defer dns.mu.Unlock()
			return dns.asked > before+6
		})
		select {
		case <-started:
			t.Fatal("servers are ready: ", what)
		default:
		}
	}
	waits("nobody behind the name")
	dns.set(addrs[:2]...)
	waits("two of three behind the name")
	dns.set(addrs[:3]...)
	servers := <-started
	js := replicated(t, servers[0].Conn())
	if err := put(within(t, 20*time.Second), js, "1"); err != nil {
		t.Fatal(err)
	}
	if all := names(t, servers[0]); len(all) != 3 {
		t.Errorf("peers %v", all)
	}

	// m3 comes back at another address: only the name tells where.
	if err := servers[2].Close(); err != nil {
		t.Fatal(err)
	}
	moved := cfgs[3]
	moved.Dir, moved.Name = cfgs[2].Dir, cfgs[2].Name
	dns.set(addrs[0], addrs[1], addrs[3])
	third := startAll(t, []Config{moved})[0]
	if err := complete(within(t, time.Minute), js, "S", 3); err != nil {
		t.Fatal(err)
	}
	// So do the others, one after the other, while the name knows only who is there.
	if err := servers[0].Close(); err != nil {
		t.Fatal(err)
	}
	dns.set(addrs[1], addrs[3])
	js = jetStream(t, third.Conn())
	if err := put(within(t, 20*time.Second), js, "2"); err != nil {
		t.Fatal(err)
	}
	first := startAll(t, cfgs[:1])[0] // has been here: the name is enough
	if err := complete(within(t, time.Minute), js, "S", 3); err != nil {
		t.Fatal(err)
	}
	if n := messages(t, first.Conn()); n != 2 {
		t.Errorf("%d messages", n)
	}
	if all := names(t, first); len(all) != 3 {
		t.Errorf("peers %v", all)
	}
}

func TestNameOfPeersResolvesToTooFew(t *testing.T) {
	cfgs, addrs := behindOneName(t, 1)
	dns := resolveWith(t)
	dns.set(addrs...)
	_, err := Start(within(t, time.Second), cfgs[0])
	if !errors.Is(err, ErrNotReady) || !errors.Is(err, context.DeadlineExceeded) ||
		!strings.Contains(err.Error(), "nats.test.example resolves to 1 addresses (127.0.7.1), and there should be 3 servers: start them all") {
		t.Errorf("err %v", err)
	}
	dns.set()
	_, err = Start(within(t, time.Second), cfgs[0])
	if !errors.Is(err, ErrNotReady) || !strings.Contains(err.Error(), "no such host") {
		t.Errorf("err %v", err)
	}
}
