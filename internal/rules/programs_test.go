package rules

import (
	"errors"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/types"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// missing are the names that a program of testdata/programs uses and the
// packages do not have yet. When one is added, the test fails until it is
// taken off the list.
var missing = map[string][]string{
	"admin":      {},
	"cache":      {},
	"devprod":    {},
	"greet":      {},
	"kubernetes": {},
	"ledger":     {"cluster.Owner"},
	"orders":     {},
	"testing":    {},
}

// TestPrograms: the programs that the API was designed with compile, except
// for the names that are still missing.
func TestPrograms(t *testing.T) {
	dirs, err := filepath.Glob("testdata/programs/*")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, dir := range dirs {
		names = append(names, filepath.Base(dir))
	}
	if want := slices.Sorted(maps.Keys(missing)); !slices.Equal(names, want) {
		t.Fatalf("programs %v, want %v", names, want)
	}
	imp := exportData(t)
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			got, others := undefined(t, imp, dir)
			for _, err := range others {
				t.Error(err)
			}
			if want := missing[filepath.Base(dir)]; !slices.Equal(got, want) {
				t.Errorf("undefined: %v, the list says %v", got, want)
			}
		})
	}
}

// undefined type-checks the program in dir. It returns the names that do not
// exist, sorted, and all other errors.
func undefined(t *testing.T, imp types.Importer, dir string) (names []string, others []error) {
	t.Helper()
	sources, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(sources) == 0 {
		t.Fatal("no Go files", err)
	}
	var syntax []*ast.File
	for _, name := range sources {
		f, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		syntax = append(syntax, f)
	}
	lines := map[int]bool{} // that use a name which does not exist
	conf := types.Config{Importer: imp, Error: func(err error) {
		te, ok := errors.AsType[types.Error](err)
		if !ok {
			others = append(others, err)
			return
		}
		line := fset.Position(te.Pos).Line
		if name, ok := strings.CutPrefix(te.Msg, "undefined: "); ok {
			names = append(names, name)
			lines[line] = true
		} else if !lines[line] { // else it follows from the missing name
			others = append(others, err)
		}
	}}
	// The errors went to conf.Error.
	_, _ = conf.Check(dir, fset, syntax, nil)
	slices.Sort(names)
	return slices.Compact(names), others
}

// TestThreeWaysCompile: the short programs in the README that say where NATS may
// be, and those of docs/operations.md, are code of today.
func TestThreeWaysCompile(t *testing.T) {
	const (
		head = `package p
import ("context"; "os"; "time"; "` + module + `/cluster"; "` + module + `/embedded")
var (_ context.Context; _ = os.Args; _ time.Duration; _ cluster.Node; _ embedded.Config)
func _(ctx context.Context) {
`
		least = 4
	)
	imp := exportData(t, "context", "os", "time", module+"/cluster", module+"/embedded")
	block := regexp.MustCompile("(?s)\n```go\n(.*?)\n```")
	_, ways, _ := strings.Cut(read(t, "README.md"), "\n## Three ways to use it\n")
	ways, _, _ = strings.Cut(ways, "\n## ")
	found := block.FindAllStringSubmatch(ways+read(t, "docs/operations.md"), -1)
	if len(found) < least {
		t.Errorf("%d programs, want %d at least", len(found), least)
	}
	for _, m := range found {
		f, err := parser.ParseFile(fset, "", head+m[1]+"\n}", parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		conf := types.Config{Importer: imp, Error: func(err error) {
			if !strings.Contains(err.Error(), "declared and not used") {
				t.Errorf("%v in\n%s", err, m[1])
			}
		}}
		// The errors went to conf.Error.
		_, _ = conf.Check("p", fset, []*ast.File{f}, nil)
	}
}

// exportData imports what the programs import, and more, as the compiler sees it.
func exportData(t *testing.T, more ...string) types.Importer {
	t.Helper()
	wanted := map[string]bool{}
	for _, p := range more {
		wanted[p] = true
	}
	sources, err := filepath.Glob("testdata/programs/*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range sources {
		f, err := parser.ParseFile(fset, name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, im := range f.Imports {
			p, err := strconv.Unquote(im.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			wanted[p] = true
		}
	}
	args := []string{"list", "-export", "-deps", "-f", "{{.ImportPath}}\t{{.Export}}"}
	out := goCommand(t, append(args, slices.Sorted(maps.Keys(wanted))...)...)
	exports := map[string]string{}
	for line := range strings.Lines(out) {
		name, data, _ := strings.Cut(strings.TrimSpace(line), "\t")
		exports[name] = data
	}
	return importer.ForCompiler(fset, "gc", func(p string) (io.ReadCloser, error) {
		if exports[p] == "" {
			return nil, errors.New("no export data of " + p)
		}
		return os.Open(exports[p])
	})
}
