package cluster

import (
	"context"
	"fmt"
	"iter"

	"github.com/catga/catga-go/kvregistry"
)

// Self is this node as the others see it; the zero Member before Join and for
// an observer.
func (n *Node) Self() Member {
	if reg := n.registry.Load(); reg != nil {
		return reg.Self()
	}
	return Member{}
}

// Members are the members that are there, sorted by id. The call takes no lock
// and does no I/O.
func (n *Node) Members() []Member { return n.View().Members }

// View is what the node sees of the cluster: who is there, who is offline, and
// whether the view may be behind. It takes no lock and does no I/O; equal
// revisions are equal views. Do not modify what it holds: all callers share it.
func (n *Node) View() View {
	if reg := n.registry.Load(); reg != nil {
		return reg.View()
	}
	return View{}
}

// Watch yields the present members as Joined events, then Synced, then what
// changes, until ctx ends or the node is closed. A slow reader misses no end
// state: what it has not read yet is coalesced to the latest per member. Before
// Join it waits for Join.
func (n *Node) Watch(ctx context.Context) iter.Seq[Event] {
	return func(yield func(Event) bool) {
		reg, err := n.waitOpened(ctx)
		if err != nil {
			return
		}
		for ev := range reg.Watch(ctx) {
			if !yield(ev) {
				return
			}
		}
	}
}

// Wait returns nil as soon as ok holds for the node's view, at once if it does
// already. Before Join it waits for Join too. Errors: ctx's, ErrClosed.
func (n *Node) Wait(ctx context.Context, ok func(View) bool) error {
	reg, err := n.waitOpened(ctx)
	if err != nil {
		return err
	}
	return reg.Wait(ctx, ok)
}

func (n *Node) waitOpened(ctx context.Context) (*kvregistry.Registry, error) {
	select {
	case <-n.opened:
		return n.registry.Load(), nil
	case <-n.done:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, fmt.Errorf("cluster: %w", context.Cause(ctx))
	}
}

// SetMetadata replaces all metadata of this node and returns when it is stored;
// the others see an Updated event. Keys and values are any text, together 64 KiB
// at most.
func (n *Node) SetMetadata(ctx context.Context, md map[string]string) error {
	reg, err := n.joined()
	if err != nil {
		return err
	}
	return reg.SetMetadata(ctx, md)
}

// joined returns the registry of a node that has joined or observes.
func (n *Node) joined() (*kvregistry.Registry, error) {
	select {
	case <-n.done:
		return nil, ErrClosed
	default:
	}
	if reg := n.registry.Load(); reg != nil {
		return reg, nil
	}
	return nil, ErrNotJoined
}
