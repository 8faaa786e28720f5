package membership

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/catga/catga-go/benchmarks/internal/bench"
)

// peerName is what results call the other side.
const peerName = "memberlist"

// theirs is a cluster of memberlist: n-1 members in this process, and the
// member that a case is about.
type theirs struct {
	n      int
	deaths *deaths
	crowd  []*peer

	mu       sync.Mutex
	subjects int
}

// gather makes n members that join all at once.
func gather(n int, d *deaths) ([]*peer, error) {
	var (
		wg    sync.WaitGroup
		peers = make([]*peer, n)
		errs  = make([]error, n)
	)
	first, err := newPeer("n00000", "", 0, d)
	if err != nil {
		return nil, err
	}
	peers[0] = first
	for i := 1; i < n; i++ {
		wg.Go(func() {
			p, err := newPeer(fmt.Sprintf("n%05d", i), "", 0, d)
			if err != nil {
				errs[i] = err
				return
			}
			peers[i] = p
			_, errs[i] = p.list.Join([]string{first.address()})
		})
	}
	wg.Wait()
	peers = slices.DeleteFunc(peers, func(p *peer) bool { return p == nil })
	return peers, errors.Join(errs...)
}

// dismiss ends members without a goodbye.
func dismiss(peers []*peer) {
	var wg sync.WaitGroup
	for _, p := range peers {
		p.mu.Lock()
		p.ended = true
		p.mu.Unlock()
	}
	for _, p := range peers {
		wg.Go(p.close)
	}
	wg.Wait()
}

// watchPeers has each of peers wait until ok holds for who is online.
func watchPeers(ctx context.Context, peers []*peer, ok func(online map[string]string) bool) *sighting {
	var watchers []func(context.Context) error
	for _, p := range peers {
		watchers = append(watchers, func(ctx context.Context) error { return p.wait(ctx, ok) })
	}
	return watchFor(ctx, watchers)
}

func present(name, meta string) func(map[string]string) bool {
	return func(online map[string]string) bool {
		have, ok := online[name]
		return ok && have == meta
	}
}

func absent(name string) func(map[string]string) bool {
	return func(online map[string]string) bool { _, ok := online[name]; return !ok }
}

func (t *theirs) form(ctx context.Context, rounds int) (m measured, err error) {
	for range rounds {
		start := time.Now()
		peers, err := gather(t.n, t.deaths)
		if err != nil {
			dismiss(peers)
			return m, err
		}
		took, err := watchPeers(ctx, peers, func(online map[string]string) bool { return len(online) == t.n }).since(start)
		dismiss(peers)
		if err != nil {
			return m, err
		}
		m.samples = append(m.samples, took)
	}
	return m, nil
}

func (t *theirs) start(ctx context.Context) (err error) {
	if t.crowd, err = gather(t.n-1, t.deaths); err != nil {
		return err
	}
	return watchPeers(ctx, t.crowd, func(online map[string]string) bool { return len(online) == t.n-1 }).seen()
}

func (t *theirs) name(prefix string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.subjects++
	return fmt.Sprintf("%s%d", prefix, t.subjects)
}

func (t *theirs) churn(ctx context.Context, rounds int) (join, update, leave measured, err error) {
	for range rounds {
		if err := t.churnOne(ctx, &join, &update, &leave); err != nil {
			return join, update, leave, err
		}
	}
	leave.note = "memberlist tells NotifyLeave alike for who left and who died"
	return join, update, leave, nil
}

func (t *theirs) churnOne(ctx context.Context, join, update, leave *measured) error {
	name := t.name("s")
	p, err := newPeer(name, "a", 0, nil)
	if err != nil {
		return err
	}
	defer p.close()
	step := func(to *measured, act func() error, ok func(map[string]string) bool) error {
		seen := watchPeers(ctx, t.crowd, ok)
		start := time.Now()
		if err := act(); err != nil {
			return fmt.Errorf("memberlist %s: %w", name, err)
		}
		took, err := seen.since(start)
		to.samples = append(to.samples, took)
		return err
	}
	if err := step(join, func() error { _, err := p.list.Join([]string{t.crowd[0].address()}); return err }, present(name, "a")); err != nil {
		return err
	}
	if err := step(update, func() error { return p.update("b") }, present(name, "b")); err != nil {
		return err
	}
	t.deaths.expect(name)
	return step(leave, func() error { return p.list.Leave(10 * time.Second) }, absent(name))
}

// begin starts a process with one member and returns when all see it.
func (t *theirs) begin(ctx context.Context, name string) (*peerSubject, error) {
	s, err := launchPeer(peerOrder{Name: name, Meta: "a", Seed: t.crowd[0].address()})
	if err != nil {
		return nil, err
	}
	err = s.joined()
	if err == nil {
		err = watchPeers(ctx, t.crowd, present(name, "a")).seen()
	}
	if err == nil {
		err = pause(ctx, rand.N(time.Second))
	}
	if err != nil {
		s.kill()
		return nil, err
	}
	return s, nil
}

