package hosts

import (
	"strings"
	"testing"
	"time"
)

// aMinute is a minute in which nothing happens.
var aMinute = entry{}

// story is a history in seconds since its beginning.
func story(entries ...entry) []entry {
	base := time.Unix(1_000_000, 0)
	out := []entry{
		{What: view, Node: "a", View: []string{"a", "b"}},
		{What: view, Node: "b", View: []string{"a", "b"}},
	}
	for i := range out {
		out[i].At = base.Add(time.Hour)
	}
	at := base
	for _, e := range entries {
		at = at.Add(time.Second)
		if e.What == "" {
			at = at.Add(time.Minute)
			continue
		}
		e.At = at
		out = append(out, e)
	}
	return out
}

func TestCheckerFindsWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		history []entry
		want    string // empty: nothing is wrong
	}{
		"nothing happened":     {story(), ""},
		"stored and handled":   {story(entry{What: stored, Node: "a", ID: "1", To: "b"}, entry{What: handled, Node: "b", ID: "1"}), ""},
		"handled twice":        {story(entry{What: stored, Node: "a", ID: "1", To: "any"}, entry{What: handled, Node: "b", ID: "1"}, entry{What: handled, Node: "a", ID: "1"}), ""},
		"lost message":         {story(entry{What: stored, Node: "a", ID: "1", To: "b"}), "nobody handled it"},
		"dead letter":          {story(entry{What: stored, Node: "a", ID: "1", To: "b"}, entry{What: dead, ID: "1"}), ""},
		"refused and handled":  {story(entry{What: refused, Node: "a", ID: "1", To: "b"}, entry{What: handled, Node: "b", ID: "1"}), "not delivered"},
		"unclear and handled":  {story(entry{What: unclear, Node: "a", ID: "1", To: "b"}, entry{What: handled, Node: "b", ID: "1"}), ""},
		"unclear and not":      {story(entry{What: unclear, Node: "a", ID: "1", To: "b"}), ""},
		"one of all missed it": {story(entry{What: stored, Node: "a", ID: "1", To: "all"}, entry{What: handled, Node: "b", ID: "1"}), "a never handled it"},
		"all have it":          {story(entry{What: stored, Node: "a", ID: "1", To: "all"}, entry{What: handled, Node: "b", ID: "1"}, entry{What: handled, Node: "a", ID: "1"}), ""},
		"again after its ack": {story(entry{What: stored, Node: "a", ID: "1", To: "any"}, entry{What: handled, Node: "b", ID: "1"},
			entry{What: confirmed, Node: "b", ID: "1"}, entry{What: handled, Node: "a", ID: "1"}), "after its ack by b was confirmed"},
		"all, acked by another": {story(entry{What: stored, Node: "a", ID: "1", To: "all"}, entry{What: handled, Node: "b", ID: "1"},
			entry{What: confirmed, Node: "b", ID: "1"}, entry{What: handled, Node: "a", ID: "1"}), ""},
		"false death": {story(entry{What: joined, Node: "a", Whom: "b", Incarnation: 1}, entry{What: lost, Node: "a", Whom: "b", Incarnation: 1}), "nothing was ever done"},
		"death of a harmed one": {story(entry{What: joined, Node: "a", Whom: "b", Incarnation: 1}, entry{What: harmed, Node: "b"},
			entry{What: lost, Node: "a", Whom: "b", Incarnation: 1}), ""},
		"death long after": {story(entry{What: joined, Node: "a", Whom: "b", Incarnation: 1}, entry{What: harmed, Node: "b"}, entry{What: healed, Node: "b"},
			aMinute, entry{What: lost, Node: "a", Whom: "b", Incarnation: 1}), "long after it was healed"},
		"its server harmed": {story(entry{What: joined, Node: "a", Whom: "b", Incarnation: 1}, entry{What: on, Node: "b", To: "s"}, entry{What: harmed, Node: "s"},
			entry{What: lost, Node: "a", Whom: "b", Incarnation: 1}), ""},
		"another server harmed": {story(entry{What: joined, Node: "a", Whom: "b", Incarnation: 1}, entry{What: on, Node: "b", To: "s"}, entry{What: on, Node: "b", To: "r"},
			entry{What: harmed, Node: "s"}, entry{What: lost, Node: "a", Whom: "b", Incarnation: 1}), "nothing was ever done"},
		"its server harmed long ago": {story(entry{What: joined, Node: "a", Whom: "b", Incarnation: 1}, entry{What: on, Node: "b", To: "s"}, entry{What: harmed, Node: "s"},
			entry{What: healed, Node: "s"}, aMinute, entry{What: lost, Node: "a", Whom: "b", Incarnation: 1}), "long after it was healed"},
		"long away from its harmed server": {story(entry{What: joined, Node: "a", Whom: "b", Incarnation: 1}, entry{What: on, Node: "b", To: "s"}, entry{What: harmed, Node: "s"},
			entry{What: on, Node: "b", To: "r"}, aMinute, entry{What: lost, Node: "a", Whom: "b", Incarnation: 1}), "long after it was healed"},
		"two endings": {story(entry{What: joined, Node: "a", Whom: "b", Incarnation: 1}, entry{What: left, Node: "a", Whom: "b", Incarnation: 1},
			entry{What: left, Node: "a", Whom: "b", Incarnation: 1}), "end twice"},
		"an ending without a beginning": {story(entry{What: left, Node: "a", Whom: "b", Incarnation: 1}), "not its beginning"},
		"joined again":                  {story(entry{What: joined, Node: "a", Whom: "b", Incarnation: 1}, entry{What: joined, Node: "a", Whom: "b", Incarnation: 1}), "join after"},
		"no view":                       {story()[1:], "a did not show its view"},
	} {
		wrong := strings.Join(check(c.history, []string{"b", "a"}), "\n")
		switch {
		case c.want == "" && wrong != "":
			t.Errorf("%s: complains %s", name, wrong)
		case !strings.Contains(wrong, c.want):
			t.Errorf("%s: says %q, want %q", name, wrong, c.want)
		}
	}
	bad := story()
	bad[0].View = []string{"a"}
	if wrong := check(bad, []string{"a", "b"}); len(wrong) != 1 || !strings.Contains(wrong[0], "a sees [a]") {
		t.Errorf("a view that differs: %q", wrong)
	}
}
