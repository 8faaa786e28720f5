package membership

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/dial"
	"github.com/catga/catga-go/kvregistry"
)

// atOnce is how many members of one process connect and join at the same time,
// unless the crowd says otherwise.
const atOnce = 256

// joinLimit is how long each of many may take to join, on average.
const joinLimit = 60 * time.Millisecond

// member is one node: a connection of its own and its part in the registry.
type member struct {
	id    string
	light bool
	nc    *nats.Conn
	reg   *kvregistry.Registry

	// alive is how many members it has heard of that are there, and heard holds a
	// token when that has changed.
	alive atomic.Int64
	heard chan struct{}
}

// count takes what the member was told.
func (m *member) count(events []kvregistry.Event) {
	for _, e := range events {
		switch e.Kind {
		case kvregistry.Joined:
			m.alive.Add(1)
		case kvregistry.Left, kvregistry.Lost:
			m.alive.Add(-1)
		}
	}
	select {
	case m.heard <- struct{}{}:
	default:
	}
}

// hears waits until the member has heard of n members that are there.
func (m *member) hears(ctx context.Context, n int) error {
	for m.alive.Load() != int64(n) {
		select {
		case <-m.heard:
		case <-ctx.Done():
			return fmt.Errorf("%s has heard of %d members, not of %d: %w", m.id, m.alive.Load(), n, context.Cause(ctx))
		}
	}
	return nil
}

// crowd is many members in one process.
type crowd struct {
	cluster, url string
	// atOnce is how many connect and join at the same time; 0 is the default.
	atOnce int
	// progress is told how many have joined, now and then; nil where nobody asks.
	progress func(n int64)
	// deaths hears of every loss; nil where nobody counts.
	deaths *deaths
	// ended says that the members go away and may hear anything of each other.
	ended atomic.Bool

	mu      sync.Mutex
	members []*member
}

