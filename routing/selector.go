package routing

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ErrSelector says that the expression of a Where is not a selector. It is
// wrapped in ErrNotDelivered and says where the expression is wrong, and what
// would be right there.
var ErrSelector = errors.New("bad selector")

// maxSelector is the longest selector in bytes, all Where of a target together:
// it travels in a header of every message.
const maxSelector = 1024

// Selector chooses nodes by their metadata. It is made by Where; the zero
// Selector chooses every node.
type Selector struct{ s *selector }

// String returns the selector in its shortest form, which means the same.
func (s Selector) String() string {
	if s.s == nil {
		return ""
	}
	return s.s.String()
}

// Where chooses the nodes whose metadata meets every requirement of expr:
//
//	zone            there is a zone
//	!canary         there is no canary
//	zone = a        the zone is a; also zone == a
//	zone != a       the zone is not a, or there is none
//	zone in (a, b)  the zone is a or b
//	zone notin (a)  the zone is not a, or there is none
//
// Requirements are joined by commas: "zone in (a,b), !canary". An empty expr is
// every node. A bad expr fails the verb that it is used with: ErrSelector. Keep
// the Selector in a variable where it is used often: Where parses.
//
// The syntax is that of Kubernetes label selectors, without the comparison of
// numbers (< and >), and with keys and values of any text that has neither
// space nor one of = ! ( ) , < >. The grammar, after
// k8s.io/apimachinery/pkg/labels.Parse:
//
//	selector    = [ requirement { "," requirement } ]
//	requirement = "!" WORD
//	            | WORD [ ( "=" | "==" | "!=" ) [ WORD ] | ( "in" | "notin" ) "(" [ WORD ] { "," [ WORD ] } ")" ]
//
// A value that is left out is the empty one; "()" holds none and is refused.
func Where(expr string) Selector { return Selector{parseSelector(expr)} }

// allOf joins selectors to one that chooses whom each of them chooses; nil is
// every node.
func allOf(list []Selector) *selector {
	var all *selector
	for _, s := range list {
		switch {
		case s.s == nil || s.s.err == nil && len(s.s.all) == 0:
		case all == nil:
			all = s.s
		default:
			all = all.and(s.s)
		}
	}
	return all
}

// selector is a parsed expression, or why it is none.
type selector struct {
	all []requirement
	err error
}

// operator is what a requirement asks of the value of its key.
type operator uint8

const (
	exists operator = iota + 1
	absent
	in    // = and == too
	notIn // != too, and where the key is absent
)

// requirement is one of the conditions that a selector joins.
type requirement struct {
	key    string
	op     operator
	values []string
}

// matches reports whether a node with that metadata is chosen.
func (s *selector) matches(metadata map[string]string) bool {
	if s == nil {
		return true
	}
	if s.err != nil {
		return false
	}
	for _, r := range s.all {
		if !r.matches(metadata) {
			return false
		}
	}
	return true
}

func (r requirement) matches(metadata map[string]string) bool {
	value, ok := metadata[r.key]
	switch r.op {
	case exists:
		return ok
	case absent:
		return !ok
	case in:
		return ok && slices.Contains(r.values, value)
	default:
		return !ok || !slices.Contains(r.values, value)
	}
}

// and joins two selectors.
func (s *selector) and(other *selector) *selector {
	both := &selector{all: slices.Concat(s.all, other.all), err: errors.Join(s.err, other.err)}
	if text := both.String(); both.err == nil && len(text) > maxSelector {
		both.err = tooLong(text)
	}
	return both
}

// String returns the selector as it travels.
func (s *selector) String() string {
	var b strings.Builder
	for i, r := range s.all {
		if i > 0 {
			b.WriteByte(',')
		}
		switch {
		case r.op == absent:
			b.WriteString("!" + r.key)
		case r.op == exists:
			b.WriteString(r.key)
		case r.op == in && len(r.values) == 1:
			b.WriteString(r.key + "=" + r.values[0])
		case r.op == notIn && len(r.values) == 1:
			b.WriteString(r.key + "!=" + r.values[0])
		case r.op == in:
			b.WriteString(r.key + " in(" + strings.Join(r.values, ",") + ")")
		default:
			b.WriteString(r.key + " notin(" + strings.Join(r.values, ",") + ")")
		}
	}
	return b.String()
}

