package natstest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

// Addrs returns n addresses of this machine on which nothing listens, for
// servers that must know each other's before they start.
func Addrs(t testing.TB, n int) []string {
	t.Helper()
	var addrs []string
	for _, port := range freePorts(t, n) {
		addrs = append(addrs, fmt.Sprintf("127.0.0.1:%d", port))
	}
	return addrs
}

// The ports of tests lie below those that the system gives to outgoing
// connections: one of these could take a port while its server is down.
const firstPort, numBlocks, blockSize = 20_000, 120, 100

// ports are those of this process. A block belongs to the process that listens
// on its first port, until that process ends: tests that run side by side never
// take the port of a server that was killed and is to come back. No port is given
// twice.
var ports struct {
	mu     sync.Mutex
	blocks []net.Listener
	next   int
}

// freePorts returns ports that nothing listens on.
func freePorts(t testing.TB, n int) []int {
	t.Helper()
	ports.mu.Lock()
	defer ports.mu.Unlock()
	var found []int
	for len(found) < n {
		if ports.next%blockSize == 0 {
			block, err := claimBlock()
			if err != nil {
				t.Fatal("natstest:", err)
			}
			ports.next = block + 1
		}
		// Something that knows nothing of blocks may be there.
		if l, err := listen(ports.next); err == nil {
			_ = l.Close()
			found = append(found, ports.next)
		}
		ports.next++
	}
	return found
}

func claimBlock() (first int, err error) {
	for _, i := range rand.Perm(numBlocks) {
		first := firstPort + i*blockSize
		if l, err := listen(first); err == nil {
			ports.blocks = append(ports.blocks, l)
			return first, nil
		}
	}
	return 0, errors.New("all blocks of ports are taken")
}

func listen(port int) (net.Listener, error) {
	return net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
}
