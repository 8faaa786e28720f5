package microsrv

import (
	"errors"
	"strings"
)

// Verb is what an instance is asked.
type Verb string

// The verbs.
const (
	// Ping asks who is there.
	Ping Verb = "PING"
	// Info asks what there is to ask for.
	Info Verb = "INFO"
	// Stats asks how often it was.
	Stats Verb = "STATS"
)

// root is the first token of every subject of the protocol.
const root = "$SRV"

var errVerb = errors.New("microsrv: the verb is none of PING, INFO and STATS")

// Subjects are where the instance id of the service name listens: for everybody,
// for the service, and for itself. The star stands for the verb, so that three
// subscriptions do for nine subjects.
func Subjects(name, id string) []string {
	all := root + ".*"
	return []string{all, all + "." + name, all + "." + name + "." + id}
}

// VerbOf returns the verb in the subject of a request, and whether it is one.
func VerbOf(subject string) (Verb, bool) {
	rest, ok := strings.CutPrefix(subject, root+".")
	if !ok {
		return "", false
	}
	token, _, _ := strings.Cut(rest, ".")
	switch v := Verb(token); v {
	case Ping, Info, Stats:
		return v, true
	default:
		return "", false
	}
}
