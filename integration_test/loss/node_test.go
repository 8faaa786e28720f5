package loss_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/cluster"
)

// nodeEnv makes the test binary a node process.
const nodeEnv = "CATGA_LOSS_NODE"

// nodeSpec says what a node process is.
type nodeSpec struct {
	URL, Cluster, ID string
	Life             int               // of its processes
	Zones            map[string]string // of all nodes
	Seed             uint64
	Rate             float64 // messages a second
	History          string  // the file that it appends to
	Log              string
}

// said is one line of a node process.
type said struct {
	Joined int64 `json:",omitempty"` // when
	Sent   int   `json:",omitempty"` // so many more
	Quiet  bool  `json:",omitempty"` // it sends no more
	Left   bool  `json:",omitempty"`
	Error  string
}

// job is what is sent.
type job struct {
	ID string
	Do deed
}

func (job) Kind() string { return "loss.job" }

// journal is a log file. A line is written with one call.
type journal struct{ file *os.File }

func openJournal(name string) (journal, error) {
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	return journal{f}, err
}

func (j journal) write(e entry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	_, err = j.file.Write(append(line, '\n'))
	return err
}

// nodeMain is the main of a node process: it handles and sends until its input
// says "quiet", and leaves at "leave" or ends with its input.
func nodeMain(spec string) int {
	var mu sync.Mutex
	out := json.NewEncoder(os.Stdout)
	say := func(line said) {
		mu.Lock()
		defer mu.Unlock()
		_ = out.Encode(line)
	}
	if err := runNode(spec, say); err != nil {
		say(said{Error: err.Error()})
		return 1
	}
	return 0
}

func runNode(spec string, say func(said)) error {
	var s nodeSpec
	if err := json.Unmarshal([]byte(spec), &s); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var log *slog.Logger
	if s.Log != "" {
		file, err := os.OpenFile(s.Log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		defer file.Close()
		log = slog.New(slog.NewTextHandler(file, &slog.HandlerOptions{Level: slog.LevelDebug})).With("pid", os.Getpid())
	}
	book, err := openJournal(s.History)
	if err != nil {
		return err
	}
	defer book.file.Close()
	snd := &sender{spec: s, book: book, say: say, prefix: fmt.Sprintf("%s-%d", s.ID, s.Life)}
	defer snd.wg.Wait() // they end with the node, and write that down
	n, nc, err := join(ctx, s, log, book)
	if err != nil {
		return err
	}
	defer nc.Close()
	defer n.Close()
	snd.n = n
	say(said{Joined: time.Now().UnixNano()})

	sending, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { snd.run(sending) })
	lines := make(chan string)
	go func() { // ends with the process
		defer close(lines)
		in := bufio.NewScanner(os.Stdin)
		for in.Scan() {
			lines <- in.Text()
		}
	}()
	for {
		select {
		case <-n.Done():
			return fmt.Errorf("the node has ended: %w", n.Err())
		case line, ok := <-lines:
			switch {
			case !ok:
				return nil
			case line == "quiet":
				stop()
				snd.wg.Wait()
				say(said{Quiet: true})
			case line == "leave":
				limited, cancel := context.WithTimeout(ctx, 30*time.Second)
				defer cancel()
				if err := n.Leave(limited); err != nil {
					return err
				}
				say(said{Left: true})
				return nil
			}
		}
	}
}

// join returns a node that has joined; NATS may be away for a while.
func join(ctx context.Context, s nodeSpec, log *slog.Logger, book journal) (*cluster.Node, *nats.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	nc, err := cluster.Dial(ctx, s.URL)
	if err != nil {
		return nil, nil, err
	}
	for {
		n, err := cluster.New(nc, cluster.Config{
			Cluster: s.Cluster, Node: s.ID, Metadata: map[string]string{"zone": s.Zones[s.ID]}, Log: log,
		})
		if err != nil {
			nc.Close()
			return nil, nil, err
		}
		cluster.Handle(n, work(s.ID, book), cluster.Retry(cluster.RetryPolicy{Min: 50 * time.Millisecond}))
		attempt, cancel := context.WithTimeout(ctx, 20*time.Second)
		err = n.Join(attempt)
		cancel()
		if err == nil {
			return n, nc, nil
		}
		_ = n.Close() // it has not joined
		if ctx.Err() != nil {
			nc.Close()
			return nil, nil, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

var errFails = errors.New("fails, as it was told to")

// work is the handler: what it is through with, it has written down before it
// says so.
func work(id string, book journal) func(context.Context, *cluster.Msg[job]) error {
	return func(_ context.Context, m *cluster.Msg[job]) error {
		switch {
		case m.Body.Do == fail:
			return cluster.Permanent(errFails)
		case m.Body.Do == failOnce && m.Attempt == 1:
			return errFails
		}
		return book.write(entry{Handled: &handled{ID: m.Body.ID, Node: id, Attempt: m.Attempt}})
	}
}

// sender sends messages to random targets at a rate.
type sender struct {
	n      *cluster.Node
	spec   nodeSpec
	book   journal
	say    func(said)
	prefix string // of the ids of its messages
	wg     sync.WaitGroup
}

const (
	// sendLimit bounds one Send; an election takes 4 to 9 s.
	sendLimit = 30 * time.Second
	// sendAtOnce is how many sends of a process wait for the server.
	sendAtOnce = 64
	// sendTick is how often messages are sent, as many as are due.
	sendTick = 10 * time.Millisecond
)

func (s *sender) run(ctx context.Context) {
	random := rand.New(rand.NewPCG(s.spec.Seed, 0))
	places := make(chan struct{}, sendAtOnce)
	tick := time.NewTicker(sendTick)
	defer tick.Stop()
	due, n := 0.0, 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for due += s.spec.Rate * sendTick.Seconds(); due >= 1; due-- {
			select {
			case <-ctx.Done():
				return
			case places <- struct{}{}:
			}
			n++
			m := &send{
				ID: fmt.Sprintf("%s-%d", s.prefix, n), From: s.n.ID(), Do: someDeed(random), Target: someTarget(random, s.spec.Zones),
			}
			named := random.IntN(5) == 0
			s.wg.Go(func() {
				s.send(m, named)
				<-places
			})
		}
	}
}

// send sends m and writes down what it was told. With a name of its own it is
// sent again where the outcome is unknown.
func (s *sender) send(m *send, named bool) {
	m.At = time.Now().UnixNano()
	if err := s.book.write(entry{Send: m}); err != nil {
		s.say(said{Error: err.Error()})
		return
	}
	s.say(said{Sent: 1})
	var opts []cluster.SendOption
	if named {
		opts = append(opts, cluster.ID(m.ID))
	}
	try := func() error {
		ctx, cancel := context.WithTimeout(context.Background(), sendLimit)
		defer cancel()
		return s.n.Send(ctx, m.Target.of(), job{m.ID, m.Do}, opts...)
	}
	err := try()
	if named && errors.Is(err, cluster.ErrUnknown) {
		// Not delivered the second time does not say that it was not the first time.
		if again := try(); !errors.Is(again, cluster.ErrNotDelivered) {
			err = again
		}
	}
	r := &result{ID: m.ID, Outcome: outcomeOf(err), At: time.Now().UnixNano()}
	if err != nil {
		r.Reason = err.Error()
	}
	if err := s.book.write(entry{Result: r}); err != nil {
		s.say(said{Error: err.Error()})
	}
}

func outcomeOf(err error) outcome {
	switch {
	case err == nil, errors.Is(err, cluster.ErrDuplicate):
		return stored
	case errors.Is(err, cluster.ErrNotDelivered):
		return refused
	default:
		return unsure
	}
}
