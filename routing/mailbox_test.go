package routing

import (
	"strings"
	"testing"
	"time"
)

func TestFateOfMail(t *testing.T) {
	view, _ := newPeers().with([]Change{
		up("a", 1, "work"), up("b", 1, "work"), lost(up("gone", 1, "work", "rare")),
	})
	zone := parseSelector("!zone")
	nobody := parseSelector("zone=a")
	box := func(standing Standing, policy string) mailbox {
		return mailbox{id: "gone", standing: standing, peer: Peer{ID: "gone", Kinds: []string{"rare"}, Mail: policy}}
	}
	const day = 24 * time.Hour
	for _, c := range []struct {
		box   mailbox
		kind  string
		where *selector
		age   time.Duration
		want  string // wait, any, other, or what the reason of the dead letter has
	}{
		{box(Absent, "keep"), "work", nil, day, "wait"},
		{box(Absent, ""), "work", nil, day, "wait"},
		{box(Absent, "keep"), "work", zone, 0, "other"},
		{box(Absent, "keep"), "work", nobody, day, "wait"},
		{box(Absent, "reroute"), "work", nil, 0, "any"},
		{box(Absent, "reroute"), "rare", nil, 0, "wait"},
		{box(Absent, "reroute"), "work", zone, 0, "other"},
		{box(Absent, "reroute"), "work", nobody, 0, "wait"},
		{box(Absent, "dead-letter"), "work", nil, 0, "gone"},
		{box(Absent, "dead-letter"), "work", zone, 0, "other"},
		{box(Absent, "dead-letter"), "work", nobody, 0, `matches "zone=a"`},
		{box(Forgotten, ""), "work", nil, 0, "not remembered"},
		{box(Forgotten, ""), "work", zone, 0, "other"},
		{box(Forgotten, ""), "work", nobody, 0, `matches "zone=a"`},
		{box(Present, "keep"), "rare", nil, 99 * day, "wait"}, // its own
		{box(Present, "keep"), "work", nil, day, "wait"},
		{box(Present, "keep"), "work", nil, 4 * day, "any more"},
		{box(Present, "reroute"), "work", nil, 0, "any"},
		{box(Present, "dead-letter"), "work", nil, 0, "any more"},
		{box(Unsure, "dead-letter"), "work", nil, 99 * day, "wait"},
		{mailbox{kinds: []string{"work"}}, "work", nil, 99 * day, "wait"}, // somebody handles it
		{mailbox{kinds: []string{"rare"}}, "rare", nil, day, "wait"},
		{mailbox{kinds: []string{"rare"}}, "rare", nil, 4 * day, "nobody handles rare"},
	} {
		f := c.box.fate(c.kind, c.where, c.age, 3*day, view, 0)
		got := "wait"
		switch {
		case f.to == "a" || f.to == "b":
			got = "other"
		case f.to != "":
			got = "to " + f.to
		case f.any:
			got = "any"
		case f.dead != nil:
			got = f.dead.Error()
		}
		if f.dead == nil && got != c.want || f.dead != nil && !strings.Contains(got, c.want) {
			t.Errorf("%v %q: %s after %v, selector %v: %s, want %s", c.box.standing, c.box.peer.Mail, c.kind, c.age, c.where, got, c.want)
		}
	}
}
