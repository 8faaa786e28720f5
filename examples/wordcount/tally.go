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
	by          []string // who had the file in hand last, and then who counted it
	left        int
	total       figures
	perNode     map[string]*nodeFigures
	redelivered int
	half        chan struct{} // closed when half of the files are counted
	done        chan struct{} // closed when all are, or one could not be
	failed      error

	killed  time.Time
	victims map[string]bool
	held    map[int]bool // what the victims had in hand and nobody has counted yet
	moved   int
	movedIn time.Duration
}

// nodeFigures are one worker's part.
type nodeFigures struct {
	figures
	Redelivered int64
}

func newTally(files int) *tally {
	return &tally{
		counted: make([]bool, files), by: make([]string, files), left: files,
		perNode: map[string]*nodeFigures{},
		half:    make(chan struct{}), done: make(chan struct{}),
		held: map[int]bool{},
	}
}

// begun notes that node has file in hand.
func (t *tally) begun(file int, node string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if file < 0 || file >= len(t.by) || t.counted[file] {
		return
	}
	if t.victims[node] { // news that was on its way when its sender was killed
		t.held[file] = true
	}
	t.by[file] = node
}

// count adds a result and tells whether it is the first one for its file.
func (t *tally) count(r taskCounted, node string, now time.Time) (first bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r.File < 0 || r.File >= len(t.counted) || t.counted[r.File] || t.failed != nil {
		return false
	}
	if r.Err != "" {
		t.failed = fmt.Errorf("cannot read a file: %s", r.Err)
		close(t.done)
		return true
	}
	t.counted[r.File] = true
	t.by[r.File] = node
	t.total.add(r.Figures)
	n := t.perNode[node]
	if n == nil {
		n = &nodeFigures{}
		t.perNode[node] = n
	}
	n.add(r.Figures)
	if r.Attempt > 1 {
		t.redelivered++
		n.Redelivered++
	}
	if t.held[r.File] {
		delete(t.held, r.File)
		if !t.victims[node] { // else its result was on its way already
			t.moved++
			t.movedIn = now.Sub(t.killed)
		}
	}
	t.left--
	if t.left == len(t.counted)/2 {
		close(t.half)
	}
	if t.left == 0 {
		close(t.done)
	}
	return true
}

// inHand returns how many files node has begun and not finished.
func (t *tally) inHand(node string) (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for file, by := range t.by {
		if by == node && !t.counted[file] {
			n++
		}
	}
	return n
}

// kill notes that the victims are killed now: what they have in hand must move.
func (t *tally) kill(victims []string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.killed = now
	t.victims = map[string]bool{}
	for _, v := range victims {
		t.victims[v] = true
	}
	for file, by := range t.by {
		if t.victims[by] && !t.counted[file] {
			t.held[file] = true
		}
	}
}
