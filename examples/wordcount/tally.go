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
	by          []string       // who has the file in hand, or had it last
	hand        map[string]int // how many files each node has in hand
	left        int
	total       figures
	perNode     map[string]*nodeFigures
	redelivered int
	half        chan struct{} // closed when half of the files are counted
	done        chan struct{} // closed when all are, or one could not be
	failed      error
	news        chan struct{} // a lastNews has arrived

	killed  time.Time
	victims map[string]bool
	moved   int           // files that others counted after a victim had them
	movedIn time.Duration // when the last one was, after the kill
}

// nodeFigures are one worker's part.
type nodeFigures struct {
	figures
	Redelivered int64
}

func newTally(files int) *tally {
	return &tally{
		counted: make([]bool, files), by: make([]string, files), left: files,
		perNode: map[string]*nodeFigures{}, hand: map[string]int{},
		half: make(chan struct{}), done: make(chan struct{}), news: make(chan struct{}),
	}
}

// begun notes that node has file in hand.
func (t *tally) begun(file int, node string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if file < 0 || file >= len(t.by) || t.counted[file] {
		return
	}
	t.letGo(file)
	t.by[file] = node
	t.hand[node]++
}

// letGo notes that nobody has file in hand any more.
func (t *tally) letGo(file int) {
	if node := t.by[file]; node != "" {
		t.hand[node]--
		t.by[file] = ""
	}
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
	t.letGo(r.File)
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
		if t.victims != nil && !t.victims[node] {
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

// inHand returns how many files each of nodes has begun and not finished.
func (t *tally) inHand(nodes []string) []int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := make([]int, len(nodes))
	for i, node := range nodes {
		n[i] = t.hand[node]
	}
	return n
}

// kill notes that the victims are killed now: what is delivered again from here
// on is what they had in hand.
func (t *tally) kill(victims []string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.killed = now
	t.victims = map[string]bool{}
	for _, v := range victims {
		t.victims[v] = true
	}
}
