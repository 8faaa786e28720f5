package membership

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"github.com/catga/catga-go/benchmarks/internal/bench"
	"github.com/catga/catga-go/kvregistry"
)

// crashed is how many members of one process are gone at once.
const crashed = 100

// settle is how long a cluster is left alone before it is called idle, but no
// longer than it is then watched.
const settle = 15 * time.Second

// scale measures a whole cluster: how it forms, what it costs while nothing
// happens, and how it takes the loss of many and of its server.
func (r *run) scale() error {
	whole := []string{"crash_100_seen_by_all", "restart_all_true_again", "idle_cpu_cores", "server_mb", "msgs_per_s"}
	form := r.opts.Wants("form") && r.n >= manyNodes
	if !form && !slices.ContainsFunc(whole, r.opts.Wants) {
		return nil
	}
	var (
		c      *crowd
		formed measured
	)
	defer func() {
		if c != nil {
			c.close()
		}
	}()
	// A process has one view, not a thousand: what the collector spends on all of
	// them is no cost of a member.
	defer debug.SetGCPercent(debug.SetGCPercent(manyViewsGC))
	rounds := 1
	if form && r.n < 500 {
		rounds = r.rounds() // it takes less than a second
	}
	for i := range rounds {
		if c != nil {
			c.close()
		}
		c = &crowd{cluster: fmt.Sprintf("scale%d-%d", r.n, i), url: r.at.URL(), deaths: r.deaths, atOnce: *r.atOnce}
		took, err := r.formScale(c)
		if err != nil {
			return err
		}
		formed.samples = append(formed.samples, took)
	}
	if form {
		formed.note = fmt.Sprintf("buckets made, %d at a time connect and join; every view true", min(*r.atOnce, r.n))
		r.print("form", "s", formed, measured{})
	}
	for _, f := range []func(*crowd) error{r.idleScale, r.crashScale, r.restartScale} {
		if err := f(c); err != nil {
			return err
		}
	}
	return nil
}

// manyViewsGC is how much the heap may grow between two collections, in percent.
const manyViewsGC = 400

// phase is a part of a run whose use of the processor is told.
type phase struct {
	r       *run
	own     time.Duration
	servers bench.Usage
}

// begin begins a phase, and a profile of the servers if there is to be one.
func (r *run) begin(name string) (*phase, error) {
	if *r.profile != "" {
		if err := r.at.Profile(fmt.Sprintf("%s.%d.%s", *r.profile, r.n, name)); err != nil {
			return nil, err
		}
	}
	u, err := r.at.Usage()
	return &phase{r: r, own: bench.ProcessorTime(), servers: u}, err
}

// used says what has been used since the phase began.
func (p *phase) used() string {
	own := bench.ProcessorTime() - p.own
	u, err := p.r.at.Usage()
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%.1f s of processor here, %.1f s in the servers", own.Seconds(), (u.CPU - p.servers.CPU).Seconds())
}

// end ends the phase and says what it has used.
func (p *phase) end() string {
	used := p.used()
	if *p.r.profile != "" {
		if err := p.r.at.Profile(""); err != nil {
			return err.Error()
		}
	}
	return used
}

func (r *run) formScale(c *crowd) (float64, error) {
	r.say("form, %d with a full view", r.full)
	// The full ones are spread over the order in which members join.
	light := func(i int) bool { return i*r.full/r.n == (i+1)*r.full/r.n }
	phase, err := r.begin("form")
	if err != nil {
		return 0, err
	}
	start := time.Now()
	c.progress = func(n int64) {
		r.say("%d have joined after %.1f s, %d connections were lost; %s", n, time.Since(start).Seconds(), c.lost(), phase.used())
	}
	if err := c.join(r.ctx, names("n", r.n), light); err != nil {
		return 0, fmt.Errorf("%w after %.0f s, when %d of %d had begun and %d connections were lost; %s", err, time.Since(start).Seconds(), len(c.members), r.n, c.lost(), phase.end())
	}
	joined := time.Since(start).Seconds()
	took, err := c.see(r.ctx, r.n).since(start)
	if err != nil {
		return 0, err
	}
	r.say("joined after %.2f s, every view complete after %.2f s; %s", joined, took, phase.end())
	if err := c.truth(nil); err != nil {
		return 0, fmt.Errorf("after forming: %w", err)
	}
	return took, nil
}

