package integration_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/catga/catga-go/cluster"
)

var (
	rollingRounds = flag.Int("rolling", 2, "how often each node is restarted in the rolling restart")
	rollingRate   = flag.Int("rolling-rate", 300, "how many messages a second are sent meanwhile")
)

// The messages of the rolling restart.
type (
	// step takes MS, and then asks and notes.
	step struct {
		Text string
		MS   int
	}
	// ask is a call that takes MS.
	ask struct {
		Text string
		MS   int
	}
)

func (step) Kind() string  { return "test.step" }
func (ask) Kind() string   { return "test.ask" }
func (ask) Returns(echoed) {}

func handleSteps(n *cluster.Node, say func(said)) {
	cluster.Handle(n, func(ctx context.Context, m *cluster.Msg[step]) error {
		say(said{Event: "begun", Kind: "test.step", Text: m.Body.Text, Attempt: m.Attempt})
		if err := take(ctx, m.Body.MS); err != nil {
			return err
		}
		// What has begun goes on while its node leaves, and so do its own verbs.
		if _, err := cluster.Call(ctx, n, cluster.Any(), ask{m.Body.Text, 0}); err != nil {
			say(said{Event: "error", Kind: "test.ask", Text: err.Error()})
		}
		if err := n.Send(ctx, cluster.Any(), note{"after " + m.Body.Text}); err != nil {
			say(said{Event: "error", Kind: "test.note", Text: err.Error()})
		}
		say(said{Event: "done", Kind: "test.step", Text: m.Body.Text, Attempt: m.Attempt})
		return nil
	})
}

func answerAsks(n *cluster.Node, _ func(said)) {
	cluster.HandleCall(n, func(ctx context.Context, m *cluster.Msg[ask]) (echoed, error) {
		return echoed{n.ID(), m.Body.Text}, take(ctx, m.Body.MS)
	})
}

