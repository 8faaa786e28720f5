package rules

import (
	"encoding/json"
	"io"
	"slices"
	"strings"
	"testing"
)

// layers says which packages of this module each package may import, tests
// aside. Who wants another arrow draws it here and defends it in review.
var layers = map[string][]string{
	"cluster":    {"internal/dial", "internal/microsrv", "internal/provision", "internal/wire", "kvregistry", "routing"},
	"kvregistry": {"internal/provision", "internal/wire"},
	"routing":    {"internal/provision", "internal/wire"},
	"embedded":   {"internal/dial"},
	"internal/dial": {
		"internal/opening",
	},
	"internal/microsrv": {},
	"internal/wire":     {},
	"internal/opening":  {},
	"internal/natstest": {
		"internal/opening",
	},
	"internal/provision": {
		"internal/wire",
	},
	"internal/rules":            {},
	"integration_test/hosts":    {},
	"integration_test/loss":     {},
	"integration_test/machines": {},
	"integration_test/soak":     {},
	"integration_test":          {},
}

// linksServer are the packages that may reach nats-server: it is more than
// half of a binary.
var linksServer = []string{"embedded", "internal/natstest"}

type pkg struct {
	ImportPath string
	Name       string
	Imports    []string
	Deps       []string
}

func (p pkg) path() string { return strings.TrimPrefix(p.ImportPath, module+"/") }

func packages(t *testing.T) []pkg {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(goCommand(t, "list", "-json=ImportPath,Name,Imports,Deps", "./...")))
	var out []pkg
	for {
		var p pkg
		switch err := dec.Decode(&p); {
		case err == io.EOF:
			return out
		case err != nil:
			t.Fatal(err)
		}
		out = append(out, p)
	}
}

// TestLayers: packages import only what their layer may.
func TestLayers(t *testing.T) {
	for _, p := range packages(t) {
		if p.Name == "main" {
			continue // programs may import everything public
		}
		may, ok := layers[p.path()]
		if !ok {
			t.Errorf("%s has no entry in the list of layers", p.path())
		}
		for _, im := range p.Imports {
			if im, ours := strings.CutPrefix(im, module+"/"); ours && !slices.Contains(may, im) {
				t.Errorf("%s imports %s; it may import %v", p.path(), im, may)
			}
		}
	}
}

// TestServerIsNotLinked: whoever imports cluster, kvregistry or routing does
// not get a NATS server into the binary, and no library gets a test kit.
func TestServerIsNotLinked(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range packages(t) {
		seen[p.path()] = true
		if p.Name == "main" {
			continue
		}
		for _, dep := range p.Deps {
			switch {
			case strings.HasPrefix(dep, "github.com/nats-io/nats-server/") && !slices.Contains(linksServer, p.path()):
				t.Errorf("%s depends on %s", p.path(), dep)
			case dep == "testing" && p.path() != "internal/natstest":
				t.Errorf("%s depends on %s", p.path(), dep)
			case dep == module+"/internal/natstest" || strings.HasPrefix(dep, "go.uber.org/goleak"):
				if p.path() != "internal/natstest" {
					t.Errorf("%s depends on %s, which is for tests", p.path(), dep)
				}
			}
		}
	}
	for _, name := range []string{"cluster", "kvregistry", "routing", "embedded"} {
		if !seen[name] {
			t.Errorf("there is no package %s", name)
		}
	}
}
