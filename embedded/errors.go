package embedded

import "errors"

var (
	// ErrConfig is a Config that cannot work. Its text lists all problems.
	ErrConfig = errors.New("embedded: the configuration cannot work")
	// ErrAddrInUse is a Config.Addr that somebody listens on.
	ErrAddrInUse = errors.New("embedded: the address is in use")
	// ErrDirLocked is a Config.Dir that another server uses now.
	ErrDirLocked = errors.New("embedded: the directory is in use")
	// ErrDirUnusable is a Config.Dir that cannot be made, read or written.
	ErrDirUnusable = errors.New("embedded: the directory cannot be used")
	// ErrDirMode is a Config.Dir that was made by a server in another mode:
	// alone, or in a cluster.
	ErrDirMode = errors.New("embedded: the directory belongs to another mode")
	// ErrNotReady is a JetStream that could not be written in time.
	ErrNotReady = errors.New("embedded: JetStream is not ready")
	// ErrFailed is a server that could not start or go on. The text is the
	// server's.
	ErrFailed = errors.New("embedded: the server failed")
	// ErrNotClustered is a Server that is not one of a cluster in this process.
	ErrNotClustered = errors.New("embedded: the server is not one of a cluster")
	// ErrPeer is a server that cannot be removed from the cluster.
	ErrPeer = errors.New("embedded: the server cannot be removed")
	// ErrBackup is a backup that could not be written, read or restored.
	ErrBackup = errors.New("embedded: the backup failed")
	// ErrClosed is a Server that was closed.
	ErrClosed = errors.New("embedded: the server is closed")
)

// fault is a sentinel with a text of its own, and what else it is.
type fault struct {
	is   error // a sentinel of this package; its text is not repeated
	text string
	errs []error
}

func (f *fault) Error() string   { return "embedded: " + f.text }
func (f *fault) Unwrap() []error { return append([]error{f.is}, f.errs...) }
