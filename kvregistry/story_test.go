package kvregistry

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// stories tells each file of a folder of testdata: one line per step,
//
//	<what is heard> [-> <what must come of it>]
//
// to a fresh listener, which returns what came of it.
func stories(t *testing.T, folder string, fresh func(testing.TB) (hear func(words []string) string)) {
	files, err := filepath.Glob(filepath.Join("testdata", folder, "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatal("no stories", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			f, err := os.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			hear := fresh(t)
			lines := bufio.NewScanner(f)
			for n := 1; lines.Scan(); n++ {
				line, _, _ := strings.Cut(lines.Text(), "#")
				line, want, _ := strings.Cut(line, "->")
				words := strings.Fields(line)
				if len(words) == 0 {
					continue
				}
				if got := hear(words); got != strings.Join(strings.Fields(want), " ") {
					t.Fatalf("%s:%d: %s\n got  %q\n want %q", file, n, line, got, strings.TrimSpace(want))
				}
			}
		})
	}
}

// testdata/table/README has the vocabulary.
func TestTableStories(t *testing.T) {
	stories(t, "table", func(t testing.TB) func([]string) string {
		table := newTable()
		return func(words []string) string {
			var through uint64
			anew := false
			var changes []change
			for _, w := range words[1:] {
				if n, ok := strings.CutPrefix(w, "through="); ok {
					through = number(t, n)
				} else if w == "anew" {
					anew = true
				} else {
					changes = append(changes, message(t, w))
				}
			}
			var events []Event
			gap := false
			switch words[0] {
			case "feed":
				for _, c := range changes {
					es, g := table.delta(c)
					events, gap = append(events, es...), gap || g
				}
			case "catchup":
				events = table.catchUp(changes, through)
			case "snapshot":
				events = table.rebase(changes, through, anew)
			case "sees":
				return seen(table.view(false))
			default:
				t.Fatalf("what is %q?", words[0])
			}
			out := told(events)
			if gap {
				out = append(out, "gap")
			}
			return strings.Join(out, ", ")
		}
	})
}

func number(t testing.TB, text string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// message reads <revision>:<id>[.<incarnation>]=<state>[,<detail>]...
func message(t testing.TB, text string) change {
	t.Helper()
	revision, rest, ok := strings.Cut(text, ":")
	who, what, ok2 := strings.Cut(rest, "=")
	if !ok || !ok2 {
		t.Fatalf("what is %q?", text)
	}
	id, life, _ := strings.Cut(who, ".")
	incarnation := uint64(0)
	if life != "" {
		incarnation = number(t, life)
	}
	details := strings.Split(what, ",")
	c := change{id: id, revision: number(t, revision)}
	switch details[0] {
	case "deleted":
		c.gone = true
		return c
	case "rubbish":
		c.data = []byte("rubbish")
		return c
	}
	var edits []func(*record)
	for _, d := range details[1:] {
		switch key, value, _ := strings.Cut(d, ":"); key {
		case "reason":
			edits = append(edits, because(Reason(value)))
		case "meta":
			edits = append(edits, meta(value))
		case "before":
			life, reason, _ := strings.Cut(value, "/")
			edits = append(edits, after(number(t, life), Reason(reason)))
		default:
			t.Fatalf("what is %q?", d)
		}
	}
	return put(t, id, c.revision, incarnation, State(details[0]), edits...)
}

func seen(v View) string {
	words := []string{fmt.Sprintf("%d:", v.Revision)}
	for _, m := range slices.Concat(v.Members, v.Offline) {
		word := fmt.Sprintf("%s.%d", m.ID, m.Incarnation)
		if m.Reason != "" {
			word += "/" + string(m.Reason)
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

// testdata/ring/README has the vocabulary.
func TestRingStories(t *testing.T) {
	stories(t, "ring", func(t testing.TB) func([]string) string {
		r := newRing()
		return func(words []string) string {
			switch words[0] {
			case "joins", "light":
				for _, id := range words[1:] {
					r.add(id, words[0] == "joins")
				}
			case "ends":
				for _, id := range words[1:] {
					r.remove(id)
				}
			case "watchers":
				return strings.Join(r.watchers(words[1], watchersPerMember), " ")
			case "wards":
				return strings.Join(r.wards(words[1], watchersPerMember), " ")
			default:
				t.Fatalf("what is %q?", words[0])
			}
			return ""
		}
	})
}
