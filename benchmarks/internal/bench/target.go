package bench

import (
	"errors"
	"fmt"
)

// Target is what a result must reach.
type Target struct {
	// Case is the case that it is about.
	Case string
	// Says is the target in words, such as "under 0.7 s".
	Says string
	// Applies tells for which results of the case it holds; nil is all.
	Applies func(Result) bool
	// Met tells whether a result reaches it.
	Met func(Result) bool
}

// Check returns an error that names each target that a result missed.
func Check(results []Result, targets []Target) error {
	var missed []error
	for _, r := range results {
		for _, t := range targets {
			if t.Case == r.Case && (t.Applies == nil || t.Applies(r)) && !t.Met(r) {
				missed = append(missed, fmt.Errorf("%s: %s: must be %s", t.Case, r.figures(), t.Says))
			}
		}
	}
	return errors.Join(missed...)
}

// figures is what a result measured, in words.
func (r Result) figures() string {
	text := fmt.Sprintf("%.4g %s", r.Ours, r.Unit)
	if r.P95 != nil {
		text += fmt.Sprintf(", p95 %.4g", *r.P95)
	}
	if r.Ratio != nil {
		text += fmt.Sprintf(", %.3f of %s", *r.Ratio, r.Peer)
	}
	if r.Nodes > 0 {
		text += fmt.Sprintf(", %d nodes", r.Nodes)
	}
	if r.Servers > 0 {
		text += fmt.Sprintf(", %d servers", r.Servers)
	}
	if r.Transport != "" {
		text += ", " + r.Transport
	}
	return text
}
