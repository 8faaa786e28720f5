package routing

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/catga/catga-go/benchmarks/internal/bench"
	"github.com/catga/catga-go/cluster"
)

const (
	kindHang = "hang" // a call: the victim hangs, the others answer
	kindMove = "move" // stored: the victim hangs, the others handle it

	survivors = 3
	// inHand is how much stored work the victim has when it is killed.
	inHand = 10
	// moveWait bounds the wait for what the victim had.
	moveWait = time.Minute
)

// victimConfig is what a victim is told; it says its id when it has joined, and
// the kind of each message that it has begun.
type victimConfig struct{ URL, ID string }

var roleVictim = bench.AddRole("routing-victim", runVictim)

func runVictim(ctx context.Context, in *json.Decoder, out *json.Encoder) error {
	var cfg victimConfig
	if err := in.Decode(&cfg); err != nil {
		return err
	}
	var mu sync.Mutex
	say := func(word string) {
		mu.Lock()
		defer mu.Unlock()
		_ = out.Encode(word) // whoever does not hear it waits and says so
	}
	hang := func(ctx context.Context, m *cluster.Msg[cluster.Raw]) (cluster.Raw, error) {
		say(m.Body.Name)
		<-ctx.Done()
		return cluster.Raw{}, context.Cause(ctx)
	}
	var ends []func()
	defer func() {
		for _, end := range slices.Backward(ends) {
			end()
		}
	}()
	_, _, err := join(ctx, dialTo(cfg.URL), cfg.ID, &ends, func(n *cluster.Node) {
		n.HandleRaw(kindHang, hang)
		n.HandleRaw(kindMove, hang)
	})
	if err != nil {
		return err
	}
	say(cfg.ID)
	var nothing any
	return in.Decode(&nothing) // until it is killed
}

// arena is where victims are killed: one server or three, a caller, survivors,
// and a process for each victim.
type arena struct {
	url    string
	caller *cluster.Node
	others []*cluster.Node
	moved  chan string // the ids of messages that survivors handle
	rounds int
	ends   []func()
}