// take takes its time.
func take(ctx context.Context, ms int) error {
	select {
	case <-time.After(time.Duration(ms) * time.Millisecond):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// rolling is what is known of a rolling restart.
type rolling struct {
	ids []string

	mu     sync.Mutex
	sent   map[string][]string // text: the nodes of which each handles it, or nobody for any one
	runs   map[string][]run    // text: who was through with it
	begun  []run
	calls  int
	errors []string
}

// run is one run of a handler.
type run struct {
	node, text string
	attempt    int
	at         time.Time
}

// listen takes down what a process says, until its end.
func (r *rolling) listen(p *process) {
	for line := range p.lines {
		one := run{p.id, line.Text, line.Attempt, time.Unix(0, line.At)}
		r.mu.Lock()
		switch line.Event {
		case "begun":
			r.begun = append(r.begun, one)
		case "done":
			r.runs[line.Text] = append(r.runs[line.Text], one)
		case "error":
			r.errors = append(r.errors, p.id+" "+line.Kind+": "+line.Text)
		}
		r.mu.Unlock()
	}
}

func (r *rolling) failed(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errors = append(r.errors, fmt.Sprintf(format, args...))
}

// missing is what is stored and nobody is through with.
func (r *rolling) missing() (texts []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for text, nodes := range r.sent {
		if len(r.runs[text]) < max(len(nodes), 1) {
			texts = append(texts, text)
		}
	}
	return texts
}

// TestRollingRestart restarts one node after the other while messages are sent
// to all kinds of targets and calls are made: nothing is lost, nothing runs
// twice, no call fails.
func TestRollingRestart(t *testing.T) {
	onAllGrounds(t, func(t *testing.T, w *world) {
		r := &rolling{ids: []string{"a", "b", "c"}, sent: map[string][]string{}, runs: map[string][]run{}}
		kinds := []string{"test.step", "test.note", "test.ask"}
		var listening sync.WaitGroup
		defer listening.Wait()
		start := func(id string) *process {
			p := w.spawn(t, id, kinds...)
			listening.Go(func() { r.listen(p) })
			return p
		}
		processes := map[string]*process{}
		for _, id := range r.ids {
			processes[id] = start(id)
		}
		gate := w.node(t, "gate", nil)
		if err := gate.Observe(bounded(t)); err != nil {
			t.Fatal(err)
		}
		sees(t, gate, "the nodes", online(r.ids...))

		ctx, stop := context.WithCancel(t.Context())
		var load sync.WaitGroup
		load.Go(func() { r.send(ctx, gate) })
		for i := range 8 {
			load.Go(func() { r.call(ctx, gate, i) })
		}
		var leaving []time.Duration
		back := map[string][]time.Time{} // when the nodes were told to stop
		for range *rollingRounds {
			for _, id := range r.ids {
				if take(ctx, 300) != nil { // under load in between
					break
				}
				told := time.Now()
				back[id] = append(back[id], told)
				processes[id].terminate(t)
				select {
				case <-processes[id].done:
				case <-bounded(t).Done():
					t.Fatalf("%s does not leave", id)
				}
				leaving = append(leaving, time.Since(told))
				if state := processes[id].cmd.ProcessState; !state.Success() {
					t.Errorf("%s: %v", id, state)
				}
				processes[id] = start(id)
			}
		}
		stop()
		load.Wait()
		await(t, "all is handled", func() bool { return len(r.missing()) == 0 }, func() string { return fmt.Sprint(r.missing()) })
		await(t, "nothing is left in the streams", func() bool { return left(t, w) == "" }, func() string { return left(t, w) })
		for _, id := range r.ids {
			processes[id].leave(t)
		}
		listening.Wait()
		r.check(t)
		slices.Sort(leaving)
		handed, slowest := r.handedBack(back)
		t.Logf("%d messages, %d calls, %d restarts: leaving took %v at the median, %v at most; %d messages handed back, the last began %v after its node was told to stop",
			len(r.sent), r.calls, len(leaving), leaving[len(leaving)/2].Round(time.Millisecond), leaving[len(leaving)-1].Round(time.Millisecond), handed, slowest.Round(time.Millisecond))
		// The ack wait would bring it back, too, 20 s later.
		if slowest > 10*time.Second {
			t.Errorf("what was handed back began %v later", slowest)
		}
	})
}

// send sends to targets of every kind until ctx ends.
func (r *rolling) send(ctx context.Context, gate *cluster.Node) {
	const tick = 10 * time.Millisecond
	var wg sync.WaitGroup
	defer wg.Wait()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	due := 0.0
	for n := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for due += float64(*rollingRate) * tick.Seconds(); due >= 1; due-- {
			n++
			one := r.ids[rand.IntN(len(r.ids))]
			var to cluster.Target
			var nodes []string
			switch n % 6 {
			case 0:
				to, nodes = cluster.To(one), []string{one}
			case 1:
				to, nodes = cluster.All(), r.ids
			case 2:
				to, nodes = cluster.Nodes("a", "b"), []string{"a", "b"}
			default:
				to = cluster.Any()
			}
			text := fmt.Sprintf("%T %d", to, n)
			message := step{text, 5 + n%30}
			wg.Go(func() {
				err := gate.Send(context.WithoutCancel(ctx), to, message)
				switch {
				case err == nil:
					r.mu.Lock()
					r.sent[text] = nodes
					r.sent["after "+text] = slices.Repeat([]string{""}, max(len(nodes), 1))
					r.mu.Unlock()
				case len(nodes) > 0 && len(nodes) < len(r.ids) && errors.Is(err, cluster.ErrNoMember):
					// One that is named has left: it is refused.
				default:
					r.failed("send to %v: %v", to, err)
				}
			})
		}
	}
}

// call makes one call after the other until ctx ends.
func (r *rolling) call(ctx context.Context, gate *cluster.Node, i int) {
	for n := 0; ctx.Err() == nil; n++ {
		text := fmt.Sprint(i, " ", n)
		answer, err := cluster.Call(context.WithoutCancel(ctx), gate, cluster.Any(), ask{text, n % 20})
		if err != nil || answer.Text != text {
			r.failed("call: %v %v", answer, err)
		}
		r.mu.Lock()
		r.calls++
		r.mu.Unlock()
	}
}

// check complains of what was lost, ran twice or failed.
func (r *rolling) check(t *testing.T) {
	for _, text := range r.errors {
		t.Error(text)
	}
	for _, text := range slices.Sorted(maps.Keys(r.sent)) {
		nodes := r.sent[text]
		var want, got []string
		for _, one := range r.runs[text] {
			got = append(got, one.node)
		}
		slices.Sort(got)
		if want = nodes; len(nodes) == 0 || nodes[0] == "" { // whoever
			want = got[:min(max(len(nodes), 1), len(got))]
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: handled by %q, want %q", text, got, want)
		}
	}
	for text, runs := range r.runs {
		if _, ok := r.sent[text]; !ok {
			t.Errorf("%s: not stored, and handled by %v", text, runs)
		}
	}
	steps := 0
	for text, runs := range r.runs {
		if !strings.HasPrefix(text, "after ") {
			steps += len(runs)
		}
	}
	if len(r.begun) != steps {
		t.Errorf("%d began and %d were done", len(r.begun), steps)
	}
	if steps == 0 || r.calls == 0 {
		t.Errorf("%d handled and %d calls: nothing was tested", steps, r.calls)
	}
}

// handedBack tells how many messages to any node began in a later attempt, and
// how long after a node was told to stop the slowest of them did. Those to one
// node wait for its return.
func (r *rolling) handedBack(stops map[string][]time.Time) (n int, slowest time.Duration) {
	for _, one := range r.begun {
		if one.attempt == 1 || len(r.sent[one.text]) > 0 {
			continue
		}
		n++
		var last time.Time
		for _, times := range stops {
			for _, at := range times {
				if at.Before(one.at) && at.After(last) {
					last = at
				}
			}
		}
		slowest = max(slowest, one.at.Sub(last))
	}
	return n, slowest
}

// left says what the streams of a cluster still have to deliver.
func left(t *testing.T, w *world) string {
	js, err := jetstream.New(w.dial(t))
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, name := range []string{"CATGA_" + w.cluster + "_WORK", "CATGA_" + w.cluster + "_MAIL", "CATGA_" + w.cluster + "_FANOUT"} {
		stream, err := js.Stream(bounded(t), name)
		if err != nil {
			return err.Error()
		}
		if n := stream.CachedInfo().State.Msgs; n > 0 && !strings.HasSuffix(name, "FANOUT") {
			left = append(left, fmt.Sprintf("%d messages in %s", n, name))
		}
		consumers := stream.ListConsumers(bounded(t))
		for c := range consumers.Info() {
			if c.NumPending > 0 || c.NumAckPending > 0 {
				left = append(left, fmt.Sprintf("%s: %d pending, %d in hand", c.Name, c.NumPending, c.NumAckPending))
			}
		}
		if err := consumers.Err(); err != nil {
			return err.Error()
		}
	}
	return strings.Join(left, ", ")
}

// await looks until ok holds.
func await(t *testing.T, what string, ok func() bool, state func() string) {
	t.Helper()
	ctx := bounded(t)
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("not within %v: %s: %s", limit, what, state())
		}
	}
}
