//go:build hosts && linux

package hosts

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/catga/catga-go/cluster"
	"github.com/catga/catga-go/embedded"
)

func init() { roles["machine"] = runMachine }

const envMachine = "CATGA_HOSTS_MACHINE"

// machine is what a host runs: a node that sends and handles messages all the
// time, on three of the hosts beside an embedded server.
type machine struct {
	ID, IP, Dir string
	Server      bool
	Servers     []string // the addresses of the hosts with a server
	Boot        int      // how often the host has been started
}

// note is the message that everybody sends to everybody.
type note struct{}

func (note) Kind() string { return "hosts.note" }

const (
	clusterName = "hosts"
	// plainStream is a work queue without this library, whose messages are
	// acknowledged with a confirmation.
	plainStream = "PLAIN"
	// sendEvery is the pause between two sends of a machine, inFlight how many
	// may be under way.
	sendEvery = 20 * time.Millisecond
	inFlight  = 64
	// sendLimit bounds a send: longer than an election.
	sendLimit = 20 * time.Second
)

// life is one life of a machine.
type life struct {
	machine
	node *cluster.Node
	js   jetstream.JetStream
	sent int // owned by send

	mu  sync.Mutex
	out *json.Encoder
}

func (l *life) say(e entry) {
	e.At, e.Node = time.Now(), cmp.Or(e.Node, l.ID)
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.out.Encode(e)
}

func runMachine() error {
	l := &life{out: json.NewEncoder(os.Stdout)}
	if err := json.Unmarshal([]byte(os.Getenv(envMachine)), &l.machine); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	nc, closeServer, err := l.connect(ctx, log)
	if err != nil {
		return err
	}
	defer closeServer()
	if l.js, err = jetstream.New(nc); err != nil {
		return err
	}
	if l.node, err = cluster.New(nc, cluster.Config{Cluster: clusterName, Node: l.ID, Log: log}); err != nil {
		return err
	}
	defer l.node.Close()
	cluster.Handle(l.node, func(_ context.Context, m *cluster.Msg[note]) error {
		l.say(entry{What: handled, ID: m.ID})
		return nil
	})
	if err := l.node.Join(ctx); err != nil {
		return err
	}
	l.say(entry{What: begun, Incarnation: l.node.Self().Incarnation})
	return l.live()
}

// connect returns the machine's connection: to its own server or to any.
func (l *life) connect(ctx context.Context, log *slog.Logger) (*nats.Conn, func(), error) {
	if !l.Server {
		var urls []string
		for _, ip := range l.Servers {
			urls = append(urls, "nats://"+ip+":4222")
		}
		nc, err := cluster.Dial(ctx, strings.Join(urls, ","))
		if err != nil {
			return nil, nil, err
		}
		return nc, nc.Close, nil
	}
	var peers []string
	for _, ip := range l.Servers {
		peers = append(peers, ip+":6222")
	}
	srv, err := embedded.Start(ctx, embedded.Config{
		Dir: filepath.Join(l.Dir, "js"), Addr: l.IP + ":4222", Log: log, MaxStore: 384 << 20, MaxMemory: 64 << 20,
		Cluster: embedded.Cluster{Name: clusterName, Addr: l.IP + ":6222", Peers: peers},
	})
	if err != nil {
		return nil, nil, err
	}
	return srv.Conn(), func() { _ = srv.Close() }, nil
}

// live is what the machine does until its input ends.
func (l *life) live() error {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { l.watch(ctx) })
	wg.Go(func() { l.status(ctx) })
	wg.Go(func() { l.plain(ctx) })
	quiet := func() {}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		switch in.Text() {
		case "quiet":
			quiet()
			l.say(entry{What: "quiet"})
		case "send":
			quiet()
			quiet = l.startSending(ctx)
			l.say(entry{What: "sending"})
		case "view":
			var ids []string
			for _, m := range l.node.Members() {
				ids = append(ids, m.ID)
			}
			l.say(entry{What: view, View: ids})
		case "left":
			l.say(entry{What: "remaining", Text: l.remaining(ctx)})
		case "dead":
			l.dead(ctx)
		}
	}
	quiet()
	leaving, end := context.WithTimeout(context.Background(), 30*time.Second)
	defer end()
	err := l.node.Leave(leaving)
	cancel()
	wg.Wait()
	return err
}

// watch writes what the node is told of the others.
func (l *life) watch(ctx context.Context) {
	names := map[cluster.EventKind]what{cluster.Joined: joined, cluster.Left: left, cluster.Lost: lost}
	for e := range l.node.Watch(ctx) {
		if name, ok := names[e.Kind]; ok {
			// A machine that is started again begins its watch anew.
			l.say(entry{Node: fmt.Sprintf("%s.%d", l.ID, l.Boot), What: name, Whom: e.Member.ID, Incarnation: e.Member.Incarnation, Text: string(e.Member.Reason) + " by " + e.Member.By})
		}
	}
}

// status writes which server the machine is connected to, and when the node
// gets to know that it is cut off, and that it is not any more.
func (l *life) status(ctx context.Context) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	was, server := false, ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if is := l.serverHost(); is != "" && is != server {
			server = is
			l.say(entry{What: on, To: server})
		}
		if is := l.node.Status().Stale; is != was {
			was = is
			if is {
				l.say(entry{What: stale})
			} else {
				l.say(entry{What: fresh})
			}
		}
	}
}