// problem is why s is no selector, or nil.
func (s *selector) problem() error {
	if s == nil {
		return nil
	}
	return s.err
}

// scope tells the targets of one verb apart by their selectors, in a caller's id.
func (s *selector) scope() string {
	sum := sha256.Sum256([]byte(s.String()))
	return hex.EncodeToString(sum[:8])
}

func tooLong(text string) error {
	return fmt.Errorf("%w: %.40q... has %d bytes, %d at most", ErrSelector, text, len(text), maxSelector)
}

// parseSelector parses an expression by recursive descent. It is pure.
func parseSelector(expr string) *selector {
	if len(expr) > maxSelector {
		return &selector{err: tooLong(expr)}
	}
	p := selectorParser{text: expr}
	p.next()
	s := &selector{}
	for p.token != "" || p.err != nil {
		s.all = append(s.all, p.requirement())
		if p.err == nil && p.token != "" && p.token != "," {
			p.expected("a comma or the end")
		}
		if p.err != nil {
			return &selector{err: p.err}
		}
		if p.token == "," {
			if p.next(); p.token == "" {
				p.expected("a key or !")
			}
		}
	}
	return s
}

// selectorParser is one token ahead of what has been understood. The first
// error stays.
type selectorParser struct {
	text  string
	at    int    // of token in text
	end   int    // of token in text
	token string // empty at the end
	err   error
}

const (
	selectorSpace   = " \t\r\n"
	selectorSpecial = "=!(),<>"
)

// next reads a token: a word, == or !=, or one special character.
func (p *selectorParser) next() {
	p.at = p.end
	for p.at < len(p.text) && strings.IndexByte(selectorSpace, p.text[p.at]) >= 0 {
		p.at++
	}
	rest := p.text[p.at:]
	n := strings.IndexAny(rest, selectorSpace+selectorSpecial)
	switch {
	case n < 0:
		n = len(rest)
	case n == 0 && (strings.HasPrefix(rest, "==") || strings.HasPrefix(rest, "!=")):
		n = 2
	case n == 0:
		n = 1
	}
	p.end, p.token = p.at+n, rest[:n]
	// The text travels in a header.
	bad := func(r rune) bool { return unicode.IsControl(r) || r == utf8.RuneError }
	if i := strings.IndexFunc(p.token, bad); i >= 0 {
		p.at += i
		p.expected("text without control characters")
	}
}

// expected notes what would have been right at the token.
func (p *selectorParser) expected(what string) {
	if p.err != nil {
		return
	}
	found := "the end"
	if p.token != "" {
		found = fmt.Sprintf("%.40q", p.token)
	}
	p.err = fmt.Errorf("%w %.200q: at character %d: expected %s, found %s", ErrSelector, p.text, utf8.RuneCountInString(p.text[:p.at])+1, what, found)
}

// word takes a token that is a word.
func (p *selectorParser) word(what string) string {
	word := p.token
	if word == "" || strings.Contains(selectorSpecial, word[:1]) {
		p.expected(what)
		return ""
	}
	p.next()
	return word
}

// value takes a word, or nothing where the value ends here.
func (p *selectorParser) value(ends, what string) string {
	if p.token == "" || strings.Contains(ends, p.token) {
		return ""
	}
	return p.word(what)
}

func (p *selectorParser) requirement() requirement {
	if p.token == "!" {
		p.next()
		return requirement{key: p.word("a key"), op: absent}
	}
	r := requirement{key: p.word("a key or !"), op: exists}
	switch p.token {
	case "", ",":
	case "=", "==", "!=":
		r.op = in
		if p.token == "!=" {
			r.op = notIn
		}
		p.next()
		r.values = []string{p.value(",", "a value")}
	case "in", "notin":
		r.op = in
		if p.token == "notin" {
			r.op = notIn
		}
		p.next()
		r.values = p.values()
	default:
		p.expected("one of = == != in notin, a comma or the end")
	}
	return r
}

// values takes a list in parentheses.
func (p *selectorParser) values() []string {
	if p.token != "(" {
		p.expected("(")
		return nil
	}
	if p.next(); p.token == ")" {
		p.expected("a value")
	}
	var values []string
	for p.err == nil {
		values = append(values, p.value(",)", "a value"))
		if p.token != "," {
			break
		}
		p.next()
	}
	if p.token != ")" {
		p.expected("a comma or )")
	}
	p.next()
	return values
}
