package rules

import (
	"go/ast"
	"go/build/constraint"
	"go/token"
	"path"
	"slices"
	"strings"
	"testing"
)

// noLeakCheck are the packages whose tests need no search for leaked
// goroutines, and why.
var noLeakCheck = map[string]string{
	"internal/wire":     "pure: builds and takes apart strings",
	"internal/microsrv": "pure: writes JSON",
	"internal/rules":    "reads files",
}

// TestMainLooksForLeaks: the tests of a package end in a search for goroutines
// that were left.
func TestMainLooksForLeaks(t *testing.T) {
	for dir, fs := range dirs(func(f *file) bool { return f.test() && !f.nested() }) {
		if noLeakCheck[dir] != "" {
			continue
		}
		if !slices.ContainsFunc(fs, checksLeaks) {
			t.Errorf("%s: no TestMain that calls natstest.Main or goleak", dir)
		}
	}
	for dir := range noLeakCheck {
		for _, f := range files() {
			if f.dir() != dir {
				continue
			}
			ast.Inspect(f.syntax, func(n ast.Node) bool {
				if g, ok := n.(*ast.GoStmt); ok {
					t.Errorf("%s: a goroutine in a package whose tests look for no leaks", at(g.Pos()))
				}
				return true
			})
		}
	}
}

func checksLeaks(f *file) bool {
	for _, pos := range slices.Concat(
		f.uses(module+"/internal/natstest", "Main"),
		f.uses("go.uber.org/goleak", "VerifyTestMain", "Find"),
	) {
		if f.funcAt(pos) == "TestMain" {
			return true
		}
	}
	// The test kit tests itself.
	return f.dir() == "internal/natstest" && f.syntax.Name.Name == "natstest" && slices.ContainsFunc(f.syntax.Decls, func(d ast.Decl) bool {
		fn, ok := d.(*ast.FuncDecl)
		return ok && fn.Name.Name == "TestMain"
	})
}

// behindTag are the folders whose scenarios have a build tag, and why.
var behindTag = map[string]string{
	"integration_test/hosts": "they need root and network namespaces; .ci/run runs them",
}

// TestNothingSkipsSilently: a test may skip only with -short, and no build tag
// hides one.
func TestNothingSkipsSilently(t *testing.T) {
	for _, f := range files() {
		for _, group := range f.syntax.Comments {
			for _, c := range group.List {
				if f.test() && behindTag[f.dir()] == "" && c.Pos() < f.syntax.Package && constraint.IsGoBuild(c.Text) && hides(c.Text) {
					t.Errorf("%s: a build tag hides tests", at(c.Pos()))
				}
			}
		}
		var stack []ast.Node
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			if n == nil {
				stack = stack[:len(stack)-1]
				return true
			}
			stack = append(stack, n)
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || !slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, sel.Sel.Name) {
				return true
			}
			if id, ok := sel.X.(*ast.Ident); !ok || !slices.Contains([]string{"t", "b", "f", "tb"}, id.Name) {
				return true
			}
			if !slices.ContainsFunc(stack, ifShort) {
				t.Errorf("%s: skips, and not only with -short", at(call.Pos()))
			}
			return true
		})
	}
}

// hides says whether a constraint is on more than the operating system.
func hides(line string) bool {
	expr, err := constraint.Parse(line)
	if err != nil {
		return true
	}
	hidden := false
	expr.Eval(func(tag string) bool {
		switch tag {
		case "unix", "linux", "darwin", "windows":
		default:
			hidden = true
		}
		return true
	})
	return hidden
}

func ifShort(n ast.Node) bool {
	stmt, ok := n.(*ast.IfStmt)
	if !ok {
		return false
	}
	short := false
	ast.Inspect(stmt.Cond, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == "Short" {
			short = true
		}
		return true
	})
	return short
}

// testNames are the tests, examples and fuzz targets of the whole repository,
// with the packages that have them.
func testNames() map[string][]string {
	out := map[string][]string{}
	for _, f := range files() {
		if !f.test() {
			continue
		}
		for _, d := range f.syntax.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv != nil {
				continue
			}
			for _, prefix := range []string{"Test", "Example", "Fuzz", "Benchmark"} {
				if rest, ok := strings.CutPrefix(fn.Name.Name, prefix); ok && (rest == "" || !token.IsExported("X"+rest) || rest[0] < 'a' || rest[0] > 'z') {
					out[fn.Name.Name] = append(out[fn.Name.Name], f.dir())
				}
			}
		}
	}
	return out
}

// TestFuzzTargetsAreRun: the script runs the targets of the root module, so
// none may hide in another one.
func TestFuzzTargetsAreRun(t *testing.T) {
	found := 0
	for name, where := range testNames() {
		if !strings.HasPrefix(name, "Fuzz") {
			continue
		}
		found++
		for _, dir := range where {
			if nestedModule(path.Join(dir, "x")) {
				t.Errorf("%s in %s is not run by .ci/run", name, dir)
			}
		}
	}
	if found == 0 {
		t.Error("no fuzz target")
	}
}
