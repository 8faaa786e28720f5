package embedded

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"testing"

	"github.com/catga/catga-go/benchmarks/internal/bench"
)

func TestMain(m *testing.M) {
	if bench.InRole() {
		os.Exit(bench.RunRole())
	}
	os.Exit(m.Run())
}

// TestEveryCasePrintsItsLine is a short run of everything: the figures say
// little, the lines must be there and complete.
func TestEveryCasePrintsItsLine(t *testing.T) {
	var buf bytes.Buffer
	s := &Suite{cycles: 2, seed: 1}
	out := bench.NewPrinter(&buf, true)
	if err := s.Run(t.Context(), out, bench.Options{Rounds: 1}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for lines := bufio.NewScanner(&buf); lines.Scan(); {
		var l bench.Result
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			t.Fatalf("%s: %v", lines.Text(), err)
		}
		if l.Suite != suiteName || l.Unit == "" || l.Samples != 1 || !l.LowerIsBetter || l.Note == "" || l.Ours <= 0 != (l.Case == caseCycles) {
			t.Errorf("incomplete: %s", lines.Text())
		}
		got = append(got, l.Case)
	}
	if !slices.Equal(got, s.Cases()) {
		t.Errorf("cases %v instead of %v", got, s.Cases())
	}
	for _, target := range s.Targets() {
		if !slices.Contains(got, target.Case) {
			t.Errorf("a target for %s, which is no case", target.Case)
		}
	}
}
