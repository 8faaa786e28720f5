package rules

import (
	"go/ast"
	"maps"
	"slices"
	"strings"
	"testing"
)

// lifetimes are the functions that may make a context of their own, and why.
var lifetimes = map[string]string{
	"routing.New":                  "the life of a router, which Close ends",
	"embedded.newServer":           "the life of a server, which Close ends",
	"embedded.serverLog.debugging": "nats-server logs without a context",
	"embedded.serverLog.put":       "nats-server logs without a context",
	"embedded.serverLog.warn":      "nats-server logs without a context",
	"embedded.Server.closeConns":   "Close has none, and bounds its flush by a time of its own",
	"kvregistry.newSession":        "the life of a membership, which Leave or Close ends",
	"kvregistry.store.relink":      "one unbroken time of the connection",
	"internal/dial.newGate":        "after the first connection nats.go dials for nobody in particular",
}

// TestContexts: a library function gets its context from its caller.
func TestContexts(t *testing.T) {
	used := map[string]bool{}
	for _, f := range files() {
		if !f.library() {
			continue
		}
		for _, pos := range f.uses("context", "Background", "TODO") {
			where := f.dir() + "." + f.funcAt(pos)
			used[where] = true
			if lifetimes[where] == "" {
				t.Errorf("%s: %s makes a context of its own: pass one in, or say in the list why not", at(pos), where)
			}
		}
	}
	for _, where := range slices.Sorted(maps.Keys(lifetimes)) {
		if !used[where] {
			t.Errorf("%s makes no context of its own any more: take it off the list", where)
		}
	}
}

// TestNobodySleeps: waiting is for an event or a timer in a select. Examples
// may sleep where a program would be doing its work; so may a handler in a test
// if a comment behind it says so: "// the work". The body of a bubble may, too:
// there a sleep is how time passes, exact and at once.
func TestNobodySleeps(t *testing.T) {
	for _, f := range files() {
		if strings.HasPrefix(f.name, "examples/") {
			continue
		}
		bubbles := bubbles(f)
		for _, pos := range f.uses("time", "Sleep") {
			inside := func(b ast.Node) bool { return b.Pos() <= pos && pos < b.End() }
			work := f.test() && f.commentBehind(pos) == "// the work"
			if !work && !slices.ContainsFunc(bubbles, inside) {
				t.Errorf("%s: time.Sleep", at(pos))
			}
		}
	}
}

// bubbles are the calls of f that run their argument under fake time.
func bubbles(f *file) []ast.Node {
	var out []ast.Node
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || !f.test() {
			return true
		}
		switch fun := call.Fun.(type) {
		case *ast.Ident: // in the test kit itself
			if fun.Name == "Bubble" && f.dir() == "internal/natstest" {
				out = append(out, call)
			}
		case *ast.SelectorExpr:
			if pkg, ok := fun.X.(*ast.Ident); ok && (pkg.Name == "natstest" && fun.Sel.Name == "Bubble" || pkg.Name == "synctest" && fun.Sel.Name == "Test") {
				out = append(out, call)
			}
		}
		return true
	})
	return out
}

// TestNothingGlobal: no library logs, serves or reads flags through a global,
// and none does anything when it is imported.
func TestNothingGlobal(t *testing.T) {
	for _, f := range files() {
		if !f.library() {
			continue
		}
		for _, pkg := range []string{"log", "flag", "expvar"} {
			if f.imported(pkg) != "" {
				t.Errorf("%s imports %s", f.name, pkg)
			}
		}
		for _, pos := range f.uses("log/slog", "Default", "SetDefault", "Debug", "DebugContext", "Info", "InfoContext",
			"Warn", "WarnContext", "Error", "ErrorContext", "Log", "LogAttrs", "With") {
			t.Errorf("%s: the global logger", at(pos))
		}
		for _, pos := range f.uses("net/http", "DefaultClient", "DefaultServeMux", "DefaultTransport", "Handle", "HandleFunc", "Get", "Post") {
			t.Errorf("%s: a global of net/http", at(pos))
		}
		for _, pos := range f.uses("os", "Stdout", "Stderr", "Exit") {
			t.Errorf("%s: a library writes to the terminal or ends the process", at(pos))
		}
		for _, pos := range f.uses("fmt", "Print", "Printf", "Println") {
			t.Errorf("%s: a library writes to the terminal", at(pos))
		}
		for _, d := range f.syntax.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: an init function", at(fn.Pos()))
			}
		}
	}
}

// maxLines is where a file should have become two.
const maxLines = 500

// TestFilesAreShort: one noun per file.
func TestFilesAreShort(t *testing.T) {
	for _, f := range files() {
		if !f.library() {
			continue
		}
		if n := fset.Position(f.syntax.FileEnd).Line; n > maxLines {
			t.Errorf("%s has %d lines, %d at most: look for its second noun", f.name, n, maxLines)
		}
	}
}

// TestFileNames: no drawer for everything.
func TestFileNames(t *testing.T) {
	for _, f := range files() {
		for part := range strings.SplitSeq(strings.TrimSuffix(f.name, ".go"), "/") {
			switch strings.TrimSuffix(part, "_test") {
			case "util", "utils", "common", "helper", "helpers", "misc":
				t.Errorf("%s: name it after what it holds", f.name)
			}
		}
	}
}

// TestPureCores: the core of a package has no clock, no goroutine and no
// network.
func TestPureCores(t *testing.T) {
	for _, f := range files() {
		if f.test() || f.dir() != "internal/wire" && !slices.Contains(pureFiles, f.name) {
			continue
		}
		for _, im := range f.syntax.Imports {
			switch p := strings.Trim(im.Path.Value, `"`); {
			case p == "net", p == "os", p == "sync", p == "context", strings.HasPrefix(p, "net/"), p == "github.com/nats-io/nats.go", strings.HasPrefix(p, "github.com/nats-io/nats.go/"):
				t.Errorf("%s: a pure file imports %s", at(im.Pos()), p)
			}
		}
		for _, pos := range f.uses("time", "Now", "Since", "Until", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick") {
			t.Errorf("%s: a pure file reads the clock", at(pos))
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			if g, ok := n.(*ast.GoStmt); ok {
				t.Errorf("%s: a pure file starts a goroutine", at(g.Pos()))
			}
			return true
		})
	}
	for _, name := range pureFiles {
		if !slices.Contains(paths(), name) {
			t.Errorf("%s is on the list of pure files and does not exist", name)
		}
	}
}

// pureFiles are the pure cores besides internal/wire.
var pureFiles = []string{
	"internal/microsrv/instance.go",
	"internal/microsrv/verb.go",
	"internal/microsrv/version.go",
	"kvregistry/ring.go",
	"kvregistry/suspicion.go",
	"kvregistry/table.go",
	"routing/rank.go",
	"routing/retry.go",
}

// TestLintExceptionsHaveReasons: "//nolint:name // because".
func TestLintExceptionsHaveReasons(t *testing.T) {
	for _, f := range files() {
		for _, group := range f.syntax.Comments {
			for _, c := range group.List {
				rest, ok := strings.CutPrefix(c.Text, "//nolint")
				if !ok {
					continue
				}
				names, reason, _ := strings.Cut(rest, "// ")
				if len(strings.TrimSpace(names)) < 2 || names[0] != ':' || strings.TrimSpace(reason) == "" {
					t.Errorf("%s: write //nolint:name // reason", at(c.Pos()))
				}
			}
		}
	}
}
