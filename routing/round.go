package routing

import (
	"sync"
	"time"
)

// roundRest is how long after a hand-back no other node may be in a round that it
// began before.
const roundRest = 200 * time.Millisecond

// round is one round of questions and hand-backs. Two nodes that are in one at
// the same time would each hand back what the other has just handed back, and
// somebody has taken since. So the one with the smaller id has its way: asked by
// the other it says that it is busy; the other answers, and begins again.
type round struct {
	mu    sync.Mutex
	asks  bool      // the living are being asked
	void  bool      // another node went first meanwhile
	backs bool      // the rest is being handed back
	ended time.Time // when that was done
}

func (o *round) begin() {
	o.mu.Lock()
	o.asks, o.void = true, false
	o.mu.Unlock()
}

// mayHandBack ends the questions.
func (o *round) mayHandBack() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asks, o.backs = false, !o.void
	return o.backs
}

// end ends the round.
func (o *round) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.backs {
		o.ended = time.Now()
	}
	o.asks, o.backs = false, false
}

// busy reports whether asker has to wait, and lets it go first if not.
func (o *round) busy(self, asker string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.backs || time.Since(o.ended) < roundRest || o.asks && self < asker {
		return true
	}
	o.void = true
	return false
}
