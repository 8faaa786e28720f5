package routing

import "github.com/catga/catga-go/benchmarks/internal/bench"

// cases are those that compare, in the order in which they run. Those of kills
// come after them.
var cases = []benchCase{
	calls("call_per_s_1", "calls/s", kindEcho, 1, run.perSecond),
	calls("call_per_s_16", "calls/s", kindEcho, manyCallers, run.perSecond),
	calls("call_p50_us", "us", kindEcho, 1, run.p50),
	calls("call_p99_us", "us", kindMixed, manyCallers, run.p99),
	calls("slow_handler_per_s", "calls/s", kindSlow, manyCallers, run.perSecond),
	timedCalls("call_timed_per_s_16", manyCallers),
	jsonCalls("call_json_per_s_16", manyCallers),
	allocs("allocs_per_call"),
	casts("cast_per_s"),
	syncSends("send_sync_per_s"),
	handles("handle_ack_per_s", kindJob),
	handles("handle_ack_16_per_s", kindTask),
	gathers("gather_10_per_s", 1),
	gathers("gather_10_per_s_4", 4),
}

// The cases of kills.
const (
	caseInFlight = "failover_in_flight_ms"
	caseMoved    = "moved_after_kill_ms"
)

// Targets implements bench.Suite.
func (s *Suite) Targets() []bench.Target {
	atLeast := func(ratio float64) func(bench.Result) bool {
		return func(r bench.Result) bool { return r.Ratio != nil && *r.Ratio >= ratio }
	}
	worst := func(most float64) func(bench.Result) bool {
		return func(r bench.Result) bool { return r.Samples > 0 && r.Max < most }
	}
	beside := func(peer string) func(bench.Result) bool {
		return func(r bench.Result) bool { return r.Peer == peer }
	}
	on := func(servers int) func(bench.Result) bool {
		return func(r bench.Result) bool { return r.Servers == servers }
	}
	return []bench.Target{
		{Case: "call_per_s_16", Says: "0.9 of raw or more", Applies: beside(raw), Met: atLeast(0.9)},
		{Case: "call_per_s_16", Says: "0.97 of micro or more", Applies: beside(micro), Met: atLeast(0.97)},
		{Case: "call_p50_us", Says: "1.15 of raw + 5 us or less", Applies: beside(raw), Met: func(r bench.Result) bool {
			return r.Theirs != nil && r.Ours <= 1.15**r.Theirs+5
		}},
		{Case: "call_p99_us", Says: "under 5 ms", Met: func(r bench.Result) bool { return r.Ours < 5000 }},
		{Case: "slow_handler_per_s", Says: "2500 or more", Met: func(r bench.Result) bool { return r.Ours >= 2500 }},
		{Case: "cast_per_s", Says: "0.8 of raw or more", Applies: beside(raw), Met: atLeast(0.8)},
		{Case: "cast_per_s", Says: "0.85 of raw with names as long as ours or more", Applies: beside(named), Met: atLeast(0.85)},
		{Case: "send_sync_per_s", Says: "0.9 of raw or more", Met: atLeast(0.9)},
		{Case: "handle_ack_per_s", Says: "0.9 of raw or more", Met: atLeast(0.9)},
		{Case: "gather_10_per_s", Says: "0.9 of a gather by hand or more", Met: atLeast(0.9)},
		{Case: caseInFlight, Says: "under 1 s, always", Met: worst(1000)},
		{Case: caseMoved, Says: "under 1 s, always", Applies: on(1), Met: worst(1000)},
		{Case: caseMoved, Says: "under 1.5 s, always", Applies: on(3), Met: worst(1500)},
	}
}
