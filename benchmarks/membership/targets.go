package membership

import "github.com/catga/catga-go/benchmarks/internal/bench"

// Targets are what the results must reach on 2 cores.
func (s *Suite) Targets() []bench.Target {
	under := func(limit float64) func(bench.Result) bool {
		return func(r bench.Result) bool { return r.Ours < limit }
	}
	upTo := func(n int) func(bench.Result) bool {
		return func(r bench.Result) bool { return r.Nodes <= n }
	}
	exactly := func(n int) func(bench.Result) bool {
		return func(r bench.Result) bool { return r.Nodes == n }
	}
	tail := func(median, p95 float64) func(bench.Result) bool {
		return func(r bench.Result) bool { return r.Ours < median && (r.P95 == nil || *r.P95 < p95) }
	}
	beside := func(r bench.Result) bool { return r.Ratio != nil }
	targets := []bench.Target{
		{Case: "crash_seen_by_all", Says: "under 0.7 s", Applies: upTo(50), Met: under(0.7)},
		{Case: "crash_seen_by_all", Says: "under 0.12 of memberlist", Applies: beside, Met: func(r bench.Result) bool { return *r.Ratio < 0.12 }},
		{Case: "restart_same_name", Says: "under 0.1 s", Applies: upTo(50), Met: under(0.1)},
		{Case: "hang_seen_by_all", Says: "under 6 s", Applies: upTo(50), Met: under(6)},
		{Case: "rejoin_after_partition", Says: "under 2 s", Applies: upTo(50), Met: under(2)},
		{Case: "false_deaths", Says: "0", Met: func(r bench.Result) bool { return r.Ours == 0 }},
		{Case: "crash_100_seen_by_all", Says: "under 2 s", Met: under(2)},
		{Case: "restart_all_true_again", Says: "under 15 s", Applies: upTo(1000), Met: under(15)},
		{Case: "idle_cpu_cores", Says: "under 0.3 cores", Applies: upTo(1000), Met: under(0.3)},
		{Case: "idle_cpu_cores", Says: "under 0.5 cores", Applies: exactly(10000), Met: under(0.5)},
		{Case: growthCase, Says: "at most 11", Met: func(r bench.Result) bool { return r.Ours <= 11 }},
		{Case: "form", Says: "under 60 s", Applies: upTo(10000), Met: under(60)},
	}
	for _, name := range []string{"join_seen_by_all", "update_seen_by_all", "leave_seen_by_all"} {
		targets = append(targets, bench.Target{
			Case: name, Says: "under 20 ms, p95 under 60 ms", Applies: upTo(50), Met: tail(0.020, 0.060),
		})
	}
	return targets
}
