package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/gofrs/flock"
)

const (
	lockFile = "catga.lock"
	pidFile  = "catga.pid"
)

// dirLock keeps other servers out of a directory. The kernel releases it when
// the process ends, however it ends. The lock file stays: removing it would let
// two processes hold locks on two files of one name.
type dirLock struct {
	lock *flock.Flock
	pid  string // path; a file of its own, since on Windows a locked one cannot be read
}

// lockDir takes the lock of dir, or tells who has it.
func lockDir(dir string) (*dirLock, error) {
	l := &dirLock{
		lock: flock.New(filepath.Join(dir, lockFile), flock.SetPermissions(0o600)),
		pid:  filepath.Join(dir, pidFile),
	}
	ok, err := l.lock.TryLock()
	if err != nil {
		return nil, unusable(dir, err)
	}
	if !ok {
		return nil, &fault{is: ErrDirLocked, text: fmt.Sprintf(
			"directory %s is in use by %s: stop it, choose another directory, or connect to that server by its url", dir, l.holder())}
	}
	if err := os.WriteFile(l.pid, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		_ = l.lock.Unlock()
		return nil, unusable(dir, err)
	}
	return l, nil
}

// holder names the process that has the lock, as far as it told.
func (l *dirLock) holder() string {
	text, err := os.ReadFile(l.pid)
	pid := strings.TrimSpace(string(text))
	switch {
	case err != nil || pid == "":
		return "another server"
	case pid == strconv.Itoa(os.Getpid()):
		return "another server of this process"
	}
	return "process " + pid
}

func (l *dirLock) release() error {
	_ = os.Remove(l.pid)
	return l.lock.Unlock()
}

// errorDiskFull is Windows' own number; syscall.ENOSPC is an invented one there.
const errorDiskFull = syscall.Errno(112)

func unusable(dir string, err error) error {
	advice := "let this user write it"
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, errorDiskFull) {
		advice = "make room on its disk"
	}
	return &fault{is: ErrDirUnusable, errs: []error{err}, text: fmt.Sprintf(
		"directory %s cannot be used: %v: %s, or choose another one", dir, err, advice)}
}
