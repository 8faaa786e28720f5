package routing

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/benchmarks/internal/bench"
	"github.com/catga/catga-go/cluster"
)

// call makes one call and looks at the answer.
type call func(ctx context.Context) error

// manyCallers is how many callers there are where there are many.
const manyCallers = 16

var errAnswer = errors.New("not the answer that was expected")

// ourCall is a call to any handler of the kind.
func (g *ground) ourCall(kind string) call {
	return func(ctx context.Context) error {
		a, err := g.node.CallRaw(ctx, cluster.Any(), cluster.Raw{Name: kind, Data: g.body})
		if err == nil && len(a.Data) != len(g.body) {
			err = errAnswer
		}
		return err
	}
}

// request is the call of plain nats.go, and of a client of nats.go/micro.
func (g *ground) request(subject string) call {
	return func(ctx context.Context) error {
		m, err := g.nc.RequestWithContext(ctx, subject, g.body)
		if err == nil && len(m.Data) != len(g.body) {
			err = errAnswer
		}
		return err
	}
}

// callSides are the three ways to call a kind, each measured by how.
func callSides(g *ground, kind string, how func(call) func(context.Context) (float64, error)) []side {
	return []side{
		{ours, how(g.ourCall(kind))},
		{raw, how(g.request(rawCall(kind)))},
		{micro, how(g.request(microCall(kind)))},
	}
}

// calls is a case in which callers call a kind; figure is what counts of it.
func calls(name, unit, kind string, callers int, figure func(run) float64) benchCase {
	return benchCase{
		name: name, unit: unit, lowerIsBetter: unit == "us",
		sides: func(_ context.Context, g *ground) ([]side, error) {
			return callSides(g, kind, func(c call) func(context.Context) (float64, error) {
				return g.sampleOf(callers, c, figure)
			}), nil
		},
	}
}

func (g *ground) sampleOf(callers int, c call, figure func(run) float64) func(context.Context) (float64, error) {
	return func(ctx context.Context) (float64, error) {
		r, err := runCalls(ctx, callers, g.sample, c)
		if err != nil {
			return 0, err
		}
		return figure(r), nil
	}
}

// jsonCalls are typed calls with JSON beside a program that does the same by
// hand with nats.go/micro and encoding/json.
func jsonCalls(name string, callers int) benchCase {
	return benchCase{
		name: name, unit: "calls/s", note: "JSON on both sides",
		sides: func(_ context.Context, g *ground) ([]side, error) {
			want := aQuote().price()
			typed := func(ctx context.Context) error {
				p, err := cluster.Call(ctx, g.node, cluster.Any(), aQuote())
				if err == nil && p != want {
					err = errAnswer
				}
				return err
			}
			byHand := func(ctx context.Context) error {
				body, err := json.Marshal(aQuote())
				if err != nil {
					return err
				}
				var m *nats.Msg
				if m, err = g.nc.RequestWithContext(ctx, microCall(kindJSON), body); err != nil {
					return err
				}
				var p price
				if err := json.Unmarshal(m.Data, &p); err != nil {
					return err
				}
				if p != want {
					return errAnswer
				}
				return nil
			}
			return []side{
				{ours, g.sampleOf(callers, typed, run.perSecond)},
				{micro, g.sampleOf(callers, byHand, run.perSecond)},
			}, nil
		},
	}
}

// timedCalls are calls with a deadline, which a node tells its callee.
func timedCalls(name string, callers int) benchCase {
	return benchCase{
		name: name, unit: "calls/s", note: "each call with a ctx of 2 s",
		sides: func(_ context.Context, g *ground) ([]side, error) {
			return callSides(g, kindEcho, func(c call) func(context.Context) (float64, error) {
				timed := func(ctx context.Context) error {
					ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
					defer cancel()
					return c(ctx)
				}
				return g.sampleOf(callers, timed, run.perSecond)
			}), nil
		},
	}
}

// allocs counts what one call allocates, where it is made and where it is answered.
func allocs(name string) benchCase {
	const n = 2000
	return benchCase{
		name: name, unit: "allocs", lowerIsBetter: true, note: "caller and callee together; inproc: the server, too",
		sides: func(_ context.Context, g *ground) ([]side, error) {
			return callSides(g, kindEcho, func(c call) func(context.Context) (float64, error) {
				return func(ctx context.Context) (float64, error) {
					before, err := g.mallocs(ctx)
					if err != nil {
						return 0, err
					}
					for range n {
						if err := c(ctx); err != nil {
							return 0, err
						}
					}
					after, err := g.mallocs(ctx)
					return float64(after-before) / n, err
				}
			}), nil
		},
	}
}

// mallocs is how many allocations caller and callee have made.
func (g *ground) mallocs(ctx context.Context) (uint64, error) {
	a, err := g.callee.do(ctx, order{Do: doMallocs})
	if g.oneProcess {
		return a.Mallocs, err
	}
	return mallocs() + a.Mallocs, err
}

// run is what callers did in a while.
type run struct {
	elapsed time.Duration
	took    []time.Duration // each call, sorted
}

func (r run) perSecond() float64 { return float64(len(r.took)) / r.elapsed.Seconds() }

func (r run) percentile(p float64) float64 {
	at := make([]float64, len(r.took))
	for i, d := range r.took {
		at[i] = float64(d.Nanoseconds()) / 1e3
	}
	return bench.Percentile(at, p)
}

func (r run) p50() float64 { return r.percentile(50) }
func (r run) p99() float64 { return r.percentile(99) }

// runCalls has callers call one after the other for a while.
func runCalls(ctx context.Context, callers int, d time.Duration, c call) (run, error) {
	var (
		stop atomic.Bool
		wg   sync.WaitGroup
		mu   sync.Mutex
		r    run
		errs error
	)
	timer := time.AfterFunc(d, func() { stop.Store(true) })
	defer timer.Stop()
	start := time.Now()
	for range callers {
		wg.Go(func() {
			took := make([]time.Duration, 0, 1<<14)
			last := time.Now()
			var err error
			for !stop.Load() && err == nil {
				err = c(ctx)
				now := time.Now()
				took = append(took, now.Sub(last))
				last = now
			}
			mu.Lock()
			defer mu.Unlock()
			errs = errors.Join(errs, err)
			r.took = append(r.took, took...)
		})
	}
	wg.Wait()
	r.elapsed = time.Since(start)
	slices.Sort(r.took)
	return r, errs
}
