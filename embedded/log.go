package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
)

// serverLog carries the server's log into a *slog.Logger and keeps what the
// server calls fatal: its own logger would end the process.
type serverLog struct {
	log   *slog.Logger           // nil = silent
	fatal chan error             // the first fatal error
	last  atomic.Pointer[string] // the latest error about other servers
}

func newServerLog(log *slog.Logger, name string) *serverLog {
	l := &serverLog{fatal: make(chan error, 1)}
	if log != nil {
		l.log = log.With("server", name)
	}
	return l
}

// debugging tells whether debug lines are worth making.
func (l *serverLog) debugging() bool {
	return l.log != nil && l.log.Enabled(context.Background(), slog.LevelDebug)
}

// warn is for this package's own words.
func (l *serverLog) warn(msg string, attrs ...slog.Attr) {
	if l.log != nil {
		l.log.LogAttrs(context.Background(), slog.LevelWarn, msg, attrs...)
	}
}

func (l *serverLog) put(level slog.Level, format string, args []any) {
	if l.log == nil || !l.log.Enabled(context.Background(), level) {
		return
	}
	l.log.Log(context.Background(), level, "nats-server: "+strings.TrimSpace(fmt.Sprintf(format, args...)))
}

// Noticef and its siblings implement the logger of nats-server.
func (l *serverLog) Noticef(format string, args ...any) { l.put(slog.LevelInfo, format, args) }
func (l *serverLog) Warnf(format string, args ...any)   { l.put(slog.LevelWarn, format, args) }
func (l *serverLog) Debugf(format string, args ...any)  { l.put(slog.LevelDebug, format, args) }
func (l *serverLog) Tracef(format string, args ...any)  { l.put(slog.LevelDebug, format, args) }

// Errorf keeps what the server says of its links to others, too.
func (l *serverLog) Errorf(format string, args ...any) {
	l.put(slog.LevelError, format, args)
	text := fmt.Sprintf(format, args...)
	if strings.HasSuffix(text, "handshake error: EOF") { // somebody looked whether the port is open, as missing does
		return
	}
	if slices.ContainsFunc(peerTroubles, func(t string) bool { return strings.Contains(text, t) }) {
		l.last.Store(&text)
	}
}

// peerTroubles are in those errors of nats-server about other servers that its
// operator can mend.
var peerTroubles = []string{"duplicate name", "route:", "Authorization", "cluster name", "TLS route"}

// aboutPeers returns the latest error about other servers, or nothing.
func (l *serverLog) aboutPeers() string {
	if text := l.last.Load(); text != nil {
		hint := ""
		if strings.Contains(*text, "duplicate name") {
			hint = ": give each server a Name and a Dir of its own, not a copy"
		}
		return "; the server's last word on it: " + *text + hint
	}
	return ""
}

// Fatalf records the error, with the errors among args to be found by errors.Is.
func (l *serverLog) Fatalf(format string, args ...any) {
	l.put(slog.LevelError, format, args)
	var errs []error
	for _, a := range args {
		if err, ok := a.(error); ok {
			errs = append(errs, err)
		}
	}
	err := &fault{is: ErrFailed, text: fmt.Sprintf(format, args...), errs: []error{errors.Join(errs...)}}
	if len(errs) == 0 {
		err.errs = nil
	}
	select {
	case l.fatal <- err:
	default:
	}
}

// failed returns the first fatal error, once.
func (l *serverLog) failed() error {
	select {
	case err := <-l.fatal:
		return err
	default:
		return nil
	}
}
