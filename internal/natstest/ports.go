package natstest

import (
	"fmt"
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
