package kvregistry

import (
	"context"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// hub holds the view that readers see and passes events on to watchers. The
// loop publishes; nobody can make it wait: its lock is held for memory
// operations only, and a watcher that does not read has its backlog coalesced.
type hub struct {
	// view is the latest that was read, and unread tells that there is a newer one.
	view   atomic.Pointer[View]
	unread atomic.Bool
	// revision is that of the newest view.
	revision atomic.Uint64

	mu       sync.Mutex
	draft    draft
	cost     time.Duration // of the making of the latest view
	synced   bool
	closed   bool
	watchers map[*watcher]struct{}
	// changed is closed and replaced whenever there is a newer view.
	changed chan struct{}
}

func newHub() *hub {
	h := &hub{watchers: map[*watcher]struct{}{}, changed: make(chan struct{})}
	h.view.Store(&View{})
	return h
}

// read returns the view. It takes the lock only when what has changed since the
// last time is still to be merged.
func (h *hub) read() View {
	if h.unread.Load() {
		h.mu.Lock()
		h.make()
		h.mu.Unlock()
	}
	return *h.view.Load()
}

// make merges what has changed since the view was last read.
func (h *hub) make() {
	if !h.unread.Load() {
		return
	}
	begin := time.Now()
	v := h.draft.read()
	h.view.Store(&v)
	h.unread.Store(false)
	h.cost += time.Since(begin)
}

// publish shows what has changed up to revision and tells the watchers. The
// first time makes the hub synced: its members are told as Joined. It returns
// what the views cost that were made since the last time.
func (h *hub) publish(revision uint64, stale bool, touched map[string]*entry, events []Event) (cost time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.draft.add(revision, stale, touched)
	h.revision.Store(revision)
	h.unread.Store(true)
	if !h.synced {
		h.synced = true
		if len(h.watchers) > 0 {
			h.make()
			events = initial(*h.view.Load())
		}
	}
	for w := range h.watchers {
		w.add(events)
	}
	close(h.changed)
	h.changed = make(chan struct{})
	cost, h.cost = h.cost, 0
	return cost
}

// without shows that there is no view yet.
func (h *hub) without() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.synced {
		h.view.Store(&View{Stale: true})
	}
}

// reset forgets the view of a Join that failed.
func (h *hub) reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.synced, h.draft, h.cost = false, draft{}, 0
	h.view.Store(&View{})
	h.unread.Store(false)
	h.revision.Store(0)
}

// close ends all watches when they have read what is left.
func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	h.closed = true
	for w := range h.watchers {
		w.end()
	}
	close(h.changed)
}

// next returns the revision of the view and a channel that is closed when there
// is a newer one.
func (h *hub) next() (revision uint64, changed <-chan struct{}, synced bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.revision.Load(), h.changed, h.synced
}

func (h *hub) watch() *watcher {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := &watcher{ready: make(chan struct{}, 1), limit: maxBacklog}
	if h.synced {
		h.make()
		w.add(initial(*h.view.Load()))
	}
	if h.closed {
		w.end()
		return w
	}
	h.watchers[w] = struct{}{}
	return w
}

func (h *hub) unwatch(w *watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.watchers, w)
}

// events iterates over what a new watcher is told until ctx or the hub ends.
func (h *hub) events(ctx context.Context) iter.Seq[Event] {
	return func(yield func(Event) bool) {
		w := h.watch()
		defer h.unwatch(w)
		for {
			events, open := w.take()
			for _, e := range events {
				if ctx.Err() != nil || !yield(e) {
					return
				}
			}
			if !open {
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-w.ready:
			}
		}
	}
}

// initial is what a watch begins with.
func initial(v View) []Event {
	events := make([]Event, 0, len(v.Members)+1)
	for _, m := range v.Members {
		events = append(events, Event{Joined, m})
	}
	return append(events, Event{Kind: Synced})
}

// maxBacklog is how many events wait for a watcher before they are coalesced.
const maxBacklog = 1024

// watcher is the mailbox of one watch.
type watcher struct {
	ready chan struct{} // holds a token when there is something to take

	mu    sync.Mutex
	queue []Event
	ended bool
	// limit is the length at which queue is coalesced. It grows with what is
	// left after that, so that the work stays proportional to the events.
	limit int
}

func (w *watcher) add(events []Event) {
	if len(events) == 0 {
		return
	}
	w.mu.Lock()
	w.queue = append(w.queue, events...)
	if len(w.queue) > w.limit {
		w.queue = coalesce(w.queue)
		w.limit = max(maxBacklog, 2*len(w.queue))
	}
	w.mu.Unlock()
	w.wake()
}

func (w *watcher) end() {
	w.mu.Lock()
	w.ended = true
	w.mu.Unlock()
	w.wake()
}

func (w *watcher) wake() {
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

func (w *watcher) take() (events []Event, open bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	events, w.queue, w.limit = w.queue, nil, maxBacklog
	return events, !w.ended
}

// coalesce shortens a backlog to what a watcher needs to end up with the truth
// and to see each incarnation that it has seen begin also end: of each
// incarnation its beginning and its latest state become one event, and one
// that both began and ended within the backlog is left out.
func coalesce(backlog []Event) []Event {
	type life struct {
		id          string
		incarnation uint64
	}
	kept := make([]Event, 0, len(backlog))
	dropped := map[int]bool{}
	last := map[life]int{} // index in kept
	for _, e := range backlog {
		if e.Kind == Synced || e.Kind == Evicted {
			kept = append(kept, e)
			continue
		}
		l := life{e.Member.ID, e.Member.Incarnation}
		i, ok := last[l]
		if !ok {
			last[l] = len(kept)
			kept = append(kept, e)
			continue
		}
		began := kept[i].Kind == Joined
		switch {
		case began && e.Kind == Updated:
			// Still a beginning, in its place, with the latest state.
			kept[i].Member = e.Member
			continue
		case began:
			dropped[i] = true
			delete(last, l)
			continue
		}
		dropped[i] = true
		last[l] = len(kept)
		kept = append(kept, e)
	}
	i := -1
	return slices.DeleteFunc(kept, func(Event) bool { i++; return dropped[i] })
}