// serverHost is the host of the server that the machine is connected to.
func (l *life) serverHost() string {
	if l.Server {
		return l.ID
	}
	ip, _, err := net.SplitHostPort(l.js.Conn().ConnectedAddr())
	if err != nil {
		return ""
	}
	return fmt.Sprint("s", slices.Index(l.Servers, ip)+1)
}

// startSending sends until the function that it returns is called, which waits
// for what is under way.
func (l *life) startSending(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.send(ctx)
	}()
	return func() { cancel(); <-done }
}

// send sends notes to everybody, one after the other and many at once.
func (l *life) send(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	places := make(chan struct{}, inFlight)
	tick := time.NewTicker(sendEvery)
	defer tick.Stop()
	for {
		l.sent++
		n := l.sent
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		select {
		case <-ctx.Done():
			return
		case places <- struct{}{}:
		}
		id := fmt.Sprintf("%s-%d-%d", l.ID, l.Boot, n)
		wg.Go(func() {
			defer func() { <-places }()
			if n%4 == 3 {
				l.sendPlain(id)
				return
			}
			l.sendOne(id)
		})
	}
}

func (l *life) sendOne(id string) {
	ctx, cancel := context.WithTimeout(context.Background(), sendLimit)
	defer cancel()
	var to cluster.Target = cluster.Any()
	name := "any"
	switch rand.N(3) {
	case 0:
		to, name = cluster.All(), "all"
	case 1:
		members := l.node.Members()
		m := members[rand.N(len(members))]
		to, name = cluster.To(m.ID), m.ID
	}
	err := l.node.Send(ctx, to, note{}, cluster.ID(id))
	e := entry{What: stored, ID: id, To: name}
	switch {
	case err == nil:
	case errors.Is(err, cluster.ErrNotDelivered):
		e.What, e.Text = refused, err.Error()
	default:
		e.What, e.Text = unclear, err.Error()
	}
	l.say(e)
}

// sendPlain sends to the plain work queue, until that is stored or the time is over.
func (l *life) sendPlain(id string) {
	ctx, cancel := context.WithTimeout(context.Background(), sendLimit)
	defer cancel()
	e := entry{What: stored, ID: "plain-" + id, To: "any"}
	if _, err := l.js.Publish(ctx, plainStream+".x", []byte(e.ID), jetstream.WithMsgID(e.ID), jetstream.WithRetryAttempts(-1)); err != nil {
		e.What, e.Text = unclear, err.Error()
	}
	l.say(e)
}

// plain works on the plain work queue; each ack waits for its confirmation.
func (l *life) plain(ctx context.Context) {
	for ctx.Err() == nil {
		if err := l.plainOnce(ctx); err != nil && ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-time.After(500 * time.Millisecond):
			}
		}
	}
}

func (l *life) plainOnce(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if _, err := l.js.CreateStream(bounded, jetstream.StreamConfig{
		Name: plainStream, Subjects: []string{plainStream + ".>"}, Retention: jetstream.WorkQueuePolicy, Replicas: 3,
	}); err != nil && !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return err
	}
	c, err := l.js.CreateOrUpdateConsumer(bounded, plainStream, jetstream.ConsumerConfig{
		Durable: "plain", AckPolicy: jetstream.AckExplicitPolicy, AckWait: 20 * time.Second, MaxAckPending: 10_000,
	})
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		msgs, err := c.Fetch(4, jetstream.FetchMaxWait(2*time.Second))
		if err != nil {
			return err
		}
		for msg := range msgs.Messages() {
			id := string(msg.Data())
			l.say(entry{What: handled, ID: id})
			acking, cancel := context.WithTimeout(ctx, 10*time.Second)
			err := msg.DoubleAck(acking)
			cancel()
			if err == nil {
				l.say(entry{What: confirmed, ID: id})
			}
		}
		if err := msgs.Error(); err != nil {
			return err
		}
	}
	return nil
}

// remaining tells what is stored and not yet handled: "" when nothing is.
func (l *life) remaining(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var rest []string
	for _, name := range []string{"CATGA_" + clusterName + "_WORK", "CATGA_" + clusterName + "_MAIL", plainStream} {
		s, err := l.js.Stream(ctx, name)
		if err != nil {
			return err.Error()
		}
		if n := s.CachedInfo().State.Msgs; n > 0 {
			rest = append(rest, fmt.Sprintf("%d in %s", n, name))
		}
	}
	fan, err := l.js.Stream(ctx, "CATGA_"+clusterName+"_FANOUT")
	if err != nil {
		return err.Error()
	}
	consumers := fan.ListConsumers(ctx)
	for info := range consumers.Info() {
		if n := info.NumPending + uint64(info.NumAckPending); n > 0 {
			rest = append(rest, fmt.Sprintf("%d for all at %s", n, info.Name))
		}
	}
	if err := consumers.Err(); err != nil {
		return err.Error()
	}
	return strings.Join(rest, ", ")
}

// dead writes what has become a dead letter.
func (l *life) dead(ctx context.Context) {
	for letter, err := range l.node.DeadLetters().List(ctx, "") {
		if err != nil {
			l.say(entry{What: "error", Text: "dead letters: " + err.Error()})
			return
		}
		l.say(entry{What: dead, ID: letter.ID, Text: letter.Reason})
	}
	l.say(entry{What: "counted"})
}
