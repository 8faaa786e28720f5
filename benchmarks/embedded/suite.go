package embedded

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/catga/catga-go/benchmarks/internal/bench"
	"github.com/catga/catga-go/embedded"
)

const (
	suiteName     = "embedded"
	defaultRounds = 10
)

// The cases.
const (
	caseFirst  = "start_to_first_message_ms"
	caseThree  = "three_servers_writable_s"
	caseStop   = "leader_stop_resume_s"
	caseKill   = "leader_kill_resume_s"
	caseCycles = "kill_cycles_lost"

	caseWriteOne        = "write_us"
	caseWriteOneLater   = "write_synced_later_us"
	caseWriteThree      = "write_three_us"
	caseWriteThreeLater = "write_three_synced_later_us"
)

// Suite is the suite "embedded".
type Suite struct {
	// Progress gets a line now and then; nil is silent.
	Progress io.Writer
	cycles   int
	seed     uint64
}

// Flags implements bench.Suite.
func (s *Suite) Flags(flags *flag.FlagSet) {
	flags.IntVar(&s.cycles, "cycles", 100, "embedded: how often one of three servers is killed under load")
	flags.Uint64Var(&s.seed, "seed", 0, "embedded: of the kills under load; 0 is one by the clock")
}

// Cases implements bench.Suite.
func (s *Suite) Cases() []string {
	return []string{
		caseFirst, caseThree, caseStop, caseKill, caseCycles,
		caseWriteOne, caseWriteOneLater, caseWriteThree, caseWriteThreeLater,
	}
}

// Targets implements bench.Suite.
func (s *Suite) Targets() []bench.Target {
	under := func(limit float64) func(bench.Result) bool {
		return func(r bench.Result) bool { return r.Samples > 0 && r.Ours < limit }
	}
	return []bench.Target{
		{Case: caseFirst, Says: "under 150 ms", Met: under(150)},
		{Case: caseThree, Says: "under 5 s", Met: under(5)},
		{Case: caseStop, Says: "under 1 s", Met: under(1)},
		{Case: caseKill, Says: "under 8 s, at most 12 s", Met: func(r bench.Result) bool {
			return r.Samples > 0 && r.Ours < 8 && r.Max < 12
		}},
		{Case: caseCycles, Says: "0", Met: func(r bench.Result) bool { return r.Samples > 0 && r.Ours == 0 }},
	}
}

// Run implements bench.Suite.
func (s *Suite) Run(ctx context.Context, out *bench.Printer, opts bench.Options) error {
	rounds := cmp.Or(opts.Rounds, defaultRounds)
	for _, c := range []struct {
		name string
		run  func(context.Context, int) (bench.Result, error)
	}{
		{caseFirst, s.first},
		{caseThree, s.three},
		{caseStop, s.stopLeader},
		{caseKill, s.killLeader},
		{caseCycles, s.killCycles},
		{caseWriteOne, writes(1, 0)},
		{caseWriteOneLater, writes(1, later)},
		{caseWriteThree, writes(3, 0)},
		{caseWriteThreeLater, writes(3, later)},
	} {
		if !opts.Wants(c.name) {
			continue
		}
		r, err := c.run(ctx, rounds)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		r.Suite, r.Case, r.LowerIsBetter = suiteName, c.name, true
		out.Print(r)
	}
	return nil
}

func (s *Suite) say(format string, args ...any) {
	if s.Progress != nil {
		fmt.Fprintf(s.Progress, "embedded: "+format+"\n", args...)
	}
}

// first is a process that stands alone, with an empty directory.
func (s *Suite) first(_ context.Context, rounds int) (bench.Result, error) {
	var took []float64
	for range rounds {
		d, err := s.firstOnce()
		if err != nil {
			return bench.Result{}, err
		}
		took = append(took, float64(d.Microseconds())/1e3)
	}
	return bench.Result{
		Unit: "ms", Servers: 1,
		Note: "from the start of the process until its node has joined and handled the first message that it stored, synced",
	}.Of(took), nil
}

