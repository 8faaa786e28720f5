package wire

import (
	"strings"
	"testing"
)

func TestCheckNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"a": true, "A-b_9": true, "-": true, strings.Repeat("x", MaxName): true,
		"": false, strings.Repeat("x", MaxName+1): false,
		"a.b": false, "a b": false, "a*": false, ">": false, "ä": false, "a\x00": false, "a/b": false, "\xff": false,
	} {
		if err := CheckNode(name); (err == nil) != ok {
			t.Errorf("node %q: %v", name, err)
		}
		if err := CheckCluster(name); (err == nil) != ok {
			t.Errorf("cluster %q: %v", name, err)
		}
	}
	// Its record bucket would be the heartbeat bucket of another cluster.
	if err := CheckCluster("shop_beats"); err == nil {
		t.Error("shop_beats is accepted")
	}
	if err := CheckNode("shop_beats"); err != nil {
		t.Error(err)
	}
}

func TestCheckKind(t *testing.T) {
	for kind, ok := range map[string]bool{
		"order": true, "order.place": true, "a-b.c_d.9": true, strings.Repeat("x", MaxName): true,
		strings.Repeat("x", MaxName-1) + "." + strings.Repeat("y", MaxName): true,
		"": false, ".": false, "a.": false, ".a": false, "a..b": false,
		"a--b": false, "a-.b": false, "a.-b": false, "-a": false, "a_": false, "a._b": false,
		"a.*": false, "a.>": false, "a b": false, "ö": false, "a:b": false,
		strings.Repeat("x", MaxName+1):                                         false,
		strings.Repeat("x", MaxName) + "." + strings.Repeat("y", MaxName):      false,
		strings.Repeat("abcdefg.", MaxKind/8) + strings.Repeat("z", 1+MaxName): false,
	} {
		if err := CheckKind(kind); (err == nil) != ok {
			t.Errorf("%q: %v", kind, err)
		}
	}
}

// FuzzKind: a kind that is accepted fits into every name that is made of it,
// and comes back out.
func FuzzKind(f *testing.F) {
	for _, kind := range []string{"order.place", "a", "a-b.c-d", "a-.b", "a.-b", "a--b", "a..b", "a_b.c", ""} {
		f.Add(kind)
	}
	f.Fuzz(func(t *testing.T, kind string) {
		if CheckKind(kind) != nil {
			return
		}
		if strings.ContainsAny(kind, " \t\r\n*>:/") || strings.HasPrefix(kind, ".") || strings.HasSuffix(kind, ".") || strings.Contains(kind, "..") {
			t.Fatalf("%q is no part of a subject", kind)
		}
		dashed := Dashed(kind)
		if strings.Contains(dashed, ".") || Undashed(dashed) != kind {
			t.Fatalf("%q becomes %q and %q", kind, dashed, Undashed(dashed))
		}
		consumer := WorkConsumer(kind)
		if strings.ContainsAny(consumer, ".*>/\\ ") || len(consumer) > 255 {
			t.Fatalf("%q is no name of a consumer", consumer)
		}
		if back := strings.ReplaceAll(strings.TrimPrefix(consumer, "w:"), ":", "."); back != kind {
			t.Fatalf("%q becomes %q and %q", kind, consumer, back)
		}
	})
}
