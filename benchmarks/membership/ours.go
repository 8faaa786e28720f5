package membership

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/catga/catga-go/benchmarks/internal/bench"
	"github.com/catga/catga-go/kvregistry"
)

// ours is a cluster of this library: n-1 members in this process, and the
// member that a case is about.
type ours struct {
	servers *bench.Servers
	n       int
	deaths  *deaths
	crowd   *crowd
	// formed counts clusters and subjects: each has a name of its own.
	formed, subjects int
}

// names returns n ids.
func names(prefix string, n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("%s%05d", prefix, i)
	}
	return ids
}

// everybody tells whether a view shows n members and is not stale.
func everybody(n int) func(*member, kvregistry.View) bool {
	return func(_ *member, v kvregistry.View) bool { return len(v.Members) == n && !v.Stale }
}

// newCrowd returns the members-to-be of another cluster.
func (o *ours) newCrowd() *crowd {
	o.formed++
	return &crowd{cluster: fmt.Sprintf("bench%d-%d", o.n, o.formed), url: o.servers.URL(), deaths: o.deaths}
}

func (o *ours) form(ctx context.Context, rounds int) (m measured, err error) {
	for range rounds {
		took, err := o.formOne(ctx)
		if err != nil {
			return m, err
		}
		m.samples = append(m.samples, took)
	}
	m.note = "all connect and join at once, buckets made"
	return m, nil
}

func (o *ours) formOne(ctx context.Context) (float64, error) {
	c := o.newCrowd()
	defer c.close()
	start := time.Now()
	if err := c.join(ctx, names("n", o.n), nil); err != nil {
		return 0, err
	}
	took, err := c.watch(ctx, everybody(o.n)).since(start)
	if err != nil {
		return 0, err
	}
	return took, c.truth(nil)
}

func (o *ours) start(ctx context.Context) error {
	o.crowd = o.newCrowd()
	if err := o.crowd.join(ctx, names("n", o.n-1), nil); err != nil {
		return err
	}
	return o.crowd.watch(ctx, everybody(o.n-1)).seen()
}

func (o *ours) churn(ctx context.Context, rounds int) (join, update, leave measured, err error) {
	for range rounds {
		if err := o.churnOne(ctx, &join, &update, &leave); err != nil {
			return join, update, leave, err
		}
	}
	join.note, update.note, leave.note = "from the call of Join", "from the call of SetMetadata", "from the call of Leave"
	return join, update, leave, nil
}

func (o *ours) churnOne(ctx context.Context, join, update, leave *measured) error {
	id := o.name("s")
	m, err := o.crowd.dial(ctx, o.servers.URL(), id, false)
	if err != nil {
		return err
	}
	defer o.crowd.remove(m)
	step := func(to *measured, act func() error, ok func(kvregistry.View) bool) error {
		seen := o.crowd.watch(ctx, func(w *member, v kvregistry.View) bool { return w == m || ok(v) })
		start := time.Now()
		if err := act(); err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
		took, err := seen.since(start)
		to.samples = append(to.samples, took)
		return err
	}
	if err := step(join, func() error { return m.reg.Join(ctx) }, func(v kvregistry.View) bool { return is(v, id, 0) }); err != nil {
		return err
	}
	incarnation := m.reg.Self().Incarnation
	mark := strconv.Itoa(rand.Int())
	if err := step(update, func() error { return m.reg.SetMetadata(ctx, map[string]string{"mark": mark}) }, func(v kvregistry.View) bool {
		s, ok := v.Member(id)
		return ok && s.Metadata["mark"] == mark
	}); err != nil {
		return err
	}
	return step(leave, func() error { return m.reg.Leave(ctx) }, func(v kvregistry.View) bool {
		s, ok := v.Member(id)
		return ok && s.Incarnation == incarnation && s.State == kvregistry.Offline && s.Reason == kvregistry.ReasonLeft
	})
}

// name returns an id that was not used before.
func (o *ours) name(prefix string) string {
	o.subjects++
	return fmt.Sprintf("%s%d", prefix, o.subjects)
}

// begin starts a process with one member and returns when all see it.
func (o *ours) begin(ctx context.Context, id string) (*subject, error) {
	s, err := launch(joinOrder{URL: o.servers.URL(), Cluster: o.crowd.cluster, IDs: []string{id}})
	if err != nil {
		return nil, err
	}
	if err := s.joined(); err != nil {
		s.kill()
		return nil, err
	}
	if err := o.seen(ctx, id, 0).seen(); err != nil {
		s.kill()
		return nil, err
	}
	// Not in step with the rounds of the pings.
	if err := pause(ctx, rand.N(time.Second)); err != nil {
		s.kill()
		return nil, err
	}
	return s, nil
}

// seen waits until all see the node in a later incarnation than after.
func (o *ours) seen(ctx context.Context, id string, after uint64) *sighting {
	return o.crowd.watch(ctx, func(_ *member, v kvregistry.View) bool { return is(v, id, after) })
}

// gone waits until all see the end of the subject's incarnation.
func (o *ours) gone(ctx context.Context, s *subject) *sighting {
	id := s.ids[0]
	incarnation := s.incarnations[id]
	return o.crowd.watch(ctx, func(_ *member, v kvregistry.View) bool { return gone(v, id, incarnation) })
}

