package membership

import (
	"fmt"
	"io"
	"sync"
)

// deaths counts members that were declared dead while they lived.
type deaths struct {
	progress io.Writer

	mu       sync.Mutex
	expected map[string]bool
	wrong    map[string]bool
}

func newDeaths(progress io.Writer) *deaths {
	return &deaths{progress: progress, expected: map[string]bool{}, wrong: map[string]bool{}}
}

// expect says that these may be declared dead from now on.
func (d *deaths) expect(ids ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, id := range ids {
		d.expected[id] = true
	}
}

// back says that these live again.
func (d *deaths) back(ids ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, id := range ids {
		delete(d.expected, id)
	}
}

// told takes what a member was told: that one life of a node is over.
func (d *deaths) told(by, id, life, reason string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.expected[id] || d.wrong[life] {
		return
	}
	d.wrong[life] = true
	fmt.Fprintf(d.progress, "FALSE DEATH: %s heard that %s is dead (%s)\n", by, life, reason)
}

// count is how many there were.
func (d *deaths) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.wrong)
}