// idleScale measures what the cluster costs while nothing happens.
func (r *run) idleScale(c *crowd) error {
	if !r.opts.Wants("idle_cpu_cores") && !r.opts.Wants("server_mb") && !r.opts.Wants("msgs_per_s") {
		return nil
	}
	if err := c.armed(r.ctx); err != nil {
		return err
	}
	r.say("idle for %v", *r.idle)
	if err := pause(r.ctx, min(settle, *r.idle)); err != nil {
		return err
	}
	before, err := r.at.Usage()
	if err != nil {
		return err
	}
	start, own := time.Now(), bench.ProcessorTime()
	if err := pause(r.ctx, *r.idle); err != nil {
		return err
	}
	after, err := r.at.Usage()
	if err != nil {
		return err
	}
	seconds := time.Since(start).Seconds()
	cores := (after.CPU - before.CPU).Seconds() / seconds
	simulator := (bench.ProcessorTime() - own).Seconds() / seconds
	one := func(name, unit string, value float64, note string) {
		if r.opts.Wants(name) {
			r.print(name, unit, measured{samples: []float64{value}, note: note}, measured{})
		}
	}
	one("idle_cpu_cores", "cores", cores, fmt.Sprintf("server processes alone, over %.0f s; the process with all members used %.3f", seconds, simulator))
	one("server_mb", "MB", float64(after.Memory)/(1<<20), "resident memory of the server processes")
	one("msgs_per_s", "1/s", float64(after.InMsgs-before.InMsgs)/seconds, fmt.Sprintf("received by the server processes, over %.0f s", seconds))
	return c.truth(nil)
}

// crashScale has a process with 100 further members join and kills it.
func (r *run) crashScale(c *crowd) error {
	if !r.opts.Wants("crash_100_seen_by_all") {
		return nil
	}
	var m measured
	rounds := min(*r.slow, 5)
	if r.n < 500 {
		rounds = r.rounds()
	}
	for i := range rounds {
		took, err := r.crashOnce(c, fmt.Sprintf("x%d-", i))
		if err != nil {
			return fmt.Errorf("crash_100_seen_by_all: %w", err)
		}
		m.samples = append(m.samples, took)
	}
	m.note = fmt.Sprintf("SIGKILL of a process with %d more members; every view of the other %d true again", crashed, r.n)
	r.print("crash_100_seen_by_all", "s", m, measured{})
	return nil
}

func (r *run) crashOnce(c *crowd, prefix string) (float64, error) {
	ids := names(prefix, crashed)
	s, err := launch(joinOrder{URL: r.at.URL(), Cluster: c.cluster, IDs: ids, Light: r.full < r.n})
	if err != nil {
		return 0, err
	}
	defer s.kill()
	if err := s.joined(); err != nil {
		return 0, err
	}
	if err := c.see(r.ctx, r.n+crashed).seen(); err != nil {
		return 0, err
	}
	if err := c.truth(s.incarnations); err != nil {
		return 0, err
	}
	if err := pause(r.ctx, 2*time.Second); err != nil {
		return 0, err
	}
	r.deaths.expect(slices.Collect(maps.Keys(s.incarnations))...)
	runtime.GC() // as a benchmark of the standard library does: the garbage is of the joining
	phase, err := r.begin("crash")
	if err != nil {
		return 0, err
	}
	seen := c.see(r.ctx, r.n)
	start := time.Now()
	s.kill()
	took, err := seen.since(start)
	if err != nil {
		return 0, err
	}
	r.say("crash of %d seen by all after %.3f s; %s", crashed, took, phase.end())
	return took, c.truth(nil)
}

// lookAgain is the pause after a look at all views that found one stale.
const lookAgain = 100 * time.Millisecond

// restartScale kills the servers and starts them again at once.
func (r *run) restartScale(c *crowd) error {
	if !r.opts.Wants("restart_all_true_again") {
		return nil
	}
	var m measured
	rounds := 1
	if r.n < 500 {
		rounds = min(*r.slow, 3)
	}
	for range rounds {
		took, healthy, err := r.restartOnce(c)
		if err != nil {
			return fmt.Errorf("restart_all_true_again: %w", err)
		}
		r.say("all true again %.3f s after the SIGKILL of the server", took)
		m.samples = append(m.samples, took)
		m.note = fmt.Sprintf("from SIGKILL of the server, started again at once on its files and healthy after %.2f s, until every view is fresh and true at once", healthy)
	}
	r.print("restart_all_true_again", "s", m, measured{})
	return nil
}

func (r *run) restartOnce(c *crowd) (took, healthy float64, err error) {
	r.say("restart of the server")
	full := c.full()
	before := make(map[*member]uint64, len(full))
	for _, m := range full {
		before[m] = m.nc.Stats().Reconnects
	}
	ctx, cancel := context.WithTimeout(r.ctx, limit)
	defer cancel()
	start := time.Now()
	for _, s := range r.at.All() {
		s.Kill()
	}
	if err := r.at.Restart(); err != nil {
		return 0, 0, err
	}
	healthy = time.Since(start).Seconds()
	// A view that was fresh may be stale again while thousands still reconnect:
	// what counts is when all are fresh and true at once.
	for {
		// A view is published when it gets fresh, which is after the reconnect.
		took, err = c.watch(ctx, func(m *member, v kvregistry.View) bool {
			return m.nc.Stats().Reconnects > before[m] && !v.Stale && len(v.Members) == r.n
		}).since(start)
		if err != nil {
			return 0, 0, err
		}
		if err = c.truth(nil); !errors.Is(err, errStale) {
			return took, healthy, err
		}
		r.say("after %.3f s, but by now %v", took, err)
		if err := pause(ctx, lookAgain); err != nil {
			return 0, 0, err
		}
	}
}
