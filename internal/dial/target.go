package dial

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
)

// target is where to connect.
type target struct {
	servers []string // for nats.go
	shown   string   // for people: without passwords and tokens
}

// parseTarget takes a comma-separated list of urls apart and reports all their
// problems together. nats.go itself takes any scheme and finds out late.
func parseTarget(list string) (target, error) {
	if strings.TrimSpace(list) == "" {
		list = nats.DefaultURL
	}
	var t target
	var shown []string
	var problems []string
	for raw := range strings.SplitSeq(list, ",") {
		raw = strings.TrimSpace(raw)
		if raw == "" {
			continue
		}
		u, problem := parseURL(raw)
		if problem != "" && strings.Contains(list, "@") && u == nil {
			problem = hidden
		}
		if problem != "" {
			problems = append(problems, problem)
			continue
		}
		t.servers = append(t.servers, raw)
		shown = append(shown, redacted(u))
	}
	if len(t.servers) == 0 && len(problems) == 0 {
		problems = append(problems, "no url in a list of commas")
	}
	if len(problems) > 0 {
		return target{}, fmt.Errorf("%s: use nats://host:port, tls://host:port, ws://host:port or wss://host:port",
			strings.Join(problems, "; "))
	}
	t.shown = strings.Join(shown, ", ")
	return t, nil
}

func parseURL(raw string) (u *url.URL, problem string) {
	full := raw
	if !strings.Contains(raw, "://") {
		full = "nats://" + raw
	}
	u, err := url.Parse(full)
	if err != nil {
		// The text of err has the url in it, and the url may have a password.
		if e, ok := err.(*url.Error); ok { //nolint:errorlint // url.Parse documents this very type
			err = e.Err
		}
		return nil, fmt.Sprintf("NATS url %q cannot be read: %v", raw, err)
	}
	// An @ outside the login is a login that was not percent-encoded.
	if strings.Contains(u.Host+u.Path+u.RawQuery+u.Fragment, "@") {
		return nil, hidden
	}
	switch u.Scheme {
	case "nats", "tls", "ws", "wss":
	default:
		return nil, fmt.Sprintf("NATS url %s has the scheme %q", redacted(u), u.Scheme)
	}
	if u.Hostname() == "" {
		return nil, fmt.Sprintf("NATS url %s has no host", redacted(u))
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.Atoi(p); err != nil || n < 1 || n > 65535 {
			return nil, fmt.Sprintf("NATS url %s has the port %q", redacted(u), p)
		}
	}
	return u, ""
}

// hidden is the problem of an url that cannot be read and may hold a secret.
const hidden = "a NATS url cannot be read (not shown, since it holds a login: percent-encode special characters in it)"

// redacted is u for people.
func redacted(u *url.URL) string {
	c := *u
	if c.User != nil {
		c.User = url.User("xxxxx") // a user without a password is a token
	}
	return c.String()
}

// Public returns url, or what Connect takes an empty one for, without logins.
// It is for showing and for passing on; entries that cannot be read are left out.
func Public(list string) string {
	t, err := parseTarget(list)
	if err != nil {
		return ""
	}
	var urls []string
	for _, s := range t.servers {
		u, problem := parseURL(s)
		if problem != "" {
			continue
		}
		u.User = nil
		if u.Port() == "" {
			u.Host = net.JoinHostPort(u.Hostname(), defaultPort(u.Scheme))
		}
		urls = append(urls, u.String())
	}
	return strings.Join(urls, ",")
}

func defaultPort(scheme string) string {
	switch scheme {
	case "ws":
		return "80"
	case "wss":
		return "443"
	}
	return "4222"
}
