package embedded

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/catga/catga-go/cluster"
)

const (
	clusterName = "bench"
	workStream  = "CATGA_" + clusterName + "_WORK"
	kindJob     = "job"
	// between two sends of a sender.
	between = time.Millisecond
	// sendLimit bounds a send; it is longer than an election takes.
	sendLimit = 30 * time.Second
	// settleLimit bounds the wait for what was stored to be handled, and for
	// servers to catch up.
	settleLimit = 2 * time.Minute
	// askLimit bounds one question to the server.
	askLimit = 2 * time.Second
)

// load is a node that sends stored messages and handles them, and one that only
// watches. It remembers what was stored and what was handled.
type load struct {
	node, watcher *cluster.Node
	js            jetstream.JetStream
	stop          context.CancelFunc
	wg            sync.WaitGroup
	ends          []func()

	mu      sync.Mutex
	stored  map[string]bool // sends that returned nil
	handled map[string]bool
	unclear int       // sends whose outcome is not known
	deaths  int       // of nodes, which all live
	last    time.Time // when the last send returned nil
	gap     time.Duration
}

// newLoad joins and begins to send.
func newLoad(ctx context.Context, url string, senders int) (_ *load, err error) {
	l := &load{stored: map[string]bool{}, handled: map[string]bool{}, stop: func() {}}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if l.node, err = l.join(ctx, url, "worker"); err != nil {
		return nil, err
	}
	if l.watcher, err = l.join(ctx, url, "watcher"); err != nil {
		return nil, err
	}
	if err := l.complete(ctx); err != nil {
		return nil, err
	}
	living, stop := context.WithCancel(ctx)
	l.stop = stop
	l.wg.Go(func() {
		for e := range l.watcher.Watch(living) {
			if e.Kind == cluster.Lost {
				l.mu.Lock()
				l.deaths++
				l.mu.Unlock()
			}
		}
	})
	l.last = time.Now()
	for n := range senders {
		l.wg.Go(func() { l.send(living, n) })
	}
	return l, nil
}

func (l *load) join(ctx context.Context, url, id string) (*cluster.Node, error) {
	nc, err := cluster.Dial(ctx, url)
	if err != nil {
		return nil, err
	}
	l.ends = append(l.ends, nc.Close)
	if l.js == nil {
		if l.js, err = jetstream.New(nc); err != nil {
			return nil, err
		}
	}
	n, err := cluster.New(nc, cluster.Config{Cluster: clusterName, Node: id})
	if err != nil {
		return nil, err
	}
	l.ends = append(l.ends, func() { _ = n.Close() })
	if id == "worker" {
		n.HandleRaw(kindJob, func(_ context.Context, m *cluster.Msg[cluster.Raw]) (cluster.Raw, error) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.handled[m.ID] = true
			return cluster.Raw{}, nil
		})
	}
	return n, n.Join(ctx)
}

// send sends one message after the other.
func (l *load) send(ctx context.Context, sender int) {
	for n := 0; ctx.Err() == nil; n++ {
		id := fmt.Sprintf("%d-%d", sender, n)
		sending, cancel := context.WithTimeout(ctx, sendLimit)
		err := l.node.Send(sending, cluster.Any(), cluster.Raw{Name: kindJob, Data: []byte(id)}, cluster.ID(id))
		cancel()
		l.mu.Lock()
		switch {
		case err == nil:
			now := time.Now()
			l.gap = max(l.gap, now.Sub(l.last))
			l.stored[id], l.last = true, now
		case errors.Is(err, cluster.ErrUnknown):
			l.unclear++
		}
		l.mu.Unlock()
		_ = pause(ctx, between)
	}
}

// forget begins to look for the longest pause.
func (l *load) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gap = 0
}

// longest returns the longest pause between two sends since forget. It waits
// until sends have gone on for a while.
func (l *load) longest(ctx context.Context, goneOn time.Duration) (time.Duration, error) {
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	begin, since := time.Now(), time.Now()
	for {
		select {
		case <-look.C:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		l.mu.Lock()
		gap, silent := l.gap, time.Since(l.last)
		l.mu.Unlock()
		if silent > 200*time.Millisecond {
			since = time.Now()
		}
		if time.Since(since) > goneOn {
			return gap, nil
		}
		if time.Since(begin) > settleLimit {
			return 0, fmt.Errorf("sends do not go on: the last one was %v ago", silent)
		}
	}
}

// leader returns the name of the server that leads the work stream.
func (l *load) leader(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, sendLimit)
	defer cancel()
	st, err := l.js.Stream(ctx, workStream)
	if err != nil {
		return "", err
	}
	return st.CachedInfo().Cluster.Leader, nil
}

// complete waits until all three servers have all of the work stream.
func (l *load) complete(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	for {
		current := 0
		// A request that meets the end of a leader is never answered.
		asking, cancel := context.WithTimeout(ctx, askLimit)
		st, err := l.js.Stream(asking, workStream)
		cancel()
		if err == nil {
			if c := st.CachedInfo().Cluster; c.Leader != "" {
				for _, r := range c.Replicas {
					if r.Current && !r.Offline {
						current++
					}
				}
			}
		}
		if current == 2 {
			return nil
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return fmt.Errorf("the work stream has %d of 2 current followers: %w", current, err)
		}
	}
}

// lost stops the senders, waits until what was stored is handled, and counts
// what is not.
func (l *load) lost(ctx context.Context) (int, error) {
	l.stop()
	l.wg.Wait()
	for begin := time.Now(); ; {
		missing := 0
		l.mu.Lock()
		for id := range l.stored {
			if !l.handled[id] {
				missing++
			}
		}
		l.mu.Unlock()
		if missing == 0 || time.Since(begin) > settleLimit {
			return missing, nil
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return 0, err
		}
	}
}

// String tells what was sent.
func (l *load) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprintf("%d sends stored, %d unclear, %d messages handled, %d living nodes declared lost, longest pause %v",
		len(l.stored), l.unclear, len(l.handled), l.deaths, l.gap.Round(time.Millisecond))
}

func (l *load) close() {
	l.stop()
	l.wg.Wait()
	for i := len(l.ends) - 1; i >= 0; i-- {
		l.ends[i]()
	}
}
