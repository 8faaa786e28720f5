package routing

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"
)

// KindStats is what this node has done for one kind since it was made. All but
// InFlight only grow.
type KindStats struct {
	Kind string
	// Received counts the durable messages that a handler began to run, every
	// attempt of a message by itself.
	Received uint64
	// Calls counts the calls and at-most-once messages that a handler began to
	// run; what was refused or dropped is not in it.
	Calls uint64
	// Failed counts the runs of both that ended in an error or a panic. A run that
	// failed because the node was closed or evicted is not in it.
	Failed uint64
	// Retried counts the durable messages that were handed back for another
	// attempt after they had failed.
	Retried uint64
	// Dead counts the durable messages that became dead letters here.
	Dead uint64
	// InFlight is how many runs have begun and not ended, of both.
	InFlight int
	// Total is the time that all runs took that have ended, of both.
	Total time.Duration
	// Mean is Total by the number of those runs; 0 where there is none.
	Mean time.Duration
	// LastError is the text of the newest failure, cut at 1 KiB; empty where
	// there was none.
	LastError string
	// Paused says that the kind is paused; see Router.Pause.
	Paused bool
}

// Stats returns what this node has done, by kind, sorted. It takes no lock: the
// numbers of a kind are read one after the other while handlers go on.
func (r *Router) Stats() []KindStats {
	r.mu.Lock()
	kinds := make([]*kind, 0, len(r.kinds))
	for _, k := range r.kinds {
		kinds = append(kinds, k)
	}
	r.mu.Unlock()
	all := make([]KindStats, 0, len(kinds))
	for _, k := range kinds {
		all = append(all, k.stats())
	}
	slices.SortFunc(all, func(a, b KindStats) int { return cmp.Compare(a.Kind, b.Kind) })
	return all
}

// cacheLine is what two cores cannot write to at the same time without waiting
// for each other.
const cacheLine = 64

// meter counts the runs of a handler. It costs three atomic additions a run, in
// a cache line of their own, and allocates nothing.
type meter struct {
	begun, ended atomic.Uint64
	nanos        atomic.Int64 // of those that have ended
	_            [cacheLine - 24]byte
}

func (m *meter) begin() { m.begun.Add(1) }

func (m *meter) end(took time.Duration) {
	m.nanos.Add(int64(took))
	m.ended.Add(1)
}

// read returns what is counted; never more runs have ended than begun.
func (m *meter) read() (begun, ended uint64, took time.Duration) {
	ended = m.ended.Load()
	took = time.Duration(m.nanos.Load())
	return m.begun.Load(), ended, took
}

// tally is what a kind counts.
type tally struct {
	_               [cacheLine]byte // what is before it in memory is read often
	messages, calls meter

	// Written only where something went wrong.
	failed, retried, dead atomic.Uint64
	lastError             atomic.Pointer[string]
}

// fail notes why a run failed.
func (t *tally) fail(err error) {
	t.failed.Add(1)
	t.note(err)
}

func (t *tally) note(err error) {
	text := oneLine(err.Error(), maxReason)
	t.lastError.Store(&text)
}

func (k *kind) stats() KindStats {
	t := &k.tally
	messages, messagesEnded, messagesTook := t.messages.read()
	calls, callsEnded, callsTook := t.calls.read()
	s := KindStats{
		Kind: k.name, Received: messages, Calls: calls,
		Failed: t.failed.Load(), Retried: t.retried.Load(), Dead: t.dead.Load(),
		InFlight: int(messages - messagesEnded + calls - callsEnded), //nolint:gosec // never negative, and small
		Total:    messagesTook + callsTook,
		Paused:   k.lane.paused.Load(),
	}
	if ended := messagesEnded + callsEnded; ended > 0 {
		s.Mean = s.Total / time.Duration(ended) //nolint:gosec // far below the limit
	}
	if text := t.lastError.Load(); text != nil {
		s.LastError = *text
	}
	return s
}
