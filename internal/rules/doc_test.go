package rules

import (
	"go/ast"
	"go/token"
	"strings"
	"testing"
)

// TestDocComments: every package, every exported name and every exported field
// of a Config or Options has a doc comment.
func TestDocComments(t *testing.T) {
	for dir, fs := range dirs(func(f *file) bool { return !f.test() }) {
		docs := 0
		for _, f := range fs {
			if f.syntax.Doc != nil {
				docs++
			}
			if f.main() {
				continue
			}
			for _, d := range f.syntax.Decls {
				switch d := d.(type) {
				case *ast.FuncDecl:
					checkFuncDoc(t, d)
				case *ast.GenDecl:
					checkGenDoc(t, d)
				}
			}
		}
		if docs != 1 {
			t.Errorf("%s: %d files have a package comment, want 1", dir, docs)
		}
	}
}

func checkFuncDoc(t *testing.T, fn *ast.FuncDecl) {
	recv := receiver(fn)
	if !fn.Name.IsExported() || recv != "" && !ast.IsExported(recv) {
		return
	}
	if fn.Doc.Text() == "" {
		t.Errorf("%s: %s has no doc comment", at(fn.Pos()), fn.Name.Name)
	}
}

func checkGenDoc(t *testing.T, d *ast.GenDecl) {
	if d.Tok == token.IMPORT {
		return
	}
	for _, spec := range d.Specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			if !s.Name.IsExported() {
				continue
			}
			if s.Doc.Text() == "" && (d.Lparen.IsValid() || d.Doc.Text() == "") {
				t.Errorf("%s: %s has no doc comment", at(s.Pos()), s.Name.Name)
			}
			checkFieldDocs(t, s)
		case *ast.ValueSpec:
			for _, name := range s.Names {
				// A group may be documented as a whole: "Errors of the verbs."
				if name.IsExported() && s.Doc.Text() == "" && s.Comment.Text() == "" && d.Doc.Text() == "" {
					t.Errorf("%s: %s has no doc comment", at(name.Pos()), name.Name)
				}
			}
		}
	}
}

// checkFieldDocs: a field of a Config says its default, so it has a comment.
func checkFieldDocs(t *testing.T, s *ast.TypeSpec) {
	st, ok := s.Type.(*ast.StructType)
	if !ok || !strings.HasSuffix(s.Name.Name, "Config") && !strings.HasSuffix(s.Name.Name, "Options") {
		return
	}
	for _, field := range st.Fields.List {
		for _, name := range field.Names {
			if name.IsExported() && field.Doc.Text() == "" && field.Comment.Text() == "" {
				t.Errorf("%s: field %s.%s has no comment", at(name.Pos()), s.Name.Name, name.Name)
			}
		}
	}
}
