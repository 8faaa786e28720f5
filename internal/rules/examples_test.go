package rules

import (
	"go/ast"
	"go/doc"
	"slices"
	"strings"
	"testing"
)

// accessors need no example of their own; one that calls them is enough.
var accessors = map[string][]string{
	"cluster":  {"Done", "Err", "ID", "Self"},
	"embedded": {"ClientURL", "Close", "Conn", "Done", "Embedded", "Err", "MonitorURL", "Name"},
}

// TestVerbsHaveExamples: every exported function and every method of the
// central types has a runnable example with its output: of its own if it is a
// method of Node or Server or takes a *Node, else as part of another one.
func TestVerbsHaveExamples(t *testing.T) {
	for dir, central := range map[string]string{"cluster": "Node", "embedded": "Server"} {
		own, called := runnable(dir)
		funcs := 0
		for _, f := range files() {
			if f.dir() != dir || f.test() {
				continue
			}
			for _, d := range f.syntax.Decls {
				fn, ok := d.(*ast.FuncDecl)
				if !ok || !fn.Name.IsExported() || fn.Recv != nil && receiver(fn) != central {
					continue
				}
				funcs++
				name := fn.Name.Name
				if slices.Contains(accessors[dir], name) || fn.Recv == nil && !takes(fn, "Node") && name != "New" {
					if !slices.Contains(called, name) {
						t.Errorf("%s: no runnable example of package %s calls %s", at(fn.Pos()), dir, name)
					}
					continue
				}
				if fn.Recv != nil {
					name = central + "_" + name
				}
				if !slices.ContainsFunc(own, func(n string) bool { return n == name || strings.HasPrefix(n, name+"_") }) {
					t.Errorf("%s: no Example%s with its output", at(fn.Pos()), name)
				}
			}
		}
		if funcs == 0 {
			t.Errorf("%s: nothing exported", dir)
		}
	}
	for _, dir := range []string{"kvregistry", "routing"} {
		if own, _ := runnable(dir); len(own) == 0 {
			t.Errorf("%s: no runnable example", dir)
		}
	}
}

// runnable returns the examples of the package that have an output, and the
// names of what they and the functions beside them use.
func runnable(dir string) (names, called []string) {
	var tests []*ast.File
	beside := map[string]*ast.FuncDecl{}
	for _, f := range files() {
		if f.dir() != dir || !f.test() {
			continue
		}
		tests = append(tests, f.syntax)
		for _, d := range f.syntax.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
				beside[fn.Name.Name] = fn
			}
		}
	}
	var follow func(n ast.Node)
	follow = func(n ast.Node) {
		ast.Inspect(n, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				called = append(called, n.Sel.Name)
			case *ast.Ident:
				if fn := beside[n.Name]; fn != nil {
					delete(beside, n.Name)
					follow(fn.Body)
				}
			}
			return true
		})
	}
	for _, ex := range doc.Examples(tests...) {
		if ex.Output != "" {
			names = append(names, ex.Name)
			follow(ex.Code)
		}
	}
	return names, called
}

// takes says whether fn has a parameter of type *name.
func takes(fn *ast.FuncDecl, name string) bool {
	return slices.ContainsFunc(fn.Type.Params.List, func(p *ast.Field) bool {
		star, ok := p.Type.(*ast.StarExpr)
		if !ok {
			return false
		}
		id, ok := star.X.(*ast.Ident)
		return ok && id.Name == name
	})
}
