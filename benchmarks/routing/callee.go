package routing

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"

	"github.com/catga/catga-go/benchmarks/internal/bench"
)

// callee is the side that answers: in a process of its own, or in this one.
type callee interface {
	// do carries out an order.
	do(ctx context.Context, o order) (answer, error)
}

// order is what a callee is told.
type order struct {
	// Do is what to do: doMallocs, doHandle or doGather.
	Do string
	// Side and Kind say in which way, N how often.
	Side, Kind string
	N          int
}

const (
	// doMallocs tells how many allocations there were so far.
	doMallocs = "mallocs"
	// doHandle handles N stored messages of Kind and tells how long it took.
	doHandle = "handle"
	// doGather starts N nodes, and as many subscribers, that answer to many.
	doGather = "gather"
)

type answer struct {
	Mallocs uint64
	Nanos   int64
	Err     string
}

type calleeConfig struct {
	URL     string
	Profile string
}

var roleCallee = bench.AddRole("routing-callee", runCallee)

// remoteCallee is a callee in a process of its own.
type remoteCallee struct{ proc *bench.Process }

func startCallee(cfg calleeConfig) (*remoteCallee, error) {
	proc, err := bench.StartRole(roleCallee)
	if err != nil {
		return nil, err
	}
	c := &remoteCallee{proc}
	if err := proc.Tell(cfg); err != nil {
		proc.Kill()
		return nil, err
	}
	if _, err := c.hear(); err != nil { // that it is there
		proc.Kill()
		return nil, err
	}
	return c, nil
}

func (c *remoteCallee) do(_ context.Context, o order) (answer, error) {
	if err := c.proc.Tell(o); err != nil {
		return answer{}, fmt.Errorf("callee: %w", err)
	}
	return c.hear()
}

func (c *remoteCallee) hear() (answer, error) {
	var a answer
	if err := c.proc.Hear(&a); err != nil {
		return a, fmt.Errorf("the callee has ended: %w", err)
	}
	if a.Err != "" {
		return a, errors.New("callee: " + a.Err)
	}
	return a, nil
}

func (c *remoteCallee) close() {
	if err := c.proc.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "benchmarks: the callee ended badly:", err)
	}
}

// runCallee is the process.
func runCallee(ctx context.Context, in *json.Decoder, out *json.Encoder) error {
	var cfg calleeConfig
	if err := in.Decode(&cfg); err != nil {
		return err
	}
	if cfg.Profile != "" {
		f, err := os.Create(cfg.Profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	c, err := newLocalCallee(ctx, dialTo(cfg.URL))
	if err != nil {
		return err
	}
	defer c.close()
	if err := out.Encode(answer{}); err != nil {
		return err
	}
	for {
		var o order
		if err := in.Decode(&o); err != nil {
			return err
		}
		a, err := c.do(ctx, o)
		if err != nil {
			a.Err = err.Error()
		}
		if err := out.Encode(a); err != nil {
			return err
		}
	}
}

// mallocs is how many allocations this process has made.
func mallocs() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}
