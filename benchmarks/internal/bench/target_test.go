package bench

import (
	"strings"
	"testing"
)

func TestCheckNamesWhatWasMissed(t *testing.T) {
	targets := []Target{
		{Case: "crash", Says: "under 1 s", Met: func(r Result) bool { return r.Ours < 1 }},
		{Case: "crash", Says: "under 0.1 s", Applies: func(r Result) bool { return r.Nodes == 5 }, Met: func(r Result) bool { return r.Ours < 0.1 }},
	}
	results := []Result{{Case: "crash", Nodes: 20, Unit: "s", Ours: 0.5}, {Case: "join", Ours: 7}}
	if err := Check(results, targets); err != nil {
		t.Errorf("all met, got %v", err)
	}
	results = append(results, Result{Case: "crash", Nodes: 5, Unit: "s", Ours: 0.5}, Result{Case: "crash", Nodes: 50, Unit: "s", Ours: 2})
	err := Check(results, targets)
	if err == nil || !strings.Contains(err.Error(), "crash: 0.5 s, 5 nodes: must be under 0.1 s") || !strings.Contains(err.Error(), "crash: 2 s, 50 nodes: must be under 1 s") {
		t.Errorf("got %v", err)
	}
}
