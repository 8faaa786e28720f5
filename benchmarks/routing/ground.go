package routing

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/catga/catga-go/benchmarks/internal/bench"
	"github.com/catga/catga-go/cluster"
	"github.com/catga/catga-go/embedded"
)

const (
	clusterName = "bench"
	// seenWithin bounds the wait for a node to be seen.
	seenWithin = 30 * time.Second
)

// ground is what one transport is measured on: a server, a callee that answers
// in all the ways that are compared, and who asks. Every side has connections
// of its own with the same settings, one where it asks and one where it answers.
type ground struct {
	transport  string
	sample     time.Duration
	oneProcess bool // caller and callee are one
	dial       dialer

	callee callee
	node   *cluster.Node // ours
	nc     *nats.Conn    // of everybody else
	js     jetstream.JetStream
	body   []byte

	many bool // startMany was ordered
	ends []func()
}

type dialer func(ctx context.Context) (*nats.Conn, error)

// open starts server and callee, and joins.
func (s *Suite) open(ctx context.Context, transport string) (g *ground, err error) {
	g = &ground{transport: transport, sample: s.sample, body: make([]byte, bodySize)}
	defer func() {
		if err != nil {
			g.close()
		}
	}()
	if transport == tcp {
		err = g.startTCP(s.profile)
	} else {
		err = g.startInProcess(ctx)
	}
	if err != nil {
		return g, err
	}
	if g.node, _, err = join(ctx, g.dial, "caller", &g.ends, nil); err != nil {
		return g, err
	}
	if g.nc, err = g.conn(ctx); err != nil {
		return g, err
	}
	if g.js, err = jetstream.New(g.nc, jetstream.WithPublishAsyncMaxPending(1000)); err != nil {
		return g, err
	}
	if err := awaitHandlers(ctx, g.node, kindEcho, 1); err != nil {
		return g, err
	}
	return g, g.makeRawStream(ctx)
}

func (g *ground) startTCP(profile string) error {
	servers, err := bench.StartServers(1)
	if err != nil {
		return err
	}
	g.ends = append(g.ends, servers.Close)
	g.dial = dialTo(servers.URL())
	remote, err := startCallee(calleeConfig{URL: servers.URL(), Profile: profile})
	if err != nil {
		return err
	}
	g.ends = append(g.ends, remote.close)
	g.callee = remote
	return nil
}

func (g *ground) startInProcess(ctx context.Context) error {
	srv, err := embedded.Start(ctx, embedded.Config{})
	if err != nil {
		return err
	}
	g.ends = append(g.ends, func() { _ = srv.Close() })
	g.dial = func(ctx context.Context) (*nats.Conn, error) { return srv.Dial(ctx) }
	local, err := newLocalCallee(ctx, g.dial)
	if err != nil {
		return err
	}
	g.ends = append(g.ends, local.close)
	g.callee, g.oneProcess = local, true
	return nil
}

// conn makes one more connection, which ends with the ground.
func (g *ground) conn(ctx context.Context) (*nats.Conn, error) {
	nc, err := g.dial(ctx)
	if err == nil {
		g.ends = append(g.ends, nc.Close)
	}
	return nc, err
}

func dialTo(url string) dialer {
	return func(ctx context.Context) (*nats.Conn, error) { return cluster.Dial(ctx, url) }
}

// close ends everything, the last thing first.
func (g *ground) close() {
	for _, end := range slices.Backward(g.ends) {
		end()
	}
	g.ends = nil
}

// join makes a node with a connection of its own; register adds its handlers.
func join(ctx context.Context, dial dialer, id string, ends *[]func(), register func(*cluster.Node)) (*cluster.Node, *nats.Conn, error) {
	nc, err := dial(ctx)
	if err != nil {
		return nil, nil, err
	}
	*ends = append(*ends, nc.Close)
	n, err := cluster.New(nc, cluster.Config{Cluster: clusterName, Node: id})
	if err != nil {
		return nil, nil, err
	}
	if register != nil {
		register(n)
	}
	*ends = append(*ends, func() { _ = n.Close() })
	return n, nc, n.Join(ctx)
}

// awaitHandlers waits until so many nodes that handle kind are seen.
func awaitHandlers(ctx context.Context, n *cluster.Node, kind string, count int) error {
	ctx, cancel := context.WithTimeout(ctx, seenWithin)
	defer cancel()
	if err := n.Wait(ctx, func(v cluster.View) bool { return len(v.Handlers(kind)) == count }); err != nil {
		return fmt.Errorf("%d nodes that handle %s are not seen: %w", count, kind, err)
	}
	return nil
}

const (
	// ourStream is where our stored messages are, and rawStream those of the
	// others. They are configured alike, and so are their consumers.
	ourStream = "CATGA_" + clusterName + "_WORK"
	rawStream = "RAW_WORK"
)

func ourSubject(kind string) string { return "catga." + clusterName + ".work." + kind }
func rawSubject(kind string) string { return "rawwork." + kind }
func consumerOf(kind string) string { return "w:" + kind }

func (g *ground) makeRawStream(ctx context.Context) error {
	s, err := g.js.Stream(ctx, ourStream)
	if err != nil {
		return err
	}
	cfg := s.CachedInfo().Config
	cfg.Name, cfg.Subjects, cfg.Metadata = rawStream, []string{rawSubject(">")}, nil
	if _, err := g.js.CreateStream(ctx, cfg); err != nil {
		return fmt.Errorf("stream %s: %w", rawStream, err)
	}
	for _, kind := range storedKinds {
		consumer, err := s.Consumer(ctx, consumerOf(kind))
		if err != nil {
			return err
		}
		cfg := consumer.CachedInfo().Config
		cfg.FilterSubject, cfg.FilterSubjects, cfg.Metadata = "", []string{rawSubject(kind)}, nil
		if _, err := g.js.CreateConsumer(ctx, rawStream, cfg); err != nil {
			return fmt.Errorf("consumer %s: %w", cfg.Durable, err)
		}
	}
	return nil
}

// purge empties a subject of a stream.
func (g *ground) purge(ctx context.Context, stream, subject string) error {
	s, err := g.js.Stream(ctx, stream)
	if err != nil {
		return err
	}
	return s.Purge(ctx, jetstream.WithPurgeSubject(subject))
}

var errShort = errors.New("not everything arrived")
