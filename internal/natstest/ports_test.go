package natstest

import "testing"

// Nobody else can take a block of ports of this process, and no port is given twice.
func TestPortsAreOfThisProcess(t *testing.T) {
	given := map[int]bool{}
	for range blockSize + 10 {
		for _, port := range freePorts(t, 2) {
			first := port - (port-firstPort)%blockSize
			if given[port] || port == first {
				t.Fatalf("port %d is given twice, or marks its block", port)
			}
			given[port] = true
			if l, err := listen(first); err == nil {
				_ = l.Close()
				t.Fatalf("the block of port %d belongs to nobody", port)
			}
		}
	}
}
