package provision

import (
	"errors"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/natstest"
)

func TestCovers(t *testing.T) {
	for _, tc := range []struct {
		pattern, subject string
		want             bool
	}{
		{"a.b", "a.b", true},
		{"a.b", "a.c", false},
		{"a.b", "a.b.c", false},
		{"a.b.c", "a.b", false},
		{"a.*", "a.b", true},
		{"a.*", "a.*", true},
		{"a.*", "a.>", false},
		{"a.*", "a.b.c", false},
		{"a.b", "a.*", false},
		{"a.>", "a", false},
		{"a.>", "a.b", true},
		{"a.>", "a.b.c", true},
		{"a.>", "a.>", true},
		{"a.>", "a.*.c", true},
		{"a.b.>", "a.>", false},
		{">", "a.>", true},
		{"*.b", "a.b", true},
		{"a.b q", "a.b", true},
	} {
		if got := covers(tc.pattern, tc.subject); got != tc.want {
			t.Errorf("covers(%q, %q) = %v", tc.pattern, tc.subject, got)
		}
	}
}

// A real server says what a user may do; all that is missing is named at once.
func TestPermissionsNameAllThatIsMissing(t *testing.T) {
	s := natstest.Start(t, natstest.ConfigText(`authorization { users: [
		{user: all, password: p}
		{user: some, password: p, permissions: {publish: ["a.>", "$SYS.REQ.USER.INFO"], subscribe: ["_INBOX.>", "c.*"]}}
		{user: but, password: p, permissions: {publish: {deny: ["b", "c.>"]}}}
		{user: silent, password: p, permissions: {publish: ["a.>"]}}
	] }`))
	need := Needs{Publish: []string{"a.x", "b", "c.x"}, Subscribe: []string{"c.*", "d.*"}}
	for user, want := range map[string]string{
		"all":    "",
		"some":   "may not publish to b, c.x; nor subscribe to d.*: grant",
		"but":    "may not publish to b, c.x: grant",
		"silent": "",
	} {
		nc := natstest.Dial(t, s.URL(), nats.UserInfo(user, "p"))
		granted, err := AskPermissions(t.Context(), nc)
		if err != nil {
			t.Fatal(err)
		}
		err = granted.Lack(need)
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", user, err)
		case want != "" && (!errors.Is(err, ErrDenied) || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %q", user, err, want)
		}
	}
}
