//go:build unix

package membership

import (
	"fmt"
	"syscall"
)

// spare is how many files a process has open beside its members' connections.
const spare = 300

// filesFor raises the limit of open files so that a process, the server's or
// this one, can have n connections. Processes that this one starts inherit it.
func filesFor(n int) error {
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		return fmt.Errorf("the limit of open files: %w", err)
	}
	need := uint64(n + crashed + spare)
	if lim.Max < need {
		return fmt.Errorf("%d members need %d open files, and the hard limit is %d: raise it as root with `ulimit -Hn %d`, or for good in /etc/security/limits.conf (a container: --ulimit nofile=%d)", n, need, lim.Max, need, need)
	}
	if lim.Cur >= need {
		return nil
	}
	lim.Cur = lim.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		return fmt.Errorf("raise the limit of open files to %d: %w", lim.Max, err)
	}
	return nil
}
