package loss_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// story is a history in few words: nodes a and b in zone x, c in zone y. a and
// b have joined at 0, c at 5.
func story() *history {
	h := newHistory(map[string]string{"a": "x", "b": "x", "c": "y"})
	h.there = map[string]int64{"a": 0, "b": 0, "c": 5}
	return h
}

// sent adds a message from a, sent at 10 and stored by 20, or as o says.
func (h *history) sent(t target, o outcome, do deed) *history { return h.sentAt(t, o, do, 10, 20) }

func (h *history) sentAt(t target, o outcome, do deed, from, to int64) *history {
	h.add(entry{Send: &send{ID: "m", From: "a", Target: t, Do: do, At: from}})
	if o != "" {
		h.add(entry{Result: &result{ID: "m", Outcome: o, At: to}})
	}
	return h
}

func (h *history) by(nodes string) *history {
	for node := range strings.FieldsSeq(nodes) {
		h.add(entry{Handled: &handled{ID: "m", Node: node, Attempt: 1}})
	}
	return h
}

func (h *history) deadAt(nodes string) *history {
	for node := range strings.FieldsSeq(nodes) {
		count(h.dead, "m", node)
	}
	return h
}

func TestCheckerAcceptsWhatIsPromised(t *testing.T) {
	for name, h := range map[string]*history{
		"nothing":                          story(),
		"to one":                           story().sent(target{Kind: toNode, IDs: []string{"b"}}, stored, succeed).by("b"),
		"twice":                            story().sent(target{Kind: toAny}, stored, succeed).by("b b c"),
		"dead":                             story().sent(target{Kind: toAny}, stored, fail).deadAt("c"),
		"dead and handled":                 story().sent(target{Kind: toAny}, stored, succeed).by("b").deadAt("c"),
		"refused":                          story().sent(target{Kind: toAny}, refused, succeed),
		"unknown, handled":                 story().sent(target{Kind: toAny}, unsure, succeed).by("b"),
		"unknown, not handled":             story().sent(target{Kind: toAll}, unsure, succeed),
		"the sender died":                  story().sent(target{Kind: toAll}, "", succeed).by("c"),
		"all":                              story().sent(target{Kind: toAll}, stored, succeed).by("a b").deadAt("c"),
		"all, one was joining":             story().sentAt(target{Kind: toAll}, stored, succeed, 4, 6).by("a b"),
		"others":                           story().sent(target{Kind: toOthers}, stored, succeed).by("b c"),
		"nodes":                            story().sent(target{Kind: toNodes, IDs: []string{"a", "c"}}, stored, succeed).by("a c"),
		"where":                            story().sent(target{Kind: allWhere, Zone: "x"}, stored, succeed).by("a b"),
		"any where":                        story().sent(target{Kind: anyWhere, Zone: "y"}, stored, succeed).by("c"),
		"fails once, which the log omits":  story().sent(target{Kind: toAny}, stored, failOnce).by("b"),
		"fails at all nodes, sent to many": story().sent(target{Kind: toAll}, stored, fail).deadAt("a b c"),
		"mail for one, unsure":             story().sentAt(target{Kind: toNode, IDs: []string{"c"}}, unsure, succeed, 10, 20),
	} {
		for _, complaint := range check(h) {
			t.Errorf("%s: %s", name, complaint)
		}
	}
}

// TestCheckerComplains: every way in which a promise can be broken is seen, and
// once.
func TestCheckerComplains(t *testing.T) {
	orphan := story().by("a")
	unsent := story()
	unsent.add(entry{Result: &result{ID: "m", Outcome: stored}})
	for name, test := range map[string]struct {
		h    *history
		want string
	}{
		"lost, to one":                     {story().sent(target{Kind: toNode, IDs: []string{"b"}}, stored, succeed), "neither handled nor a dead letter"},
		"lost, to any":                     {story().sent(target{Kind: toAny}, stored, succeed), "neither handled nor a dead letter"},
		"lost, to any where":               {story().sent(target{Kind: anyWhere, Zone: "x"}, stored, succeed), "neither handled nor a dead letter"},
		"lost by one of all":               {story().sent(target{Kind: toAll}, stored, succeed).by("a c"), "dead letter at b"},
		"lost by one that has just joined": {story().sentAt(target{Kind: toAll}, stored, succeed, 5, 20).by("a b"), "dead letter at c"},
		"dead at another node":             {story().sent(target{Kind: toAll}, stored, succeed).by("a c c").deadAt("c"), "dead letter at b"},
		"lost by one of the others":        {story().sent(target{Kind: toOthers}, stored, succeed).by("c"), "dead letter at b"},
		"lost by one of the nodes":         {story().sent(target{Kind: toNodes, IDs: []string{"a", "b"}}, stored, succeed).by("a"), "dead letter at b"},
		"lost by one of the chosen":        {story().sent(target{Kind: allWhere, Zone: "x"}, stored, succeed).by("b"), "dead letter at a"},
		"refused and handled":              {story().sent(target{Kind: toAny}, refused, succeed).by("b"), "not delivered, and handled at b"},
		"refused and dead":                 {story().sent(target{Kind: toAny}, refused, fail).deadAt("b"), "not delivered, and a dead letter of b"},
		"at the wrong node":                {story().sent(target{Kind: toNode, IDs: []string{"b"}}, stored, succeed).by("b c"), "handled at c, which was not meant"},
		"at the sender":                    {story().sent(target{Kind: toOthers}, stored, succeed).by("a b c"), "handled at a, which was not meant"},
		"at a node not named":              {story().sent(target{Kind: toNodes, IDs: []string{"a"}}, unsure, succeed).by("b"), "handled at b, which was not meant"},
		"in the wrong zone":                {story().sent(target{Kind: anyWhere, Zone: "x"}, stored, succeed).by("c"), "handled at c, which was not meant"},
		"in the wrong zone, of many":       {story().sent(target{Kind: allWhere, Zone: "y"}, unsure, succeed).by("a"), "handled at a, which was not meant"},
		"dead at the wrong node":           {story().sent(target{Kind: toNode, IDs: []string{"b"}}, stored, fail).deadAt("a"), "a dead letter of a, which was not meant"},
		"at a node that is none":           {story().sent(target{Kind: toAny}, unsure, succeed).by("z"), "handled at z, which was not meant"},
		"handled where it fails":           {story().sent(target{Kind: toAny}, stored, fail).by("a"), "handled at a, where it fails"},
		"handled, never sent":              {orphan, "handled, and nobody sent it"},
		"dead, never sent":                 {story().deadAt("a"), "dead, and nobody sent it"},
		"a result, never sent":             {unsent, "it has a result, and nobody sent it"},
	} {
		if got := check(test.h); len(got) != 1 || !strings.Contains(got[0], test.want) {
			t.Errorf("%s: %q, want one with %q", name, got, test.want)
		}
	}
}

// TestLogThatIsCutShort: a process that is killed while it writes leaves half a
// line, which does not count.
func TestLogThatIsCutShort(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	whole := `{"Handled":{"ID":"m1","Node":"a","Attempt":1}}` + "\n"
	if err := os.WriteFile(file, []byte(whole+`{"Handled":{"ID":"m2","No`), 0o600); err != nil {
		t.Fatal(err)
	}
	h := story()
	if err := h.read(file); err != nil || len(h.handled) != 1 || h.handled["m1"]["a"] != 1 {
		t.Errorf("%v %v", err, h.handled)
	}
	if err := os.WriteFile(file, []byte("nonsense\n"+whole), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := h.read(file); err == nil {
		t.Error("nonsense is passed over")
	}
}
