package membership

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// peer is a member of memberlist, with its LAN defaults and nothing else.
type peer struct {
	name string
	list *memberlist.Memberlist
	link *link
	// deaths hears of every loss; nil where nobody counts.
	deaths *deaths

	mu      sync.Mutex
	ended   bool
	meta    string
	online  map[string]string // the living by name, with their metadata
	changed chan struct{}     // closed and replaced when online changes
}

// newPeer makes a member that has yet to join. Port 0 is a free one.
func newPeer(name, meta string, port int, d *deaths) (*peer, error) {
	p := &peer{name: name, meta: meta, deaths: d, online: map[string]string{}, changed: make(chan struct{})}
	cfg := memberlist.DefaultLANConfig()
	cfg.Name, cfg.BindAddr, cfg.BindPort, cfg.AdvertisePort = name, "127.0.0.1", port, port
	cfg.LogOutput = io.Discard
	cfg.Delegate, cfg.Events = delegate{p}, eventDelegate{p}
	var err error
	if p.link, err = newLink(cfg); err != nil {
		return nil, err
	}
	if p.list, err = memberlist.Create(cfg); err != nil {
		return nil, errors.Join(err, p.link.Shutdown())
	}
	return p, nil
}

// address is where others reach it.
func (p *peer) address() string { return p.list.LocalNode().Address() }

// wait returns nil as soon as ok holds for who is online.
func (p *peer) wait(ctx context.Context, ok func(online map[string]string) bool) error {
	for {
		p.mu.Lock()
		met, changed := ok(p.online), p.changed
		p.mu.Unlock()
		if met {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", p.name, context.Cause(ctx))
		}
	}
}

// update changes its metadata for all.
func (p *peer) update(meta string) error {
	p.mu.Lock()
	p.meta = meta
	p.mu.Unlock()
	return p.list.UpdateNode(10 * time.Second)
}

// close ends it without a goodbye.
func (p *peer) close() {
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	_ = p.list.Shutdown()
}

// set notes that a member is online with meta, or that it is not.
func (p *peer) set(name, meta string, online bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if online {
		p.online[name] = meta
	} else {
		delete(p.online, name)
		if p.deaths != nil && !p.ended {
			p.deaths.told(p.name, name, name, "memberlist")
		}
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

// eventDelegate takes what memberlist tells. NotifyLeave is the same for who left
// and for who died.
type eventDelegate struct{ p *peer }

func (e eventDelegate) NotifyJoin(n *memberlist.Node)   { e.p.set(n.Name, string(n.Meta), true) }
func (e eventDelegate) NotifyUpdate(n *memberlist.Node) { e.p.set(n.Name, string(n.Meta), true) }
func (e eventDelegate) NotifyLeave(n *memberlist.Node)  { e.p.set(n.Name, "", false) }

// delegate gives memberlist the metadata, and has no messages of its own.
type delegate struct{ p *peer }

func (d delegate) NodeMeta(int) []byte {
	d.p.mu.Lock()
	defer d.p.mu.Unlock()
	return []byte(d.p.meta)
}
func (delegate) NotifyMsg([]byte)                {}
func (delegate) GetBroadcasts(_, _ int) [][]byte { return nil }
func (delegate) LocalState(bool) []byte          { return nil }
func (delegate) MergeRemoteState([]byte, bool)   {}
