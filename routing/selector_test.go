package routing

import (
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestSelectorChooses(t *testing.T) {
	nodes := map[string]map[string]string{
		"a":      {"zone": "a"},
		"b":      {"zone": "b", "gpu": ""},
		"canary": {"zone": "a", "canary": "yes"},
		"plain":  nil,
	}
	for expr, want := range map[string]string{
		"":                                  "a b canary plain",
		"  ":                                "a b canary plain",
		"zone":                              "a b canary",
		"!zone":                             "plain",
		"! zone":                            "plain",
		"zone=a":                            "a canary",
		"zone == a":                         "a canary",
		"zone!=a":                           "b plain",
		"zone in (a,b)":                     "a b canary",
		"zone in(a , b), !canary":           "a b",
		"zone notin (a,b)":                  "plain",
		"zone notin (a),zone":               "b",
		"zone in (a,,c)":                    "a canary",
		"gpu=":                              "b",
		"gpu in (,)":                        "b",
		"gpu=,zone=b":                       "b",
		"gpu!=":                             "a canary plain",
		"in":                                "",
		"!in":                               "a b canary plain",
		"in in (in)":                        "",
		"notin notin (in)":                  "a b canary plain",
		"zone=in":                           "",
		"zone in (notin)":                   "",
		"zone\n!=\tb ,\r\n canary in (yes)": "canary",
		"ключ/с.точкой!=значение-1_2": "a b canary plain",
	} {
		s := Where(expr)
		if err := s.s.problem(); err != nil {
			t.Errorf("%q: %v", expr, err)
			continue
		}
		var got []string
		for _, id := range slices.Sorted(maps.Keys(nodes)) {
			if s.s.matches(nodes[id]) {
				got = append(got, id)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q chooses %v, want %q", expr, got, want)
		}
		if again := Where(s.String()); again.String() != s.String() || again.s.err != nil {
			t.Errorf("%q travels as %q and then as %q, %v", expr, s, again, again.s.err)
		}
	}
}

func TestBadSelectorSaysWhereAndWhatIsExpected(t *testing.T) {
	for expr, want := range map[string]string{
		"zone in a":     `at character 9: expected (, found "a"`,
		"zone in":       `at character 8: expected (, found the end`,
		"zone in (a":    `at character 11: expected a comma or ), found the end`,
		"zone in (a b)": `at character 12: expected a comma or ), found "b"`,
		"zone in ()":    `at character 10: expected a value, found ")"`,
		"zone in (a=b)": `at character 11: expected a comma or ), found "="`,
		"zone in (=b)":  `at character 10: expected a value, found "="`,
		"zone a":        `at character 6: expected one of = == != in notin, a comma or the end, found "a"`,
		"zone > 3":      `at character 6: expected one of = == != in notin, a comma or the end, found ">"`,
		"zone=a b":      `at character 8: expected a comma or the end, found "b"`,
		"zone===a":      `at character 7: expected a value, found "="`,
		"zone=(":        `at character 6: expected a value, found "("`,
		"!":             `at character 2: expected a key, found the end`,
		"!zone=a":       `at character 6: expected a comma or the end, found "="`,
		"!!zone":        `at character 2: expected a key, found "!"`,
		"zone,":         `at character 6: expected a key or !, found the end`,
		",zone":         `at character 1: expected a key or !, found ","`,
		"zone,,a":       `at character 6: expected a key or !, found ","`,
		"=a":            `at character 1: expected a key or !, found "="`,
		"é = \x01":      `at character 5: expected text without control characters, found "\x01"`,
		"z\xffne":       `at character 2: expected text without control characters, found "z\xffne"`,
		"\x7f":          `at character 1: expected text without control characters, found "\x7f"`,
	} {
		err := Where(expr).s.problem()
		if !errors.Is(err, ErrSelector) || !strings.HasSuffix(err.Error(), ": "+want) {
			t.Errorf("%q: %v, want %s", expr, err, want)
		}
		if err != nil && Where(expr).s.matches(nil) {
			t.Errorf("%q chooses somebody", expr)
		}
	}
	long := Where(strings.Repeat("a", maxSelector+1)).s.problem()
	if !errors.Is(long, ErrSelector) || !strings.Contains(long.Error(), "has 1025 bytes, 1024 at most") {
		t.Error(long)
	}
}

func TestSelectorsAreJoined(t *testing.T) {
	if s := allOf(nil); s != nil || !s.matches(nil) || s.problem() != nil {
		t.Error("none is not everybody")
	}
	if s := allOf([]Selector{{}, Where("")}); s != nil {
		t.Error("empty ones are not nobody's")
	}
	s := allOf([]Selector{Where("zone in (a,b)"), {}, Where("!canary , x=")})
	if got := s.String(); got != "zone in(a,b),!canary,x=" {
		t.Error(got)
	}
	if !s.matches(map[string]string{"zone": "a", "x": ""}) || s.matches(map[string]string{"zone": "a"}) {
		t.Error("not all count")
	}
	if err := allOf([]Selector{Where("a"), Where("b ="), Where("c d")}).problem(); !errors.Is(err, ErrSelector) {
		t.Error("a bad one among good ones:", err)
	}
	half := Where(strings.Repeat("a", maxSelector/2+1))
	if half.s.err != nil || !errors.Is(allOf([]Selector{half, half}).problem(), ErrSelector) {
		t.Error("together they are too long for a header")
	}
	if (Selector{}).String() != "" {
		t.Error("the zero Selector")
	}
}

// The model of FuzzSelector: cut at the commas outside of parentheses, and
// compare each part with one pattern per form.
var (
	modelWord   = `([^\s=!(),<>]+)`
	modelExists = regexp.MustCompile(`^` + modelWord + `$`)
	modelAbsent = regexp.MustCompile(`^!\s*` + modelWord + `$`)
	modelEqual  = regexp.MustCompile(`^` + modelWord + `\s*(==|=|!=)\s*` + modelWord + `?$`)
	modelSet    = regexp.MustCompile(`^` + modelWord + `\s+(in|notin)\s*\(([^()]*)\)$`)
	modelValue  = regexp.MustCompile(`^` + modelWord + `?$`)
)

func modelSelects(expr string, md map[string]string) (chosen, ok bool) {
	space := func(s string) string { return strings.Trim(s, " \t\r\n") }
	if space(expr) == "" {
		return true, true
	}
	depth := 0
	parts := strings.Split(strings.Map(func(r rune) rune {
		switch {
		case r == '(':
			depth++
		case r == ')':
			depth--
		case r == ',' && depth == 0:
			return '\x00'
		}
		return r
	}, expr), "\x00")
	chosen = true
	for _, part := range parts {
		part = space(part)
		if m := modelExists.FindStringSubmatch(part); m != nil {
			_, has := md[m[1]]
			chosen = chosen && has
		} else if m := modelAbsent.FindStringSubmatch(part); m != nil {
			_, has := md[m[1]]
			chosen = chosen && !has
		} else if m := modelEqual.FindStringSubmatch(part); m != nil {
			v, has := md[m[1]]
			chosen = chosen && (has && v == m[3]) == (m[2] != "!=")
		} else if m := modelSet.FindStringSubmatch(part); m != nil && space(m[3]) != "" {
			one := false
			for v := range strings.SplitSeq(m[3], ",") {
				if !modelValue.MatchString(space(v)) {
					return false, false
				}
				have, has := md[m[1]]
				one = one || has && have == space(v)
			}
			chosen = chosen && one == (m[2] == "in")
		} else {
			return false, false
		}
	}
	return chosen, true
}

func FuzzSelector(f *testing.F) {
	for _, expr := range []string{
		"zone in (a,b), !canary", "zone=a", "zone != a", "a,b", "a,,b", "x in (,)", "x in ()", "in in (in)", "!a=b", "a in (b", ")", "a=,b", "a in ((b))",
	} {
		f.Add(expr, "zone", "a")
	}
	f.Fuzz(func(t *testing.T, expr, key, value string) {
		other := func(r rune) bool {
			return unicode.IsControl(r) && !strings.ContainsRune(selectorSpace, r) || r == utf8.RuneError || unicode.IsSpace(r) && r > ' '
		}
		if strings.ContainsFunc(expr, other) || len(expr) > maxSelector {
			return // the patterns of the model see other spaces
		}
		s := parseSelector(expr)
		for _, md := range []map[string]string{nil, {key: value}, {"zone": "a", "a": "", "b": value}} {
			want, ok := modelSelects(expr, md)
			if ok != (s.err == nil) {
				t.Fatalf("%q: %v, the model says %v", expr, s.err, ok)
			}
			if got := s.matches(md); got != want {
				t.Fatalf("%q chooses %v: %v, want %v", expr, md, got, want)
			}
			if s.err != nil {
				continue
			}
			again := parseSelector(s.String())
			if again.err != nil || again.String() != s.String() || again.matches(md) != want {
				t.Fatalf("%q travels as %q, which is read as %q, %v", expr, s, again, again.err)
			}
			if strings.ContainsAny(s.String(), "\r\n") || len(s.String()) > maxSelector {
				t.Fatalf("%q does not fit into a header", s)
			}
		}
	})
}
