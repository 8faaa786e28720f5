package routing

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/catga/catga-go/benchmarks/internal/bench"
)

func TestMain(m *testing.M) {
	if bench.InRole() {
		os.Exit(bench.RunRole())
	}
	os.Exit(m.Run())
}

// TestEveryCasePrintsItsLines is a short run of everything: the figures say
// nothing, the lines must be there and complete.
func TestEveryCasePrintsItsLines(t *testing.T) {
	var buf bytes.Buffer
	s := &Suite{transport: both, sample: 10 * time.Millisecond}
	if err := s.Run(t.Context(), bench.NewPrinter(&buf, true), bench.Options{Rounds: 1}); err != nil {
		t.Fatal(err)
	}
	type line struct {
		Suite         string   `json:"suite"`
		Case          string   `json:"case"`
		Transport     string   `json:"transport"`
		Unit          string   `json:"unit"`
		Ours          *float64 `json:"ours"`
		Peer          string   `json:"peer"`
		Theirs        *float64 `json:"theirs"`
		Ratio         *float64 `json:"ratio"`
		LowerIsBetter *bool    `json:"lower_is_better"`
		Servers       int      `json:"servers"`
	}
	got := map[string][]string{} // case -> transport or servers, and peer
	for lines := bufio.NewScanner(&buf); lines.Scan(); {
		var l line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			t.Fatalf("%s: %v", lines.Text(), err)
		}
		if l.Suite != suiteName || l.Unit == "" || l.Ours == nil || *l.Ours <= 0 || l.LowerIsBetter == nil {
			t.Errorf("incomplete: %s", lines.Text())
		}
		if l.Servers > 0 {
			got[l.Case] = append(got[l.Case], map[int]string{1: "one", 3: "three"}[l.Servers])
			continue
		}
		if l.Theirs == nil || *l.Theirs <= 0 || l.Ratio == nil {
			t.Errorf("nothing to compare with: %s", lines.Text())
		}
		got[l.Case] = append(got[l.Case], l.Transport+" "+l.Peer)
	}
	for _, name := range s.Cases() {
		want := []string{"tcp raw", "inproc raw"}
		switch name {
		case caseInFlight, caseMoved:
			want = []string{"one", "three"}
		case "cast_per_s":
			want = []string{"tcp raw", "tcp named", "inproc raw", "inproc named"}
		case "call_json_per_s_16":
			want = []string{"tcp micro", "inproc micro"}
		case "call_per_s_1", "call_per_s_16", "call_p50_us", "call_p99_us", "slow_handler_per_s", "call_timed_per_s_16", "allocs_per_call":
			want = []string{"tcp raw", "tcp micro", "inproc raw", "inproc micro"}
		}
		if !slices.Equal(got[name], want) {
			t.Errorf("%s: lines for %v, want %v", name, got[name], want)
		}
	}
}

func TestTargetsAreOfCases(t *testing.T) {
	s := &Suite{}
	for _, target := range s.Targets() {
		if !slices.Contains(s.Cases(), target.Case) {
			t.Errorf("a target of %s, which is no case", target.Case)
		}
	}
}

// TestTargetsJudge: of two results around a target one is missed.
func TestTargetsJudge(t *testing.T) {
	figure := func(name string, ours, theirs float64, peer string, servers int) bench.Result {
		r := bench.Result{Case: name, Servers: servers}.Of([]float64{ours})
		if peer != "" {
			r = r.Beside(peer, []float64{theirs})
		}
		return r
	}
	for _, c := range []struct{ good, bad bench.Result }{
		{figure("call_per_s_16", 91, 100, raw, 0), figure("call_per_s_16", 89, 100, raw, 0)},
		{figure("call_per_s_16", 98, 100, micro, 0), figure("call_per_s_16", 96, 100, micro, 0)},
		{figure("call_p50_us", 119, 100, raw, 0), figure("call_p50_us", 121, 100, raw, 0)},
		{figure("call_p99_us", 4900, 20000, raw, 0), figure("call_p99_us", 5100, 20000, raw, 0)},
		{figure("slow_handler_per_s", 2600, 190, micro, 0), figure("slow_handler_per_s", 2400, 190, micro, 0)},
		{figure("cast_per_s", 81, 100, raw, 0), figure("cast_per_s", 79, 100, raw, 0)},
		{figure("send_sync_per_s", 91, 100, raw, 0), figure("send_sync_per_s", 89, 100, raw, 0)},
		{figure("handle_ack_per_s", 91, 100, raw, 0), figure("handle_ack_per_s", 89, 100, raw, 0)},
		{figure("gather_10_per_s", 91, 100, raw, 0), figure("gather_10_per_s", 89, 100, raw, 0)},
		{figure(caseInFlight, 900, 0, "", 1), figure(caseInFlight, 1100, 0, "", 3)},
		{figure(caseMoved, 900, 0, "", 1), figure(caseMoved, 1100, 0, "", 1)},
		{figure(caseMoved, 1400, 0, "", 3), figure(caseMoved, 1600, 0, "", 3)},
	} {
		targets := (&Suite{}).Targets()
		if err := bench.Check([]bench.Result{c.good}, targets); err != nil {
			t.Error("met, and yet:", err)
		}
		if bench.Check([]bench.Result{c.bad}, targets) == nil {
			t.Errorf("%s of %v beside %v is missed, and nobody says so", c.bad.Case, c.bad.Ours, c.bad.Theirs)
		}
	}
}
