package embedded

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

const (
	subjectStreams = "$SYS.REQ.SERVER.PING.JSZ"
	subjectHealth  = "$SYS.REQ.SERVER.PING.HEALTHZ"
	// copiesPause is between two looks at all servers.
	copiesPause = 200 * time.Millisecond
)

// settled waits until all copies of the chosen streams and of their consumers
// are complete, or returns what is missing when ctx ends: as many as are
// configured, or as there are servers.
//
// What a leader says of the others is not enough: to nats-server a follower is
// current that has stored the log of the group. The messages before it are
// copied later, from the leader's disk, and are lost with it. Only the follower
// knows when it has them. So each server is asked what it keeps and whether that
// is complete.
func (i *instance) settled(ctx context.Context, nc *nats.Conn, chosen func(stream string) bool) error {
	for {
		missing := i.unsettled(ctx, nc, chosen)
		if missing == "" {
			return nil
		}
		if wait(ctx, copiesPause) != nil {
			return notReady(ctx, missing)
		}
		if nc.IsClosed() || !i.srv.Running() {
			return &fault{is: ErrNotReady, errs: []error{ErrClosed}, text: "the server was closed: " + missing}
		}
	}
}

// allStreams are chosen.
func allStreams(string) bool { return true }

// unsettled looks once and returns what is missing, or nothing.
func (i *instance) unsettled(ctx context.Context, nc *nats.Conn, chosen func(stream string) bool) string {
	peers, err := i.peers()
	if err != nil {
		return err.Error()
	}
	var live []string
	for _, p := range peers {
		if p.Online {
			live = append(live, p.Name)
		}
	}
	kept, missing := askAll[server.JSInfo](ctx, nc, subjectStreams, server.JSzOptions{Streams: true, Consumer: true, Config: true}, live)
	if missing != "" {
		return missing
	}
	if missing = incomplete(kept, chosen); missing != "" {
		return missing
	}
	health, missing := askAll[server.HealthStatus](ctx, nc, subjectHealth, server.HealthzOptions{Details: true}, live)
	if missing != "" {
		return missing
	}
	for _, name := range live {
		h := health[name]
		h.Errors = slices.DeleteFunc(h.Errors, func(e server.HealthzError) bool { return e.Stream != "" && !chosen(e.Stream) })
		if what := unhealthy(&h); what != "" {
			return fmt.Sprintf("server %s: %s", name, what)
		}
	}
	return ""
}

// askAll asks all servers the same and returns the answers of those that are
// named, or who of them has not answered.
func askAll[T any](ctx context.Context, nc *nats.Conn, subject string, request any, names []string) (_ map[string]T, missing string) {
	body, err := json.Marshal(request)
	if err != nil {
		return nil, err.Error()
	}
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return nil, err.Error()
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := nc.PublishRequest(subject, inbox, body); err != nil {
		return nil, err.Error()
	}
	ctx, cancel := context.WithTimeout(ctx, systemWait)
	defer cancel()
	answers := map[string]T{}
	for len(answers) < len(names) {
		msg, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			silent := slices.DeleteFunc(slices.Clone(names), func(n string) bool { _, ok := answers[n]; return ok })
			return nil, fmt.Sprintf("no answer from %s: %v", strings.Join(silent, ", "), err)
		}
		var a struct {
			Server struct {
				Name string `json:"name"`
			} `json:"server"`
			Data T `json:"data"`
		}
		if err := decode(msg.Data, &a); err != nil {
			return nil, err.Error()
		}
		if slices.Contains(names, a.Server.Name) {
			answers[a.Server.Name] = a.Data
		}
	}
	return answers, ""
}

// group is a stream or consumer, as the servers tell that keep it.
type group struct {
	what   string
	copies int                            // as configured
	told   map[string]*server.ClusterInfo // by server
}

// incomplete returns what has not as many copies as it should have, or is on
// its way to other servers.
func incomplete(kept map[string]server.JSInfo, chosen func(stream string) bool) string {
	groups := map[string]*group{}
	add := func(by, what string, copies int, info *server.ClusterInfo) {
		if info == nil {
			return
		}
		g := groups[what]
		if g == nil {
			g = &group{what: what, told: map[string]*server.ClusterInfo{}}
			groups[what] = g
		}
		g.copies = max(g.copies, copies)
		g.told[by] = info
	}
	for by, info := range kept {
		for _, account := range info.AccountDetails {
			for _, s := range account.Streams {
				if s.Config == nil || !chosen(s.Name) {
					continue
				}
				stream := fmt.Sprintf("stream %s", s.Name)
				if account.Name != server.DEFAULT_GLOBAL_ACCOUNT {
					stream += " of account " + account.Name
				}
				add(by, stream, s.Config.Replicas, s.Cluster)
				for _, c := range s.Consumer {
					if c.Config != nil {
						add(by, fmt.Sprintf("consumer %s of %s", c.Name, stream), consumerCopies(c.Config, s.Config), c.Cluster)
					}
				}
			}
		}
	}
	var missing []string
	for _, g := range groups {
		if text := g.missing(len(kept)); text != "" {
			missing = append(missing, text)
		}
	}
	slices.Sort(missing)
	const shown = 3
	if n := len(missing) - shown; n > 0 {
		missing = append(missing[:shown], fmt.Sprintf("and %d more", n))
	}
	return strings.Join(missing, "; ")
}

// missing returns what is missing on that many servers, or nothing.
func (g *group) missing(servers int) string {
	var leader *server.ClusterInfo
	for by, info := range g.told {
		if info.Leader == by {
			leader = info
		}
	}
	if leader == nil {
		return g.what + " has no leader"
	}
	have := 1
	for _, r := range leader.Replicas {
		if g.told[r.Name] != nil { // a lost server is among the replicas for a while
			have++
		}
	}
	want := min(max(g.copies, 1), servers)
	switch {
	case have < want:
		return fmt.Sprintf("%s has %d of %d copies", g.what, have, want)
	case leader.Desired != nil:
		return g.what + " is being copied"
	}
	return ""
}

// consumerCopies is how many copies nats-server makes of a consumer.
func consumerCopies(c *server.ConsumerConfig, s *server.StreamConfig) int {
	switch {
	case c.Replicas == 0 && c.Durable == "" && s.Retention == server.LimitsPolicy:
		return 1
	case c.Replicas == 0 || c.Replicas > s.Replicas:
		return s.Replicas
	}
	return c.Replicas
}
