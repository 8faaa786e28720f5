package dial

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// failure is a text for people over errors for errors.Is.
type failure struct {
	text string
	errs []error
}

func (f *failure) Error() string   { return f.text }
func (f *failure) Unwrap() []error { return f.errs }

// loginErrors are a server's refusals of a login.
var loginErrors = []error{
	nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked, nats.ErrAccountAuthExpired,
}

// optionErrors are contradictions in the options: waiting does not mend them.
var optionErrors = []error{
	nats.ErrNkeyAndUser, nats.ErrNkeyButNoSigCB, nats.ErrUserButNoSigCB, nats.ErrNoUserCB, nats.ErrNkeysNotSupported,
	nats.ErrTokenAlreadySet, nats.ErrUserInfoAlreadySet, nats.ErrMultipleTLSConfigs, nats.ErrClientCertOrRootCAsRequired,
	nats.ErrBadTimeout, nats.ErrMixingWebsocketSchemes, nats.ErrWebSocketHeadersAlreadySet, nats.ErrNoEchoNotSupported,
}

// hopeless tells that waiting does not mend err.
func hopeless(err error) bool {
	if isAny(err, loginErrors) || isAny(err, optionErrors) || isTLS(err) {
		return true
	}
	// A file of credentials or certificates that is not there.
	return errors.Is(err, fs.ErrNotExist)
}

func isAny(err error, targets []error) bool {
	for _, t := range targets {
		if errors.Is(err, t) {
			return true
		}
	}
	return false
}

// isTLS tells that the two sides cannot agree on TLS. A connection that was
// lost during the handshake is not among these.
func isTLS(err error) bool {
	if errors.Is(err, nats.ErrSecureConnWanted) || errors.Is(err, nats.ErrSecureConnRequired) {
		return true
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return true
	}
	_, ok := errors.AsType[tls.AlertError](err)
	return ok
}

// refused explains an error that ended the wait early.
func (t target) refused(err error) error {
	var text string
	switch {
	case isAny(err, loginErrors):
		text = fmt.Sprintf("NATS at %s refuses the login: %v: check user, password, token or credentials", t.shown, err)
	case isTLS(err):
		text = fmt.Sprintf("no TLS with NATS at %s: %v: check certificates, RootCAs and the scheme of the url", t.shown, err)
	default:
		text = fmt.Sprintf("cannot connect to NATS at %s: %v", t.shown, err)
	}
	return &failure{text: text, errs: []error{err}}
}

// gaveUp explains that ctx ended before the first connection.
func (t target) gaveUp(ctx context.Context, start time.Time, last error) error {
	waited := time.Since(start).Round(time.Millisecond)
	if waited > time.Second {
		waited = waited.Round(100 * time.Millisecond)
	}
	cause := context.Cause(ctx)
	errs := []error{ctx.Err(), cause}
	if last != nil {
		errs = append(errs, last)
	}
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		text := fmt.Sprintf("gave up waiting for NATS at %s after %v: %v", t.shown, waited, cause)
		if last != nil {
			text += ": last attempt: " + last.Error()
		}
		return &failure{text: text, errs: errs}
	}
	return &failure{
		text: fmt.Sprintf("no NATS server at %s after waiting %v: %s: start one there, or correct the url", t.shown, waited, reason(last)),
		errs: append(errs, nats.ErrNoServers),
	}
}

// reason says in words why the last attempt failed.
func reason(err error) string {
	switch {
	case err == nil:
		return "no answer"
	case errors.Is(err, nats.ErrNoInfoReceived):
		return "what listens there is not a NATS server"
	case errors.Is(err, nats.ErrTimeout), errors.Is(err, os.ErrDeadlineExceeded) && !isDial(err):
		return "it takes connections but does not speak as a NATS server"
	case errors.Is(err, io.EOF):
		return "it takes connections and closes them again"
	}
	return err.Error()
}

func isDial(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

func joined(errs []error) string {
	texts := make([]string, len(errs))
	for i, err := range errs {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}