func (o *ours) crash(ctx context.Context, rounds int) (m measured, err error) {
	for range rounds {
		id := o.name("c")
		s, err := o.begin(ctx, id)
		if err != nil {
			return m, err
		}
		o.deaths.expect(id)
		seen := o.gone(ctx, s)
		start := time.Now()
		s.kill()
		took, err := seen.since(start)
		if err != nil {
			return m, err
		}
		m.samples = append(m.samples, took)
	}
	m.note = "SIGKILL of a process"
	return m, nil
}

func (o *ours) hang(ctx context.Context, rounds int) (m measured, err error) {
	id := o.name("h")
	s, err := o.begin(ctx, id)
	if err != nil {
		return m, err
	}
	defer s.kill()
	defer o.deaths.expect(id) // it is killed in the end
	var backs []float64
	for range rounds {
		o.deaths.expect(id)
		seen := o.gone(ctx, s)
		start := time.Now()
		if err := s.proc.Stop(); err != nil {
			return m, err
		}
		took, err := seen.since(start)
		if err != nil {
			return m, err
		}
		m.samples = append(m.samples, took)
		again := o.seen(ctx, id, s.incarnations[id])
		start = time.Now()
		if err := s.proc.Resume(); err != nil {
			return m, err
		}
		back, err := again.since(start)
		if err != nil {
			return m, err
		}
		backs = append(backs, back)
		v := o.crowd.full()[0].reg.View()
		if now, ok := v.Member(id); ok {
			s.incarnations[id] = now.Incarnation
		}
		o.deaths.back(id)
		if err := pause(ctx, time.Second+rand.N(time.Second)); err != nil {
			return m, err
		}
	}
	slices.Sort(backs)
	m.note = fmt.Sprintf("SIGSTOP of a process; after SIGCONT all see it again within %.3f s (median)", bench.Median(backs))
	return m, nil
}

func (o *ours) restart(ctx context.Context, rounds int) (m measured, err error) {
	id := o.name("r")
	s, err := o.begin(ctx, id)
	if err != nil {
		return m, err
	}
	defer func() { s.kill() }()
	o.deaths.expect(id)
	for range rounds {
		seen := o.seen(ctx, id, s.incarnations[id])
		start := time.Now()
		s.kill()
		next, err := launch(joinOrder{URL: o.servers.URL(), Cluster: o.crowd.cluster, IDs: []string{id}})
		if err != nil {
			return m, err
		}
		s = next
		took, err := seen.since(start)
		if err != nil {
			return m, err
		}
		m.samples = append(m.samples, took)
		if err := s.joined(); err != nil {
			return m, err
		}
		if err := pause(ctx, rand.N(time.Second)); err != nil {
			return m, err
		}
	}
	m.note = "SIGKILL, and a new process under the same name at once, its start included"
	return m, nil
}

func (o *ours) rejoin(ctx context.Context, seconds float64) (m measured, err error) {
	var (
		proxies []*proxy
		members []*member
		before  = map[string]uint64{}
	)
	defer func() {
		for _, c := range members {
			o.crowd.remove(c)
		}
		for _, p := range proxies {
			p.close()
		}
	}()
	for i := range min(3, max(1, o.n/4)) {
		all := o.servers.All()
		p, err := newProxy(all[i%len(all)].URL())
		if err != nil {
			return m, err
		}
		proxies = append(proxies, p)
		id := o.name("p")
		c, err := o.crowd.add(ctx, p.url(), id, false)
		if err != nil {
			return m, err
		}
		members = append(members, c)
		before[id] = c.reg.Self().Incarnation
	}
	if err := o.crowd.watch(ctx, everybody(o.n-1+len(members))).seen(); err != nil {
		return m, err
	}
	for i, p := range proxies {
		o.deaths.expect(members[i].id)
		p.cut()
	}
	if err := pause(ctx, time.Duration(seconds*float64(time.Second))); err != nil {
		return m, err
	}
	v := o.crowd.full()[0].reg.View()
	var again []*sighting
	for _, c := range members {
		if !gone(v, c.id, before[c.id]) {
			return m, errors.New("a member that is cut off was not lost: cut it for longer")
		}
		again = append(again, o.crowd.watch(ctx, func(w *member, v kvregistry.View) bool {
			if w != c && before[w.id] != 0 {
				return true // another one that is cut off has its own sample
			}
			return is(v, c.id, before[c.id]) && (w != c || len(v.Members) == o.n-1+len(members) && !v.Stale)
		}))
	}
	start := time.Now()
	for _, p := range proxies {
		p.heal()
	}
	for _, s := range again {
		took, err := s.since(start)
		if err != nil {
			return m, err
		}
		m.samples = append(m.samples, took)
	}
	m.note = fmt.Sprintf("%d cut off for %.0f s, from the moment that the link is whole again", len(members), seconds)
	return m, nil
}

func (o *ours) falseDeaths() int { return o.deaths.count() }

func (o *ours) close() {
	if o.crowd != nil {
		o.crowd.close()
	}
}