// join adds members, all at once, and returns when each is one. light tells
// which of them keep no view.
func (c *crowd) join(ctx context.Context, ids []string, light func(i int) bool) error {
	ctx, cancel := context.WithTimeout(ctx, max(limit, time.Duration(len(ids))*joinLimit))
	defer cancel()
	// The first failure ends the others.
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var (
		wg     sync.WaitGroup
		joined atomic.Int64
		place  = make(chan struct{}, cmp.Or(c.atOnce, atOnce))
	)
	for i, id := range ids {
		place <- struct{}{}
		wg.Go(func() {
			defer func() { <-place }()
			if _, err := c.add(ctx, c.url, id, light != nil && light(i)); err != nil {
				fail(err)
				return
			}
			if n := joined.Add(1); n%1000 == 0 && c.progress != nil {
				c.progress(n)
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// add connects one member through url and has it join.
func (c *crowd) add(ctx context.Context, url, id string, light bool) (*member, error) {
	m, err := c.dial(ctx, url, id, light)
	if err != nil {
		return nil, err
	}
	if err := m.reg.Join(ctx); err != nil {
		return nil, fmt.Errorf("%s: %w", id, err)
	}
	return m, nil
}

// dial connects one member that has yet to join.
func (c *crowd) dial(ctx context.Context, url, id string, light bool) (*member, error) {
	nc, err := dial.Connect(ctx, url, nats.Name(id))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", id, err)
	}
	m := &member{id: id, light: light, nc: nc, heard: make(chan struct{}, 1)}
	cfg := kvregistry.Config{Cluster: c.cluster, Node: id, Light: light, Changed: func(events []kvregistry.Event) {
		c.changed(id, events)
		m.count(events)
	}}
	if m.reg, err = kvregistry.New(nc, cfg); err != nil {
		nc.Close()
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.members = append(c.members, m)
	return m, nil
}

func (c *crowd) changed(by string, events []kvregistry.Event) {
	if c.deaths == nil || c.ended.Load() {
		return
	}
	for _, e := range events {
		if e.Kind == kvregistry.Lost {
			c.deaths.told(by, e.Member.ID, fmt.Sprintf("%s/%d", e.Member.ID, e.Member.Incarnation), string(e.Member.Reason))
		}
	}
}

// full returns the members that keep a view.
func (c *crowd) full() []*member {
	c.mu.Lock()
	defer c.mu.Unlock()
	var full []*member
	for _, m := range c.members {
		if !m.light {
			full = append(full, m)
		}
	}
	return full
}

// watch has every member that keeps a view wait until ok holds for it.
func (c *crowd) watch(ctx context.Context, ok func(m *member, v kvregistry.View) bool) *sighting {
	var watchers []func(context.Context) error
	for _, m := range c.full() {
		watchers = append(watchers, func(ctx context.Context) error {
			if err := m.reg.Wait(ctx, func(v kvregistry.View) bool { return ok(m, v) }); err != nil {
				return fmt.Errorf("%s: %w", m.id, err)
			}
			return nil
		})
	}
	return watchFor(ctx, watchers)
}

// see has every member that keeps a view wait until it shows n members and is
// not stale. Nobody looks at a view before its member has heard of as many: a
// thousand that read a thousand views for each change measure the reading.
func (c *crowd) see(ctx context.Context, n int) *sighting {
	var watchers []func(context.Context) error
	for _, m := range c.full() {
		watchers = append(watchers, func(ctx context.Context) error {
			for {
				if err := m.hears(ctx, n); err != nil {
					return err
				}
				// What it has heard is shown next.
				all := false
				if err := m.reg.Wait(ctx, func(v kvregistry.View) bool {
					all = everybody(n)(m, v)
					return all || m.alive.Load() != int64(n)
				}); err != nil {
					return fmt.Errorf("%s: %w", m.id, err)
				}
				if all {
					return nil
				}
			}
		})
	}
	return watchFor(ctx, watchers)
}

var errStale = errors.New("a view is stale")

// truth returns what is wrong with the views: each must show exactly the
// members of this crowd and others, in their present incarnations.
func (c *crowd) truth(others map[string]uint64) error {
	c.mu.Lock()
	want := make(map[string]uint64, len(c.members)+len(others))
	for _, m := range c.members {
		want[m.id] = m.reg.Self().Incarnation
	}
	c.mu.Unlock()
	maps.Copy(want, others)
	for _, m := range c.full() {
		v := m.reg.View()
		if v.Stale {
			return fmt.Errorf("%w: that of %s", errStale, m.id)
		}
		if len(v.Members) != len(want) {
			return fmt.Errorf("%s sees %d members, there are %d", m.id, len(v.Members), len(want))
		}
		for _, o := range v.Members {
			if want[o.ID] != o.Incarnation {
				return fmt.Errorf("%s sees %s in incarnation %d, it is %d", m.id, o.ID, o.Incarnation, want[o.ID])
			}
		}
	}
	return nil
}

// armed returns when a crash of each member would be noticed at once.
func (c *crowd) armed(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for _, m := range c.members {
		for !m.reg.Status().Armed {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return fmt.Errorf("%s is not armed: %w", m.id, ctx.Err())
			}
		}
	}
	return nil
}

// lost is how many connections of members were lost.
func (c *crowd) lost() (n uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.members {
		n += m.nc.Stats().Reconnects
		if !m.nc.IsConnected() {
			n++
		}
	}
	return n
}

// remove has one member say goodbye and closes its connection.
func (c *crowd) remove(m *member) {
	c.mu.Lock()
	for i, o := range c.members {
		if o == m {
			c.members = append(c.members[:i], c.members[i+1:]...)
			break
		}
	}
	c.mu.Unlock()
	_ = m.reg.Close()
	m.nc.Close()
}

// close ends all members. There is nobody left to say goodbye to: their
// connections are closed first.
func (c *crowd) close() {
	c.ended.Store(true)
	c.mu.Lock()
	members := c.members
	c.members = nil
	c.mu.Unlock()
	var wg sync.WaitGroup
	for _, m := range members {
		m.nc.Close()
		wg.Go(func() { _ = m.reg.Close() })
	}
	wg.Wait()
}

// is tells whether the view shows the node alive in a later incarnation than after.
func is(v kvregistry.View, id string, after uint64) bool {
	m, ok := v.Member(id)
	return ok && m.State != kvregistry.Offline && m.Incarnation > after
}

// gone tells whether the view shows the end of the node's incarnation, or a later one.
func gone(v kvregistry.View, id string, incarnation uint64) bool {
	m, ok := v.Member(id)
	return ok && (m.Incarnation > incarnation || m.Incarnation == incarnation && m.State == kvregistry.Offline)
}