func killAll(ctx context.Context, out *bench.Printer, opts bench.Options, servers int) error {
	var a *arena
	for _, c := range []struct {
		name string
		once func(*arena, context.Context) (time.Duration, error)
		note string
	}{
		{caseInFlight, (*arena).inFlight, fmt.Sprintf("SIGKILL until the answer of one of %d others", survivors)},
		{caseMoved, (*arena).move, fmt.Sprintf("SIGKILL until all %d messages in hand have begun at %d others", inHand, survivors)},
	} {
		if !opts.Wants(c.name) {
			continue
		}
		if a == nil {
			var err error
			if a, err = openArena(ctx, servers); err != nil {
				return err
			}
			defer a.close()
		}
		var took []float64
		for range opts.Rounds {
			d, err := c.once(a, ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			took = append(took, float64(d.Microseconds())/1e3)
		}
		out.Print(bench.Result{
			Suite: suiteName, Case: c.name, Servers: servers, Nodes: survivors + 2, Transport: tcp,
			Unit: "ms", LowerIsBetter: true, Note: c.note,
		}.Of(took))
	}
	return nil
}

func openArena(ctx context.Context, servers int) (a *arena, err error) {
	a = &arena{moved: make(chan string, 1024)}
	defer func() {
		if err != nil {
			a.close()
		}
	}()
	ss, err := bench.StartServers(servers)
	if err != nil {
		return a, err
	}
	a.ends = append(a.ends, ss.Close)
	a.url = ss.URL()
	for i := range survivors {
		n, _, err := join(ctx, dialTo(a.url), "other-"+strconv.Itoa(i), &a.ends, func(n *cluster.Node) {
			n.HandleRaw(kindHang, func(_ context.Context, m *cluster.Msg[cluster.Raw]) (cluster.Raw, error) {
				return cluster.Raw{Data: []byte(n.ID())}, nil
			})
			n.HandleRaw(kindMove, func(_ context.Context, m *cluster.Msg[cluster.Raw]) (cluster.Raw, error) {
				a.moved <- m.ID
				return cluster.Raw{}, nil
			})
		})
		if err != nil {
			return a, err
		}
		a.others = append(a.others, n)
	}
	a.caller, _, err = join(ctx, dialTo(a.url), "caller", &a.ends, nil)
	return a, err
}

func (a *arena) close() {
	for _, end := range slices.Backward(a.ends) {
		end()
	}
}

// victim is a node in a process that will be killed.
type victim struct {
	id   string
	proc *bench.Process
}

// newVictim starts one that everybody sees.
func (a *arena) newVictim(ctx context.Context) (*victim, error) {
	a.rounds++
	proc, err := bench.StartRole(roleVictim)
	if err != nil {
		return nil, err
	}
	v := &victim{"victim-" + strconv.Itoa(a.rounds), proc}
	if err := proc.Tell(victimConfig{a.url, v.id}); err != nil {
		proc.Kill()
		return nil, err
	}
	if err := v.await(v.id, 1); err != nil {
		proc.Kill()
		return nil, err
	}
	for _, n := range append(slices.Clone(a.others), a.caller) {
		if err := awaitHandlers(ctx, n, kindHang, survivors+1); err != nil {
			proc.Kill()
			return nil, err
		}
	}
	return v, nil
}

// await waits until the victim has said the word n times.
func (v *victim) await(word string, n int) error {
	for range n {
		var said string
		if err := v.proc.Hear(&said); err != nil {
			return fmt.Errorf("%s has ended: %w", v.id, err)
		}
		if said != word {
			return fmt.Errorf("%s says %q instead of %q", v.id, said, word)
		}
	}
	return nil
}

// kill is SIGKILL, and returns when it was sent. The process is reaped behind it.
func (v *victim) kill(wg *sync.WaitGroup) time.Time {
	at := time.Now()
	wg.Go(v.proc.Kill)
	return at
}

// inFlight kills the victim while it runs a call.
func (a *arena) inFlight(ctx context.Context) (time.Duration, error) {
	v, err := a.newVictim(ctx)
	if err != nil {
		return 0, err
	}
	var killing sync.WaitGroup
	defer killing.Wait()
	victimFirst := cluster.PickFunc(func(_ string, candidates []cluster.Member) string {
		for _, m := range candidates {
			if m.ID == v.id {
				return m.ID
			}
		}
		return candidates[0].ID
	})
	type outcome struct {
		answer cluster.Raw
		err    error
		at     time.Time
	}
	answered := make(chan outcome, 1)
	killing.Go(func() {
		r, err := a.caller.CallRaw(ctx, cluster.Any(), cluster.Raw{Name: kindHang}, cluster.Idempotent(), cluster.Pick(victimFirst))
		answered <- outcome{r, err, time.Now()}
	})
	if err := v.await(kindHang, 1); err != nil {
		v.proc.Kill()
		return 0, err
	}
	killed := v.kill(&killing)
	o := <-answered
	if o.err != nil {
		return 0, o.err
	}
	if len(o.answer.Data) == 0 {
		return 0, errAnswer
	}
	return o.at.Sub(killed), a.settle(ctx)
}

// move kills the victim while it has stored work in hand.
func (a *arena) move(ctx context.Context) (time.Duration, error) {
	v, err := a.newVictim(ctx)
	if err != nil {
		return 0, err
	}
	var killing sync.WaitGroup
	defer killing.Wait()
	ready := func() error {
		// While the others pause, the victim gets everything.
		for _, n := range a.others {
			if err := n.Pause(kindMove); err != nil {
				return err
			}
		}
		for range inHand {
			if err := a.caller.Send(ctx, cluster.Any(), cluster.Raw{Name: kindMove}); err != nil {
				return err
			}
		}
		if err := v.await(kindMove, inHand); err != nil {
			return err
		}
		for _, n := range a.others {
			if err := n.Resume(kindMove); err != nil {
				return err
			}
		}
		return nil
	}
	if err := ready(); err != nil {
		v.proc.Kill()
		return 0, err
	}
	killed := v.kill(&killing)
	late := time.After(moveWait)
	seen := map[string]bool{}
	for len(seen) < inHand {
		select {
		case id := <-a.moved:
			seen[id] = true
		case <-late:
			return 0, fmt.Errorf("%w: %d of %d messages moved", errShort, len(seen), inHand)
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return time.Since(killed), a.settle(ctx)
}

// settle waits until nobody sees the victim any more.
func (a *arena) settle(ctx context.Context) error {
	for _, n := range append(slices.Clone(a.others), a.caller) {
		if err := awaitHandlers(ctx, n, kindHang, survivors); err != nil {
			return err
		}
	}
	return nil
}
