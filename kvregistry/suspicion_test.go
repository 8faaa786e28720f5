package kvregistry

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The files in testdata/guard tell stories, one line per moment:
//
//	<time> <what the guard hears> [-> <what it must want, in order>]
//
// What is not expected must not happen: before each line the guard gets every
// tick that is due, and may want nothing there. testdata/guard/README has the
// vocabulary.
func TestGuardStories(t *testing.T) {
	files, err := filepath.Glob("testdata/guard/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no stories", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { tell(t, file) })
	}
}

func tell(t *testing.T, file string) {
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	g := newGuard()
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line, _, _ := strings.Cut(lines.Text(), "#")
		line, want, _ := strings.Cut(line, "->")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		at, err := time.ParseDuration(words[0])
		if err != nil {
			t.Fatalf("%s:%d: %v", file, n, err)
		}
		now := start.Add(at)
		for {
			due, ok := g.nextTick()
			if words[1] == "late" || !ok || !due.Before(now) {
				break
			}
			if early := g.tick(due); len(early) > 0 {
				t.Fatalf("%s:%d: at %v already: %s", file, n, due.Sub(start), said(early))
			}
		}
		got := append(hear(t, g, words[1:], now), g.tick(now)...)
		if said(got) != strings.Join(strings.Fields(want), " ") {
			t.Fatalf("%s:%d: %s\n got  %q\n want %q", file, n, line, said(got), strings.TrimSpace(want))
		}
	}
}

// hear feeds one line to the guard.
func hear(t *testing.T, g *guard, words []string, now time.Time) []action {
	t.Helper()
	lives := func(words []string) (ls []life, grace time.Duration) {
		grace = minGrace
		for _, w := range words {
			if d, ok := strings.CutPrefix(w, "grace="); ok {
				grace, _ = time.ParseDuration(d)
				continue
			}
			id, incarnation, _ := strings.Cut(w, ".")
			n, err := strconv.ParseUint(incarnation, 10, 64)
			if err != nil {
				t.Fatalf("who is %q?", w)
			}
			ls = append(ls, life{id, n})
		}
		return ls, grace
	}
	ls, grace := lives(nil)
	switch {
	case words[0] == "stale":
		ls, grace = lives(words[2:])
	case len(words) > 1 && words[0] != "link":
		ls, grace = lives(words[1:])
	}
	turn := uint64(0)
	if len(ls) > 0 && g.suspects[ls[0]] != nil {
		turn = g.suspects[ls[0]].turn
		if words[0] == "stale" {
			words, turn = words[1:], turn-1
		}
	}
	switch words[0] {
	case "tick", "late":
	case "joined":
		g.begin(now)
	case "watch":
		keep := map[life]bool{}
		for _, l := range ls {
			keep[l] = true
		}
		g.keep(keep)
		for _, l := range ls {
			g.watch(suspect{life: l, grace: grace}, now)
		}
	case "advised":
		g.accuse(ls[0], grace, true, now)
	case "accused":
		g.accuse(ls[0], grace, false, now)
	case "alive":
		return g.answered(ls[0], turn, alive, now)
	case "nobody":
		return g.answered(ls[0], turn, nobody, now)
	case "silence":
		return g.answered(ls[0], turn, silence, now)
	case "muffled":
		return g.answered(ls[0], turn, muffled, now)
	case "dead-server":
		g.blamed(ls[0], true, now)
	case "live-server":
		g.blamed(ls[0], false, now)
	case "refuted":
		g.asked(ls[0], refuted, now)
	case "confirmed":
		g.asked(ls[0], confirmed, now)
	case "doubted":
		g.doubt(ls[0])
	case "worthless":
		g.asked(ls[0], worthless, now)
	case "unheard":
		g.asked(ls[0], unheard, now)
	case "void":
		return g.answered(ls[0], turn, void, now)
	case "tripped":
		g.inspected(ls[0], tripped, now)
	case "intact":
		g.inspected(ls[0], intact, now)
	case "unsure":
		g.inspected(ls[0], unsure, now)
	case "written":
		g.buried(ls[0], true, now)
	case "unwritten":
		g.buried(ls[0], false, now)
	case "ended":
		g.forget(ls[0])
	case "link":
		switch strings.Join(words[1:], " ") {
		case "down":
			g.link(false, false, now)
		case "up same":
			g.link(true, true, now)
		case "up other":
			g.link(true, false, now)
		default:
			t.Fatalf("link %q?", words[1:])
		}
	default:
		t.Fatalf("what is %q?", words[0])
	}
	return nil
}

func said(actions []action) string {
	var words []string
	for _, a := range actions {
		switch a.kind {
		case probeIt:
			words = append(words, fmt.Sprintf("probe %s.%d", a.life.id, a.life.incarnation))
		case inspectIt:
			words = append(words, fmt.Sprintf("inspect %s.%d", a.life.id, a.life.incarnation))
		case askIt:
			words = append(words, fmt.Sprintf("ask %s.%d", a.life.id, a.life.incarnation))
		case buryIt:
			words = append(words, fmt.Sprintf("bury %s.%d %s", a.life.id, a.life.incarnation, a.reason))
		}
	}
	return strings.Join(words, ", ")
}

// Between the wish for a verdict and its writing an answer may come, to a probe
// that waited where the writing waited too.
func TestLateAnswerLiftsAVerdict(t *testing.T) {
	g, now, l := newGuard(), time.Now(), life{"b", 7}
	silent := func() (actions []action) {
		for _, a := range g.tick(now) {
			now = now.Add(time.Second)
			actions = append(actions, g.answered(l, a.turn, silence, now)...)
		}
		return actions
	}
	g.watch(suspect{life: l, grace: minGrace}, now)
	for range 3 {
		if got := silent(); len(got) > 0 {
			g.asked(l, confirmed, now)
		}
	}
	if got := silent(); len(got) != 1 || got[0].kind != buryIt || !g.stands(l) {
		t.Fatalf("%v, and stands is %v", got, g.stands(l))
	}
	g.answered(l, g.suspects[l].turn-2, alive, now)
	if g.stands(l) {
		t.Error("the verdict stands")
	}
}
