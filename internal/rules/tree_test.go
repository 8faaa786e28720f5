package rules

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/catga/catga-go"

// root is the folder of the repository, seen from this one.
const root = "../.."

// file is a parsed Go file.
type file struct {
	name   string // from the root, with slashes
	syntax *ast.File
}

func (f *file) dir() string  { return path.Dir(f.name) }
func (f *file) test() bool   { return strings.HasSuffix(f.name, "_test.go") }
func (f *file) main() bool   { return f.syntax.Name.Name == "main" }
func (f *file) nested() bool { return nestedModule(f.name) }

// library says that the file is code that users link: of this module, no
// test, no test kit, no program.
func (f *file) library() bool {
	return !f.test() && !f.main() && !f.nested() && f.dir() != "internal/natstest"
}

var fset = token.NewFileSet()

// at is where pos is, for messages.
func at(pos token.Pos) string {
	p := fset.Position(pos)
	return strings.TrimPrefix(filepath.ToSlash(p.Filename), root+"/") + ":" + strconv.Itoa(p.Line)
}

// paths are all files of the repository from its root, without what git
// ignores. It does not ask git, which a reader of the README may not have.
var paths = sync.OnceValue(func() []string {
	var out []string
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		switch {
		case d.IsDir() && slices.Contains([]string{".git", "bin", "data"}, rel):
			return filepath.SkipDir
		case rel == ".git": // of a worktree, a file
		case !d.IsDir() && !slices.Contains([]string{".test", ".out", ".prof"}, path.Ext(rel)):
			out = append(out, rel)
		}
		return nil
	})
	if err != nil {
		panic(err)
	}
	return out
})

// nestedModule says whether a path belongs to a module of its own.
func nestedModule(name string) bool {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if slices.Contains(paths(), dir+"/go.mod") {
			return true
		}
	}
	return false
}

// files are all Go files, for every platform, without testdata.
var files = sync.OnceValue(func() []*file {
	var out []*file
	for _, name := range paths() {
		if path.Ext(name) != ".go" || strings.Contains(name, "testdata/") {
			continue
		}
		syntax, err := parser.ParseFile(fset, filepath.Join(root, name), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			panic(err)
		}
		out = append(out, &file{name: name, syntax: syntax})
	}
	return out
})

// dirs groups the files that ok by folder.
func dirs(ok func(*file) bool) map[string][]*file {
	out := map[string][]*file{}
	for _, f := range files() {
		if ok(f) {
			out[f.dir()] = append(out[f.dir()], f)
		}
	}
	return out
}

// imported is the name under which f knows the package, "" if it does not
// import it.
func (f *file) imported(pkg string) string {
	for _, im := range f.syntax.Imports {
		if strings.Trim(im.Path.Value, `"`) == pkg {
			if im.Name != nil {
				return im.Name.Name
			}
			return path.Base(pkg)
		}
	}
	return ""
}

// uses yields where f mentions one of the names of the package.
func (f *file) uses(pkg string, names ...string) []token.Pos {
	local := f.imported(pkg)
	if local == "" {
		return nil
	}
	var out []token.Pos
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if id, ok := sel.X.(*ast.Ident); ok && id.Name == local && slices.Contains(names, sel.Sel.Name) {
			out = append(out, sel.Pos())
		}
		return true
	})
	return out
}

// commentBehind is the comment on the line of pos, or "".
func (f *file) commentBehind(pos token.Pos) string {
	line := fset.Position(pos).Line
	for _, group := range f.syntax.Comments {
		for _, c := range group.List {
			if fset.Position(c.Pos()).Line == line {
				return c.Text
			}
		}
	}
	return ""
}

// funcAt is the name of the function around pos: "F", "T.M", or "" outside.
func (f *file) funcAt(pos token.Pos) string {
	for _, d := range f.syntax.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Pos() <= pos && pos < fn.End() {
			if recv := receiver(fn); recv != "" {
				return recv + "." + fn.Name.Name
			}
			return fn.Name.Name
		}
	}
	return ""
}

// receiver is the name of the type that fn is a method of, or "".
func receiver(fn *ast.FuncDecl) string {
	if fn.Recv == nil {
		return ""
	}
	t := fn.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.IndexListExpr:
			t = x.X
		case *ast.Ident:
			return x.Name
		default:
			return ""
		}
	}
}

// goCommand runs the go command in the root and returns what it printed.
func goCommand(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOWORK=off")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
