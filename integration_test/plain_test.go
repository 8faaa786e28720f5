package integration_test

import (
	"bytes"
	"context"
	"encoding/json"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/catga/catga-go/cluster"
)

const plainProgram = "testdata/plain/main.go"

// TestPlainProgramNeedsOnlyTheWireDocument: a program that imports nothing of
// this module sends durable work, calls, gathers, reads records and dead
// letters, by docs/wire.md alone.
func TestPlainProgramNeedsOnlyTheWireDocument(t *testing.T) {
	onlyImportsNATS(t)
	bin := filepath.Join(t.TempDir(), "plain.exe")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "./"+plainProgram).CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	onAllGrounds(t, func(t *testing.T, w *world) {
		heard := newHeard()
		var nodes []*cluster.Node
		for _, id := range []string{"a", "b"} {
			n := w.node(t, id, func(n *cluster.Node) {
				cluster.Handle(n, func(_ context.Context, m *cluster.Msg[note]) error {
					heard.add(id, m)
					return nil
				})
				cluster.HandleCall(n, func(_ context.Context, m *cluster.Msg[echo]) (echoed, error) {
					return echoed{id, m.Body.Text}, nil
				})
				cluster.HandleCall(n, func(_ context.Context, m *cluster.Msg[refuse]) (echoed, error) {
					return echoed{}, &cluster.HandlerError{Code: m.Body.Code, Message: m.Body.Text}
				})
			})
			if err := n.Join(bounded(t)); err != nil {
				t.Fatal(err)
			}
			if err := n.SetMetadata(bounded(t), map[string]string{"zone": id}); err != nil {
				t.Fatal(err)
			}
			nodes = append(nodes, n)
		}
		for _, n := range nodes {
			sees(t, n, "both", online("a", "b"))
		}

		said := runPlain(t, bin, w)
		for what, want := range map[string]string{
			"members":                   `{"a":["test.echo","test.note","test.refuse"],"b":["test.echo","test.note","test.refuse"]}`,
			`stored "work"}`:            `{"repeat":false,"stream":"WORK"}`,
			`stored "once"}`:            `{"repeat":false,"stream":"WORK"} {"repeat":true,"stream":"WORK"}`,
			`stored "from"}`:            `{"repeat":false,"stream":"WORK"}`,
			`stored "mail"}`:            `{"repeat":false,"stream":"MAIL"}`,
			`stored "all"}`:             `{"repeat":false,"stream":"FANOUT"}`,
			"call b":                    `{"Node":"b","Text":"hello"}`,
			"call of a durable kind":    `null`,
			"call that fails":           `{"code":"422","error":"no","refused":""}`,
			"call that fails at length": `{"code":"409","error":"two\nlines","refused":""}`,
			"call of another version":   `{"code":"503","error":"not delivered: version","refused":"version"}`,
			"call of nobody":            `"nats: no responders available for request"`,
			"gather":                    `{"a":true,"b":true}`,
			"dead letter":               `{"attempts":"1","body":"{","id":"plain.x-2","reason":true,"stream":"WORK","subject":"work.test.note"}`,
			"service":                   `{"id":"a","endpoints":[{"name":"test--echo"},{"name":"test--note"},{"name":"test--refuse"}]}`,
		} {
			if got := strings.Join(said[what], " "); got != want {
				t.Errorf("%s: %s, want %s", what, got, want)
			}
		}
		if got := said["call any"]; len(got) != 1 || got[0] != `{"Node":"a","Text":"hello"}` && got[0] != `{"Node":"b","Text":"hello"}` {
			t.Errorf("call any: %s", got)
		}
		for what, code := range map[string]string{"call with a broken body": "400", "call with a broken timeout": "400", "call in another codec": "415"} {
			if got := said[what]; len(got) != 1 || !strings.Contains(got[0], `"code":"`+code+`"`) {
				t.Errorf("%s: %s, want code %s", what, got, code)
			}
		}

		heard.wait(t, map[string]string{
			"work": "any", "once": "any", "from": "any", "mail": "b", "all": "a b", "not a": "b", "only a": "a", "zone b": "b",
			"called": "a", "at most once": "a",
		})
		if m := heard.message("once"); m.ID != "plain.x-1" || m.From != "plain" || m.Header.Get("colour") != "red" || m.Attempt != 1 {
			t.Errorf("%+v", m)
		}
		if m := heard.message("from"); m.ID != "order-7" || m.From != "outside" {
			t.Errorf("%+v", m)
		}
	})
}

// onlyImportsNATS reads the imports of the program.
func onlyImportsNATS(t *testing.T) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), plainProgram, nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	for _, im := range f.Imports {
		p, err := strconv.Unquote(im.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		if root, _, _ := strings.Cut(p, "/"); strings.Contains(root, ".") && !strings.HasPrefix(p, "github.com/nats-io/nats.go") {
			t.Errorf("%s imports %s", plainProgram, p)
		}
	}
}

// runPlain runs the program and returns what it said, by what it is about.
func runPlain(t *testing.T, bin string, w *world) map[string][]string {
	t.Helper()
	cmd := exec.CommandContext(bounded(t), bin, w.url, w.cluster)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	said := map[string][]string{}
	for line := range bytes.Lines(out) {
		var s struct {
			What string
			Is   json.RawMessage
		}
		if err := json.Unmarshal(line, &s); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		said[s.What] = append(said[s.What], string(s.Is))
	}
	return said
}

// heard is what the nodes were sent: by text, who handled it.
type heard struct {
	mu       sync.Mutex
	nodes    map[string][]string
	messages map[string]cluster.Msg[note]
	more     chan struct{}
}

func newHeard() *heard {
	return &heard{nodes: map[string][]string{}, messages: map[string]cluster.Msg[note]{}, more: make(chan struct{}, 1)}
}

func (h *heard) add(id string, m *cluster.Msg[note]) {
	h.mu.Lock()
	h.nodes[m.Body.Text] = append(h.nodes[m.Body.Text], id)
	h.messages[m.Body.Text] = *m
	h.mu.Unlock()
	select {
	case h.more <- struct{}{}:
	default:
	}
}

func (h *heard) message(text string) cluster.Msg[note] {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.messages[text]
}

// wait waits until every text was handled by whom it is for, and by nobody else.
func (h *heard) wait(t *testing.T, want map[string]string) {
	t.Helper()
	count := 0
	for _, who := range want {
		count += len(strings.Fields(who))
	}
	for {
		h.mu.Lock()
		got := 0
		for _, who := range h.nodes {
			got += len(who)
		}
		h.mu.Unlock()
		if got >= count {
			break
		}
		receive(t, h.more, "the next message")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for text, who := range want {
		nodes := slices.Sorted(slices.Values(h.nodes[text]))
		if got := strings.Join(nodes, " "); got != who && (who != "any" || len(nodes) != 1) {
			t.Errorf("%q was handled by %q, want %q", text, got, who)
		}
	}
	if len(h.nodes) != len(want) {
		t.Errorf("handled: %v", h.nodes)
	}
}