func (t *theirs) crash(ctx context.Context, rounds int) (m measured, err error) {
	for range rounds {
		name := t.name("c")
		s, err := t.begin(ctx, name)
		if err != nil {
			return m, err
		}
		t.deaths.expect(name)
		seen := watchPeers(ctx, t.crowd, absent(name))
		start := time.Now()
		s.kill()
		took, err := seen.since(start)
		if err != nil {
			return m, err
		}
		m.samples = append(m.samples, took)
	}
	return m, nil
}

func (t *theirs) hang(ctx context.Context, rounds int) (m measured, err error) {
	name := t.name("h")
	s, err := t.begin(ctx, name)
	if err != nil {
		return m, err
	}
	defer s.kill()
	t.deaths.expect(name)
	for range rounds {
		seen := watchPeers(ctx, t.crowd, absent(name))
		start := time.Now()
		if err := s.proc.Stop(); err != nil {
			return m, err
		}
		took, err := seen.since(start)
		if err != nil {
			return m, err
		}
		m.samples = append(m.samples, took)
		again := watchPeers(ctx, t.crowd, present(name, "a"))
		if err := s.proc.Resume(); err != nil {
			return m, err
		}
		if err := again.seen(); err != nil {
			return m, err
		}
		if err := pause(ctx, time.Second+rand.N(time.Second)); err != nil {
			return m, err
		}
	}
	return m, nil
}

// restart measures a new process at a new address, as a rescheduled container
// has one, and notes what it takes at the old address.
func (t *theirs) restart(ctx context.Context, rounds int) (m measured, err error) {
	same, err := t.restarts(ctx, min(rounds, 3), func(s *peerSubject) int { return s.port })
	if err != nil {
		return m, err
	}
	if m.samples, err = t.restarts(ctx, min(rounds, 2), func(*peerSubject) int { return 0 }); err != nil {
		return m, err
	}
	m.note = fmt.Sprintf("memberlist at a new port; at the old one %.3f s", bench.Median(same))
	return m, nil
}

func (t *theirs) restarts(ctx context.Context, rounds int, port func(*peerSubject) int) (samples []float64, err error) {
	name := t.name("r")
	s, err := t.begin(ctx, name)
	if err != nil {
		return nil, err
	}
	defer func() { s.kill() }()
	t.deaths.expect(name)
	for i := range rounds {
		meta := strconv.Itoa(i)
		seen := watchPeers(ctx, t.crowd, present(name, meta))
		start := time.Now()
		s.kill()
		next, err := launchPeer(peerOrder{Name: name, Meta: meta, Seed: t.crowd[0].address(), Port: port(s)})
		if err != nil {
			return nil, err
		}
		s = next
		took, err := seen.since(start)
		if err != nil {
			return nil, err
		}
		samples = append(samples, took)
		if err := s.joined(); err != nil {
			return nil, err
		}
		if err := pause(ctx, rand.N(time.Second)); err != nil {
			return nil, err
		}
	}
	slices.Sort(samples)
	return samples, nil
}

// patience is how long a member of memberlist has to come back after its link
// is whole again.
const patience = 30 * time.Second

func (t *theirs) rejoin(ctx context.Context, seconds float64) (m measured, err error) {
	name := t.name("p")
	p, err := newPeer(name, "a", 0, nil)
	if err != nil {
		return m, err
	}
	defer p.close()
	if _, err := p.list.Join([]string{t.crowd[0].address()}); err != nil {
		return m, err
	}
	all := append(slices.Clone(t.crowd), p)
	whole := func(online map[string]string) bool { return len(online) >= t.n && online[name] == "a" }
	if err := watchPeers(ctx, all, whole).seen(); err != nil {
		return m, err
	}
	t.deaths.expect(name)
	p.link.isCut.Store(true)
	if err := pause(ctx, time.Duration(seconds*float64(time.Second))); err != nil {
		return m, err
	}
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	again := watchPeers(bounded, all, whole)
	start := time.Now()
	p.link.isCut.Store(false)
	took, err := again.since(start)
	switch {
	case err == nil:
		m.samples = append(m.samples, took)
	case ctx.Err() == nil && bounded.Err() != nil:
		m.note = fmt.Sprintf("memberlist: not back %.0f s after it", patience.Seconds())
	default:
		return m, err
	}
	return m, nil
}

func (t *theirs) falseDeaths() int { return t.deaths.count() }

func (t *theirs) close() { dismiss(t.crowd) }
