package loss_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/catga/catga-go/cluster"
	"github.com/catga/catga-go/internal/natstest"
)

const (
	// formed bounds the time until all have joined, or are back.
	formed = 2 * time.Minute
	// settled bounds the time until nothing waits for a handler any more.
	settled = 3 * time.Minute
	// complaints is how many are printed.
	complaints = 20
)

func TestNothingIsLostOnOneServer(t *testing.T) {
	lossTest(t, "one", []*natstest.Server{natstest.Start(t)})
}

func TestNothingIsLostOnThreeServers(t *testing.T) {
	if testing.Short() {
		t.Skip("short: one server only")
	}
	lossTest(t, "three", natstest.StartCluster(t, 3).Servers)
}

// lossTest sends the messages while faults happen, waits until all is handled,
// and checks the history.
func lossTest(t *testing.T, name string, servers []*natstest.Server) {
	seed := cmp.Or(*seed, rand.Uint64())
	t.Logf("to repeat: -run '^%s$' -messages %d -rate %d -seed %d", t.Name(), *messages, *rate, seed)
	w := newWorld(t, name, servers, seed)
	for _, n := range w.nodes {
		w.spawn(n)
	}
	w.wait("all have joined", formed, func() bool { return w.everybody(func(p *process) bool { return w.is(&p.joined) }) })
	w.logf("all have joined")

	random := rand.New(rand.NewPCG(seed, 1))
	next := time.Now()
	length := time.Duration(*messages / *rate) * time.Second
	w.wait("all is sent", 20*length+formed, func() bool {
		if time.Now().After(next) {
			w.fault(random)
			next = time.Now().Add(100*time.Millisecond + time.Duration(random.Int64N(int64(time.Second))))
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.sent >= *messages
	})
	w.logf("no more faults")
	w.wait("the servers are back", formed, func() bool { return !w.down })
	w.wait("all are back", formed, func() bool { return w.everybody(func(p *process) bool { return w.is(&p.joined) }) })
	for _, n := range w.nodes {
		w.tell(n.proc, "quiet")
	}
	w.wait("nobody sends any more", formed, func() bool { return w.everybody(func(p *process) bool { return w.is(&p.quiet) }) })
	w.logf("all is sent")

	ctx, cancel := context.WithTimeout(t.Context(), settled+formed)
	defer cancel()
	nc, err := cluster.Dial(ctx, w.urls())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	eye, err := cluster.New(nc, cluster.Config{Cluster: w.name, Node: "eye"})
	if err != nil {
		t.Fatal(err)
	}
	defer eye.Close()
	if err := eye.Observe(ctx); err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	w.settle(ctx, js)
	w.logf("all is settled")

	h := newHistory(w.zones)
	h.there = w.there
	for _, file := range w.files {
		// A process that was killed before it began has none.
		if err := h.read(file); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	for letter, err := range eye.DeadLetters().List(ctx, job{}.Kind()) {
		if err != nil {
			t.Fatal(err)
		}
		var j job
		if err := json.Unmarshal(letter.Message.Data, &j); err != nil {
			t.Fatal(err)
		}
		count(h.dead, j.ID, letter.Node)
	}
	w.logf("%s", w.summary(h))
	wrong := check(h)
	for i, complaint := range wrong {
		if i == complaints {
			t.Errorf("and %d more", len(wrong)-i)
			break
		}
		t.Error(complaint)
	}
	if len(wrong) > 0 && *logs != "" {
		w.save()
	}
	if len(h.sends) < *messages {
		t.Errorf("only %d messages were sent", len(h.sends))
	}
}

// settle waits until no stream holds anything that a handler has to do. What
// does not come to an end is for the checker.
func (w *world) settle(ctx context.Context, js jetstream.JetStream) {
	end := time.Now().Add(settled)
	left := ""
	w.wait("all is handled", settled+formed, func() bool {
		var err error
		if left, err = unsettled(ctx, js, w.name); err != nil {
			left = err.Error()
		}
		return left == "" || time.Now().After(end)
	})
	if left != "" {
		w.logf("not settled after %v: %s", settled, left)
	}
}

// unsettled says what waits for a handler, or nothing.
func unsettled(ctx context.Context, js jetstream.JetStream, name string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for _, queue := range []string{"_WORK", "_MAIL"} {
		stream, err := js.Stream(ctx, "CATGA_"+name+queue)
		if err != nil {
			return "", err
		}
		if state := stream.CachedInfo().State; state.Msgs > 0 {
			info, err := stream.Info(ctx, jetstream.WithSubjectFilter("catga."+name+".>"))
			if err != nil {
				return "", err
			}
			waiting, err := waiting(ctx, stream)
			return fmt.Sprintf("%d messages, %d to %d: %v; %s", state.Msgs, state.FirstSeq, state.LastSeq, info.State.Subjects, waiting), err
		}
	}
	fanout, err := js.Stream(ctx, "CATGA_"+name+"_FANOUT")
	if err != nil {
		return "", err
	}
	return waiting(ctx, fanout)
}

// waiting says what the consumers of a stream still have to deliver, or nothing.
func waiting(ctx context.Context, stream jetstream.Stream) (string, error) {
	var left []string
	consumers := stream.ListConsumers(ctx)
	for c := range consumers.Info() {
		if c.NumPending > 0 || c.NumAckPending > 0 {
			left = append(left, fmt.Sprintf("%s: %d pending, %d in hand, all acked up to %d", c.Name, c.NumPending, c.NumAckPending, c.AckFloor.Stream))
		}
	}
	return strings.Join(left, ", "), consumers.Err()
}

// save copies the histories beside the logs, for who looks for the cause.
func (w *world) save() {
	for _, file := range w.files {
		data, err := os.ReadFile(file)
		if err == nil {
			err = os.WriteFile(filepath.Join(*logs, w.name+"-"+filepath.Base(file)+".history"), data, 0o600)
		}
		if err != nil {
			w.t.Log(err)
		}
	}
}
