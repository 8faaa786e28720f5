package microsrv

import "strings"

// NoVersion is the version of a service that states none.
const NoVersion = "0.0.0"

// Version returns s, without a leading "v", where it is a semantic version
// (semver.org), and else NoVersion: clients drop an answer with another one.
func Version(s string) string {
	s = strings.TrimPrefix(s, "v")
	rest, build, hasBuild := strings.Cut(s, "+")
	core, pre, hasPre := strings.Cut(rest, "-")
	numbers := strings.Split(core, ".")
	if len(numbers) != 3 || hasBuild && !identifiers(build, false) || hasPre && !identifiers(pre, true) {
		return NoVersion
	}
	for _, n := range numbers {
		if !isNumber(n) || n[0] == '0' && n != "0" {
			return NoVersion
		}
	}
	return s
}

// identifiers reports whether s is dot-separated identifiers; strict ones that
// are numbers have no zero before them.
func identifiers(s string, strict bool) bool {
	for id := range strings.SplitSeq(s, ".") {
		if id == "" || strings.ContainsFunc(id, func(r rune) bool { return r != '-' && !isLetter(r) && !isDigit(r) }) {
			return false
		}
		if strict && isNumber(id) && id[0] == '0' && id != "0" {
			return false
		}
	}
	return true
}

func isNumber(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !isDigit(r) })
}

func isDigit(r rune) bool  { return '0' <= r && r <= '9' }
func isLetter(r rune) bool { return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' }
