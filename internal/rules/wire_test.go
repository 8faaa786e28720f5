package rules

import (
	"go/ast"
	"go/token"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/catga/catga-go/internal/wire"
)

// TestWireIsDocumented: docs/wire.md has every header, subject, stream and
// consumer that internal/wire makes.
func TestWireIsDocumented(t *testing.T) {
	doc := read(t, "docs/wire.md")
	for _, f := range files() {
		if f.name != "internal/wire/headers.go" {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok {
				return true
			}
			for _, v := range spec.Values {
				lit, ok := v.(*ast.BasicLit)
				if !ok || lit.Kind != token.STRING {
					continue
				}
				text, err := strconv.Unquote(lit.Value)
				if err != nil {
					t.Fatal(err)
				}
				if !strings.Contains(doc, "`"+text+"`") {
					t.Errorf("docs/wire.md does not mention `%s`", text)
				}
			}
			return true
		})
	}

	const (
		id   = "<id>"
		kind = "<kind>"
	)
	c := wire.Cluster("<cluster>")
	names := []string{
		c.RecordBucket(), c.BeatBucket(), c.RecordStream(), c.BeatStream(),
		c.RecordSubject(id), c.BeatSubject(id), c.RegistrySubject(id),
		c.Tripwire(), c.TripwireDeleted("<id>-<incarnation>-<n>"),
		c.Ask(id), c.On("<server>"), c.Held(kind),
		c.WorkStream(), c.MailStream(), c.FanoutStream(), c.DeadStream(),
		c.NodeMail(id, kind), c.Work(kind), c.All(kind), c.WorkSched("<id hash>", "<scope hash>"), c.MailSched("<id hash>", "<scope hash>"), c.Dead(kind),
		c.CallNode(id, kind), c.CallAll(kind), c.CallAny(kind),
		wire.NodeConsumer(id), wire.CallQueue,
		strings.Replace(c.Ping(id, 0), ".0", ".<incarnation>", 1),
		strings.Replace(c.Inbox(id, 0, "<token>"), ".0.", ".<incarnation>.", 1),
		strings.Replace(c.Key(0, kind), ".0.", ".<slot>.", 1),
	}
	names = append(names, c.WorkSubjects()...)
	names = append(names, c.FanoutSubjects()...)
	names = append(names, c.DeadSubjects()...)
	for _, name := range names {
		if !strings.Contains(doc, "`"+name+"`") {
			t.Errorf("docs/wire.md does not mention `%s`", name)
		}
	}
}

// TestJSONOfTheWireIsDocumented: docs/wire.md has every field of what travels
// as JSON.
func TestJSONOfTheWireIsDocumented(t *testing.T) {
	doc := read(t, "docs/wire.md")
	want := []string{"record", "beat", "ping", "pong", "heldAnswer"}
	for _, f := range files() {
		if f.test() || f.dir() != "kvregistry" && f.dir() != "routing" {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok || !slices.Contains(want, spec.Name.Name) {
				return true
			}
			want = slices.DeleteFunc(want, func(name string) bool { return name == spec.Name.Name })
			st, ok := spec.Type.(*ast.StructType)
			if !ok {
				t.Errorf("%s: %s is no struct", at(spec.Pos()), spec.Name.Name)
				return true
			}
			for _, field := range st.Fields.List {
				if field.Tag == nil {
					t.Errorf("%s: a field without its name in JSON", at(field.Pos()))
					continue
				}
				name, _, _ := strings.Cut(reflect.StructTag(strings.Trim(field.Tag.Value, "`")).Get("json"), ",")
				if !strings.Contains(doc, "`"+name+"`") && !strings.Contains(doc, `"`+name+`"`) {
					t.Errorf("%s: docs/wire.md does not mention the field %s of %s", at(field.Pos()), name, spec.Name.Name)
				}
			}
			return true
		})
	}
	if len(want) > 0 {
		t.Errorf("not found: %v", want)
	}
}
