package main

import (
	"fmt"
	"sync"
	"time"
)

// tally is what the coordinator knows: each file once, however often its task
// was delivered.
type tally struct {
	mu          sync.Mutex
	counted     []bool
	left        int // files that nobody has counted
	total       figures
	perNode     map[string]*nodeFigures
	redelivered int                     // deliveries after the first of a task
	hand        map[string]map[int]bool // what each node has begun and nobody has counted

	killed  time.Time
	victims map[string]bool
	held    map[int]bool  // what the victims had in hand and nobody has begun again or counted
	waived  bool          // nothing needs to move any more
	moved   int           // tasks begun again by others after the kill
	movedIn time.Duration // when the last of them was, after the kill

	half   chan struct{} // closed when half of the files are counted
	done   chan struct{} // closed when all are and what was held has moved, or one could not be read
	failed error
	news   chan struct{} // a lastNews has arrived
}

// nodeFigures are one worker's part.
type nodeFigures struct {
	figures
	Redelivered int64
}

func newTally(files int) *tally {
	return &tally{
		counted: make([]bool, files), left: files,
		perNode: map[string]*nodeFigures{}, hand: map[string]map[int]bool{},
		half: make(chan struct{}), done: make(chan struct{}), news: make(chan struct{}),
	}
}

// begun notes that node has a task in hand.
func (t *tally) begun(b taskBegun, node string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if b.File < 0 || b.File >= len(t.counted) || t.over() {
		return
	}
	if b.Attempt > 1 {
		t.redelivered++
		t.node(node).Redelivered++
		if t.victims != nil && !t.victims[node] {
			delete(t.held, b.File)
			t.moved++
			t.movedIn = now.Sub(t.killed)
			t.finish()
		}
	}
	if t.counted[b.File] {
		return
	}
	if t.hand[node] == nil {
		t.hand[node] = map[int]bool{}
	}
	t.hand[node][b.File] = true
}

// count adds a result and tells whether it is the first one for its file.
func (t *tally) count(r taskCounted, node string) (first bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r.File < 0 || r.File >= len(t.counted) || t.counted[r.File] || t.over() {
		return false
	}
	if r.Err != "" {
		t.failed = fmt.Errorf("cannot read a file: %s", r.Err)
		close(t.done)
		return true
	}
	t.counted[r.File] = true
	for _, files := range t.hand {
		delete(files, r.File)
	}
	delete(t.held, r.File)
	t.total.add(r.Figures)
	t.node(node).add(r.Figures)
	t.left--
	if t.left == len(t.counted)/2 {
		close(t.half)
	}
	t.finish()
	return true
}

// over tells whether done is closed; t.mu is held.
func (t *tally) over() bool {
	select {
	case <-t.done:
		return true
	default:
		return false
	}
}

// finish closes done if nothing is left to do; t.mu is held.
func (t *tally) finish() {
	moved := t.victims == nil || t.waived || t.moved > 0 && len(t.held) == 0
	if t.left == 0 && moved {
		close(t.done)
	}
}

// waive ends the wait for what the victims had: it has taken too long, or there
// was nothing in truth.
func (t *tally) waive() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over() {
		return
	}
	t.waived = true
	t.movedIn = time.Since(t.killed)
	t.finish()
}

func (t *tally) node(id string) *nodeFigures {
	n := t.perNode[id]
	if n == nil {
		n = &nodeFigures{}
		t.perNode[id] = n
	}
	return n
}

// idle tells whether one of nodes has nothing in hand.
func (t *tally) idle(nodes []string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, id := range nodes {
		if len(t.hand[id]) == 0 {
			return true
		}
	}
	return false
}

// hold notes what the victims, which are stopped, have in hand: it must move
// when they are killed, but for what they turn out to have done. It is false,
// and nothing is noted, if one of them has nothing.
func (t *tally) hold(victims []string, now time.Time) bool {
	if t.idle(victims) {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.killed = now
	t.held, t.victims = map[int]bool{}, map[string]bool{}
	for _, id := range victims {
		t.victims[id] = true
		for file := range t.hand[id] {
			t.held[file] = true
		}
	}
	return true
}
