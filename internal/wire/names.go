package wire

import (
	"fmt"
	"strings"
)

// Version is the wire version that records and headers carry.
const Version = 1

// MaxName is the longest cluster name, node id or token of a kind, in bytes.
const MaxName = 64

// MaxKind is the longest kind, in bytes: with it a subject stays well under
// the length that NATS servers are happy with, and a consumer's name under 255.
const MaxKind = 128

// CheckCluster reports why name cannot be the name of a cluster.
func CheckCluster(name string) error {
	if err := checkName("cluster name", name); err != nil {
		return err
	}
	// The heartbeats of cluster x live in the bucket of a cluster x_beats.
	if strings.HasSuffix(name, beatsSuffix) {
		return fmt.Errorf("cluster name %q ends in %q, which names a bucket of heartbeats: choose another name", name, beatsSuffix)
	}
	return nil
}

// CheckNode reports why id cannot be the id of a node.
func CheckNode(id string) error { return checkName("node id", id) }

func checkName(what, s string) error {
	switch {
	case s == "":
		return fmt.Errorf("%s is empty: use 1 to %d of A-Z a-z 0-9 _ -", what, MaxName)
	case len(s) > MaxName:
		return fmt.Errorf("%s %.20q... has %d bytes: use 1 to %d of A-Z a-z 0-9 _ -", what, s, len(s), MaxName)
	}
	for _, r := range s {
		if !isNameRune(r) {
			return fmt.Errorf("%s %q contains %q: use 1 to %d of A-Z a-z 0-9 _ -", what, s, r, MaxName)
		}
	}
	return nil
}

// CheckKind reports why kind cannot be the kind of a message. A kind is made
// of dot-separated tokens of A-Z a-z 0-9 _ - that start and end with a letter
// or digit, and contains no "--", because that is what a dot becomes where dots
// are refused (see Dashed): "a-.b" and "a.-b" would become the same.
func CheckKind(kind string) error {
	const hint = "use dot-separated tokens of A-Z a-z 0-9 _ -, such as order.place"
	switch {
	case kind == "":
		return fmt.Errorf("kind is empty: %s", hint)
	case len(kind) > MaxKind:
		return fmt.Errorf("kind %.20q... has %d bytes, %d at most", kind, len(kind), MaxKind)
	case strings.Contains(kind, "--"):
		return fmt.Errorf("kind %q contains \"--\", which stands for a dot: %s", kind, hint)
	}
	for token := range strings.SplitSeq(kind, ".") {
		if token == "" {
			return fmt.Errorf("kind %q has an empty token: %s", kind, hint)
		}
		if len(token) > MaxName {
			return fmt.Errorf("kind %q has a token of %d bytes, %d at most", kind, len(token), MaxName)
		}
		for _, r := range token {
			if !isNameRune(r) {
				return fmt.Errorf("kind %q contains %q: %s", kind, r, hint)
			}
		}
		if !isAlnum(token[0]) || !isAlnum(token[len(token)-1]) {
			return fmt.Errorf("kind %q: %q must start and end with a letter or digit: %s", kind, token, hint)
		}
	}
	return nil
}

// Dashed returns kind as one token that is also a legal service name: a dot
// becomes "--".
func Dashed(kind string) string { return strings.ReplaceAll(kind, ".", "--") }

// Undashed is the inverse of Dashed.
func Undashed(token string) string { return strings.ReplaceAll(token, "--", ".") }

func isNameRune(r rune) bool {
	return r < 128 && (isAlnum(byte(r)) || r == '_' || r == '-')
}

func isAlnum(b byte) bool {
	return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9'
}
