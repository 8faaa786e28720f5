package provision

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// permissionSubject is where a server of version 2.10 or newer says what the
// user who asks may do.
const permissionSubject = "$SYS.REQ.USER.INFO"

// permissionLimit bounds the question: it is a convenience.
const permissionLimit = time.Second

// Needs are the subjects that a node cannot do without. Each is one that is
// used as it stands, or, with wildcards, all of those that it stands for.
type Needs struct{ Publish, Subscribe []string }

// Permissions are what a user may do. Absent lists grant everything.
type Permissions struct{ Publish, Subscribe subjects }

// AskPermissions asks the server what the user of nc may do. A user who may not
// ask, or a server that does not tell, is taken to have every permission: what
// is missing is then named when it is used. ErrDenied means that no answer can
// be received at all.
func AskPermissions(ctx context.Context, nc *nats.Conn) (p Permissions, err error) {
	ctx, cancel := context.WithTimeout(ctx, permissionLimit)
	defer cancel()
	if err := inboxDenied(ctx, nc); err != nil {
		return Permissions{}, err
	}
	var reply *nats.Msg
	err = Guard(ctx, nc, permissionSubject, func(ctx context.Context) (err error) {
		reply, err = nc.RequestWithContext(ctx, permissionSubject, nil)
		return err
	})
	if err != nil {
		return Permissions{}, nil //nolint:nilerr // nobody tells, so nothing is known to be missing
	}
	if p, err = decodePermissions(reply.Data); err != nil {
		return Permissions{}, nil //nolint:nilerr // as above
	}
	return p, nil
}

// inboxDenied returns ErrDenied when the user may not subscribe where answers
// arrive. The server says so once, and the next refusal would hide it.
func inboxDenied(ctx context.Context, nc *nats.Conn) error {
	inbox := nc.NewInbox()
	sub, err := nc.Subscribe(inbox, func(*nats.Msg) {})
	if err != nil {
		return nil //nolint:nilerr // the connection is lost: what follows says so
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := nc.FlushWithContext(ctx); err != nil {
		return nil //nolint:nilerr // as above
	}
	return refusal(nc, inbox, nc.LastError())
}

type subjects struct{ Allow, Deny []string }

func decodePermissions(data []byte) (Permissions, error) {
	var reply struct {
		Data struct {
			Permissions Permissions `json:"permissions"`
		} `json:"data"`
	}
	err := json.Unmarshal(data, &reply)
	return reply.Data.Permissions, err
}

// Lack returns ErrDenied with all subjects of need that are not granted, together.
func (p Permissions) Lack(need Needs) error {
	var what []string
	for _, side := range []struct {
		verb    string
		granted subjects
		need    []string
	}{{"publish", p.Publish, need.Publish}, {"subscribe", p.Subscribe, need.Subscribe}} {
		var missing []string
		for _, subject := range side.need {
			if !side.granted.grant(subject) {
				missing = append(missing, subject)
			}
		}
		if len(missing) > 0 {
			what = append(what, side.verb+" to "+strings.Join(missing, ", "))
		}
	}
	if len(what) == 0 {
		return nil
	}
	return fmt.Errorf("%w: this user may not %s: grant it", ErrDenied, strings.Join(what, "; nor "))
}

// grant tells whether all that subject stands for is allowed. When in doubt it
// is: several narrow grants may cover a wide need.
func (s subjects) grant(subject string) bool {
	covered := func(pattern string) bool { return covers(pattern, subject) }
	if slices.ContainsFunc(s.Deny, covered) {
		return false
	}
	return len(s.Allow) == 0 || slices.ContainsFunc(s.Allow, covered)
}

// covers tells whether pattern matches everything that subject matches. A
// pattern of a subscription may name a queue group behind a space: it is looked
// at without.
func covers(pattern, subject string) bool {
	pattern, _, _ = strings.Cut(pattern, " ")
	p, s := strings.Split(pattern, "."), strings.Split(subject, ".")
	for i, token := range p {
		switch {
		case i >= len(s):
			return false
		case token == ">":
			return true
		case token == "*" && s[i] != ">":
		case token != s[i]:
			return false
		}
	}
	return len(p) == len(s)
}
