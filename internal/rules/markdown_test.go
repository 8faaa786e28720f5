package rules

import (
	"encoding/json"
	"go/parser"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func markdown() []string {
	var out []string
	for _, name := range paths() {
		if path.Ext(name) == ".md" && !strings.Contains(name, "testdata/") {
			out = append(out, name)
		}
	}
	return out
}

var testName = regexp.MustCompile("`((?:Test|Example|Fuzz|Benchmark)[A-Z_]?[A-Za-z0-9_]*)(?:/[^`]*)?`")

// TestNamedTestsExist: a test that a document names is in the tree.
func TestNamedTestsExist(t *testing.T) {
	tests := testNames()
	for _, name := range markdown() {
		for _, m := range testName.FindAllStringSubmatch(read(t, name), -1) {
			if m[1] != "TestMain" && m[1] != "TestXxx" && tests[m[1]] == nil {
				t.Errorf("%s names %s, which does not exist", name, m[1])
			}
		}
	}
}

// TestPromisesNameTheirTests: every row of a table whose last column is headed
// "Test" names one.
func TestPromisesNameTheirTests(t *testing.T) {
	for _, name := range []string{"docs/guarantees.md", "docs/failures.md"} {
		rows, inside := 0, false
		for line := range strings.Lines(read(t, name)) {
			cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
			last := strings.TrimSpace(cells[len(cells)-1])
			switch {
			case !strings.HasPrefix(line, "|"):
				inside = false
			case last == "Test":
				inside = true
			case inside && strings.Trim(last, "-: ") != "":
				rows++
				if !testName.MatchString(last) {
					t.Errorf("%s: no test shows: %s", name, strings.TrimSpace(cells[0]))
				}
			case inside && last == "":
				t.Errorf("%s: no test shows: %s", name, strings.TrimSpace(cells[0]))
			}
		}
		if rows == 0 {
			t.Errorf("%s has no table of promises", name)
		}
	}
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ +(.*)$`)
	fence   = regexp.MustCompile("(?s)\n```.*?\n```")
	noSlug  = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// TestLinksResolve: relative links lead to a file, and to a heading in it.
func TestLinksResolve(t *testing.T) {
	all := paths()
	for _, name := range markdown() {
		for _, m := range link.FindAllStringSubmatch(fence.ReplaceAllString(read(t, name), ""), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			target, anchor, _ := strings.Cut(m[1], "#")
			file := name
			if target != "" {
				file = path.Join(path.Dir(name), target)
			}
			if _, err := os.Stat(filepath.Join(root, file)); err != nil {
				t.Errorf("%s: %s leads nowhere", name, m[1])
				continue
			}
			if anchor == "" || !slices.Contains(all, file) {
				continue
			}
			var slugs []string
			for _, h := range heading.FindAllStringSubmatch(read(t, file), -1) {
				slugs = append(slugs, strings.ReplaceAll(noSlug.ReplaceAllString(strings.ToLower(strings.TrimSpace(h[1])), ""), " ", "-"))
			}
			if !slices.Contains(slugs, anchor) {
				t.Errorf("%s: %s has no heading #%s", name, file, anchor)
			}
		}
	}
}

// machinePath is a path that exists on somebody's machine only. The pattern is
// written so that it does not find itself.
var machinePath = regexp.MustCompile(`(^|[^A-Za-z0-9_.*>-])/(w[o]rk|r[o]ot|h[o]me)/[A-Za-z0-9_.-]`)

// TestNoMachinePaths: no file knows where somebody keeps their things.
func TestNoMachinePaths(t *testing.T) {
	for _, name := range paths() {
		for i, line := range strings.Split(read(t, name), "\n") {
			if machinePath.MatchString(line) {
				t.Errorf("%s:%d: a path of somebody's machine: %.100s", name, i+1, line)
			}
		}
	}
}

// conflict is what a merge leaves where it did not know what to do.
var conflict = regexp.MustCompile(`(?m)^(<{7}|={7}|>{7})( .*)?$`)

// TestNoConflictMarkers: no merge was left half-way.
func TestNoConflictMarkers(t *testing.T) {
	for _, name := range paths() {
		if m := conflict.FindString(read(t, name)); m != "" {
			t.Errorf("%s: %q is left of a merge", name, m)
		}
	}
}

// TestDecisionsListDependencies: docs/decisions.md says of every direct
// dependency why it is there, and of no other.
func TestDecisionsListDependencies(t *testing.T) {
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	if err := json.Unmarshal([]byte(goCommand(t, "mod", "edit", "-json")), &mod); err != nil {
		t.Fatal(err)
	}
	required := map[string]bool{}
	for _, r := range mod.Require {
		if !r.Indirect {
			required[r.Path] = true
		}
	}
	listed := map[string]bool{}
	row := regexp.MustCompile("^\\| `([^`]+)` \\|.*[a-z]")
	_, section, _ := strings.Cut(read(t, "docs/decisions.md"), "## Dependencies")
	section, _, _ = strings.Cut(section, "\n## ")
	for line := range strings.Lines(section) {
		if m := row.FindStringSubmatch(line); m != nil {
			listed[m[1]] = true
		}
	}
	for _, p := range slices.Sorted(maps.Keys(required)) {
		if !listed[p] {
			t.Errorf("docs/decisions.md has no line for %s", p)
		}
	}
	for _, p := range slices.Sorted(maps.Keys(listed)) {
		if !required[p] {
			t.Errorf("docs/decisions.md lists %s, which go.mod does not require", p)
		}
	}
}

// TestReadmeShowsTheQuickstart: the program in the README is the one in
// examples, to the letter, and short.
func TestReadmeShowsTheQuickstart(t *testing.T) {
	want := read(t, "examples/quickstart/main.go")
	_, block, _ := strings.Cut(read(t, "README.md"), "\n```go\n")
	got, _, _ := strings.Cut(block, "```")
	if got != want {
		t.Error("the first Go block of README.md is not examples/quickstart/main.go")
	}
	if n := strings.Count(want, "\n"); n >= 60 {
		t.Errorf("the quickstart has %d lines, under 60 wanted", n)
	}
}

// TestReadmeCommands: the first block of commands has the two that a reader is
// told to run, which .ci/run takes from there.
func TestReadmeCommands(t *testing.T) {
	_, block, _ := strings.Cut(read(t, "README.md"), "\n```sh\n")
	block, _, _ = strings.Cut(block, "```")
	var commands []string
	for line := range strings.Lines(block) {
		command, _, _ := strings.Cut(line, "#")
		commands = append(commands, strings.TrimSpace(command))
	}
	if want := []string{"go run ./examples/wordcount", "go test ./..."}; !slices.Equal(commands, want) {
		t.Errorf("README.md begins with the commands %q, want %q", commands, want)
	}
}

// TestGoBlocksParse: Go code in the documents is Go code.
func TestGoBlocksParse(t *testing.T) {
	block := regexp.MustCompile("(?s)\n```go\n(.*?)\n```")
	for _, name := range markdown() {
		for _, m := range block.FindAllStringSubmatch(read(t, name), -1) {
			src := m[1]
			_, whole := parser.ParseFile(fset, "", src, 0)
			_, body := parser.ParseFile(fset, "", "package p\nfunc _() {\n"+src+"\n}", 0)
			_, decls := parser.ParseFile(fset, "", "package p\n"+src, 0)
			if whole != nil && body != nil && decls != nil {
				t.Errorf("%s: a block is not Go: %v\n%s", name, body, src)
			}
		}
	}
}