func (s *Suite) firstOnce() (_ time.Duration, err error) {
	dir, err := os.MkdirTemp("", "catga-bench-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	m := &machine{cfg: serverConfig{Config: embedded.Config{Dir: filepath.Join(dir, "d")}, Node: true}}
	defer m.kill()
	begin := time.Now()
	if err := m.again(); err != nil {
		return 0, err
	}
	took := time.Since(begin)
	return took, m.stop()
}

// three are three processes with empty directories.
func (s *Suite) three(_ context.Context, rounds int) (bench.Result, error) {
	var took []float64
	for range rounds {
		t, err := newTrio(0)
		if err != nil {
			return bench.Result{}, err
		}
		d, err := t.start()
		t.close()
		if err != nil {
			return bench.Result{}, err
		}
		took = append(took, d.Seconds())
	}
	return bench.Result{
		Unit: "s", Servers: 3,
		Note: "processes with empty directories; from the start of the last one until all three can be written",
	}.Of(took), nil
}

// stopLeader closes the server that leads the work stream.
func (s *Suite) stopLeader(ctx context.Context, rounds int) (bench.Result, error) {
	return s.withoutLeader(ctx, rounds, "Close of the server that leads the work stream: the longest pause between two sends of a node",
		func(m *machine) error { return m.stop() })
}

// killLeader kills it.
func (s *Suite) killLeader(ctx context.Context, rounds int) (bench.Result, error) {
	return s.withoutLeader(ctx, rounds, "SIGKILL of the server that leads the work stream: the longest pause between two sends of a node",
		func(m *machine) error { m.kill(); return nil })
}

// withoutLeader ends the leader again and again, while a node sends.
func (s *Suite) withoutLeader(ctx context.Context, rounds int, note string, end func(*machine) error) (bench.Result, error) {
	t, err := newTrio(0)
	if err != nil {
		return bench.Result{}, err
	}
	defer t.close()
	if _, err := t.start(); err != nil {
		return bench.Result{}, err
	}
	l, err := newLoad(ctx, t.url(), 1)
	if err != nil {
		return bench.Result{}, err
	}
	defer l.close()
	var took []float64
	for range rounds {
		leader, err := l.leader(ctx)
		if err != nil {
			return bench.Result{}, err
		}
		m, err := t.named(leader)
		if err != nil {
			return bench.Result{}, err
		}
		l.forget()
		if err := end(m); err != nil {
			return bench.Result{}, err
		}
		pause, err := l.longest(ctx, resumed)
		if err != nil {
			return bench.Result{}, err
		}
		s.say("without %s: %v", leader, pause)
		took = append(took, pause.Seconds())
		if err := m.again(); err != nil {
			return bench.Result{}, err
		}
		if err := l.complete(ctx); err != nil {
			return bench.Result{}, err
		}
	}
	return bench.Result{Unit: "s", Servers: 3, Note: note}.Of(took), nil
}

// resumed is for how long sends must have gone on before a pause is over.
const resumed = 2 * time.Second

// killCycles kills one of three servers again and again, while nodes send.
func (s *Suite) killCycles(ctx context.Context, _ int) (bench.Result, error) {
	const senders = 4
	seed := cmp.Or(s.seed, rand.Uint64())
	random := rand.New(rand.NewPCG(seed, 0))
	t, err := newTrio(0)
	if err != nil {
		return bench.Result{}, err
	}
	defer t.close()
	if _, err := t.start(); err != nil {
		return bench.Result{}, err
	}
	l, err := newLoad(ctx, t.url(), senders)
	if err != nil {
		return bench.Result{}, err
	}
	defer l.close()
	begin := time.Now()
	for n := range s.cycles {
		m := t.machines[random.IntN(len(t.machines))]
		m.kill()
		// Down for a moment, or for longer than an election takes.
		if err := pause(ctx, time.Duration(random.Int64N(int64(8*time.Second)))/time.Duration(1+random.IntN(4))); err != nil {
			return bench.Result{}, err
		}
		if err := m.again(); err != nil {
			return bench.Result{}, fmt.Errorf("cycle %d, seed %d: %w", n+1, seed, err)
		}
		if (n+1)%10 == 0 {
			s.say("%d kills in %v: %v", n+1, time.Since(begin).Round(time.Second), l)
		}
	}
	lost, err := l.lost(ctx)
	if err != nil {
		return bench.Result{}, fmt.Errorf("seed %d: %w", seed, err)
	}
	return bench.Result{Unit: "msgs", Servers: 3, Note: fmt.Sprintf(
		"%d times SIGKILL and restart of one of three under load, seed %d: %v", s.cycles, seed, l)}.Of([]float64{float64(lost)}), nil
}

// pause waits.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
