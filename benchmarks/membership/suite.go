package membership

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/catga/catga-go/benchmarks/internal/bench"
)

const (
	// suiteName is what results call this suite.
	suiteName = "membership"
	// manyNodes is the size from which on the cases of scale are the default.
	manyNodes = 100
	// mostPeers is the largest cluster of memberlist that is measured beside ours.
	mostPeers = 50
	// mostFull is the largest cluster in which every member keeps a view by default.
	mostFull = 2000
)

// Suite measures membership.
type Suite struct {
	// Progress gets what is going on.
	Progress io.Writer

	nodes   *string
	servers *int
	slow    *int
	cut     *time.Duration
	full    *int
	idle    *time.Duration
	peers   *bool
	atOnce  *int
	profile *string
}

// Flags adds what the suite takes.
func (s *Suite) Flags(flags *flag.FlagSet) {
	s.nodes = flags.String("nodes", "20", "membership: how many members; several with commas")
	s.servers = flags.Int("servers", 1, "membership: 1 NATS server, or 3 as a cluster")
	s.slow = flags.Int("slow-rounds", 5, "membership: how often a case is measured that takes seconds")
	s.cut = flags.Duration("cut", time.Minute, "membership: how long a member is cut off from its server")
	s.full = flags.Int("full", 0, "membership: how many members keep a view; 0 is all up to 2,000 members, else 100")
	s.idle = flags.Duration("idle", 40*time.Second, "membership: how long an idle cluster is watched")
	s.atOnce = flags.Int("at-once", 64, "membership: how many of a large cluster connect and join at the same time")
	s.profile = flags.String("serverprofile", "", "membership: write CPU profiles of the servers to files of that name with the size, the phase and the number of the server, from 100 members on")
	s.peers = flags.Bool("peers", true, "membership: measure memberlist beside ours, up to 50 members")
}

// Cases are the names of the cases, in their order.
func (s *Suite) Cases() []string {
	return append(strings.Split(smallCases, ","), "crash_100_seen_by_all", "restart_all_true_again", "idle_cpu_cores", "server_mb", "msgs_per_s")
}

// growthCase is printed when 1,000 and 10,000 members are measured in one run.
const growthCase = "msgs_per_s_growth"

const (
	smallCases = "form,join_seen_by_all,update_seen_by_all,leave_seen_by_all,crash_seen_by_all,hang_seen_by_all,restart_same_name,rejoin_after_partition,false_deaths"
	scaleCases = "form,crash_100_seen_by_all,restart_all_true_again,idle_cpu_cores,server_mb,msgs_per_s,false_deaths"
)

// Run measures each of the sizes that were asked for.
func (s *Suite) Run(ctx context.Context, out *bench.Printer, opts bench.Options) error {
	if *s.servers < 1 || *s.servers == 2 || *s.servers > 5 {
		return fmt.Errorf("-servers %d: use 1, or 3 (or 5) as a cluster", *s.servers)
	}
	if *s.slow < 1 {
		return fmt.Errorf("-slow-rounds %d: at least 1", *s.slow)
	}
	for text := range strings.SplitSeq(*s.nodes, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 3 {
			return fmt.Errorf("-nodes %s: numbers from 3 on, with commas", *s.nodes)
		}
		if err := s.size(ctx, out, opts, n); err != nil {
			return fmt.Errorf("%d nodes: %w", n, err)
		}
	}
	s.growth(out)
	return nil
}

// growth prints by what the messages grow from 1,000 members to 10,000, when
// this run has measured both.
func (s *Suite) growth(out *bench.Printer) {
	perSecond := map[int]float64{}
	for _, r := range out.Results() {
		if r.Case == "msgs_per_s" {
			perSecond[r.Nodes] = r.Ours
		}
	}
	if perSecond[1_000] == 0 || perSecond[10_000] == 0 {
		return
	}
	out.Print(bench.Result{
		Suite: suiteName, Case: growthCase, Nodes: 10_000, Servers: *s.servers, Unit: "x", LowerIsBetter: true,
		Note: "msgs_per_s at 10,000 over that at 1,000",
	}.Of([]float64{perSecond[10_000] / perSecond[1_000]}))
}

// size measures one size of cluster.
func (s *Suite) size(ctx context.Context, out *bench.Printer, opts bench.Options, n int) error {
	if err := filesFor(n); err != nil {
		return err
	}
	if len(opts.Cases) == 0 {
		opts.Cases = strings.Split(smallCases, ",")
		if n >= manyNodes {
			opts.Cases = strings.Split(scaleCases, ",")
		}
	}
	servers, err := bench.StartServers(*s.servers)
	if err != nil {
		return err
	}
	defer servers.Close()
	r := &run{
		Suite: s, ctx: ctx, out: out, opts: opts, n: n, at: servers, deaths: newDeaths(s.Progress),
		full: cmp.Or(*s.full, n),
	}
	if *s.full == 0 && n > mostFull {
		r.full = 100
	}
	r.full = min(r.full, n)
	if err := r.small(); err != nil {
		return err
	}
	if err := r.scale(); err != nil {
		return err
	}
	if opts.Wants("false_deaths") {
		r.print("false_deaths", "", measured{samples: []float64{float64(r.deaths.count())}, note: "live members declared dead by ours in all of the run"}, r.peerDeaths)
	}
	return nil
}

// run is the measurement of one size of cluster.
type run struct {
	*Suite
	ctx    context.Context
	out    *bench.Printer
	opts   bench.Options
	n      int
	full   int
	at     *bench.Servers
	deaths *deaths
	// peerDeaths are those of memberlist, if it was measured.
	peerDeaths measured
}

// say tells whoever watches what is going on.
func (r *run) say(format string, args ...any) {
	fmt.Fprintf(r.Progress, "%s %d nodes: "+format+"\n", append([]any{time.Now().Format("15:04:05"), r.n}, args...)...)
}

// rounds is how often a case is measured that takes less than a second.
func (r *run) rounds() int { return cmp.Or(r.opts.Rounds, 20) }

// print prints one case, with what memberlist did beside it.
func (r *run) print(name, unit string, ours, theirs measured) {
	result := bench.Result{Suite: suiteName, Case: name, Nodes: r.n, Servers: *r.servers, Unit: cmp.Or(unit, "count"), LowerIsBetter: true}
	result = result.Of(ours.samples).Beside(peerName, theirs.samples)
	result.Note = ours.note
	if theirs.note != "" {
		result.Note += "; " + theirs.note
	}
	if r.full < r.n {
		result.Note += fmt.Sprintf("; %d of the %d members keep a full view, all beat, are armed and answer pings", r.full, r.n)
	}
	r.out.Print(result)
}
