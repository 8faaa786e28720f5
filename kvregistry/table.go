package kvregistry

import (
	"cmp"
	"slices"
)

// change is one message of the record stream.
type change struct {
	id       string
	revision uint64
	// gone means that the message is a marker: deleted, purged or expired.
	gone bool
	data []byte
}

// maxAhead bounds what the table keeps of changes that came before the ones
// they follow. Beyond it they are dropped: the catch-up brings them.
const maxAhead = 4096

// table is every node that the store knows, as of one revision. It is fed with
// the messages of the record stream, from the live feed and from reads of the
// store, in any order and as often as they come, and returns what changed.
//
// The record stream holds nothing but records and each of its messages is
// republished, so the revisions of the feed are consecutive: a hole is a
// missed message. What lies behind a hole waits until a catch-up has filled
// it, so that a revision always stands for one and the same table.
//
// It is pure: no clock, no I/O, no goroutine.
type table struct {
	// complete is the revision up to which nothing is missing.
	complete uint64
	entries  map[string]*entry
	ahead    map[uint64]change

	// touched are the ids that may differ from what was taken last.
	touched map[string]struct{}
}

// entry is one node of the table.
type entry struct {
	rec record
	// revision is that of the last message of the node's key; 0 when the store
	// was found without one.
	revision uint64
	// read is the revision of the message that rec was read from.
	read uint64
	// missing means that the table shows the node as alive but the store has no
	// record, or rubbish. Its owner puts it back, or its watchers end it.
	missing bool
	// forgotten means that it is missing although the store is the one that had
	// it: its end may have been there, and was forgotten before it was read.
	forgotten bool
}

func newTable() *table {
	return &table{entries: map[string]*entry{}, ahead: map[uint64]change{}, touched: map[string]struct{}{}}
}

// delta takes one message of the feed. gap tells that messages before it are
// missing and a catch-up is due.
func (t *table) delta(c change) (events []Event, gap bool) {
	switch {
	case c.revision <= t.complete:
		return nil, false
	case c.revision > t.complete+1:
		if len(t.ahead) < maxAhead {
			t.ahead[c.revision] = c
		}
		return nil, true
	}
	events = t.apply(events, c)
	t.complete = c.revision
	return t.drain(events), false
}

// catchUp takes all messages that the store has after revision from, which
// must not be beyond complete; they are known complete through revision
// through.
func (t *table) catchUp(cs []change, through uint64) (events []Event) {
	slices.SortFunc(cs, func(a, b change) int { return cmp.Compare(a.revision, b.revision) })
	for _, c := range cs {
		if c.revision > t.complete {
			events = t.apply(events, c)
			t.complete = c.revision
		}
	}
	t.complete = max(t.complete, through)
	return t.drain(events)
}

// rebase takes everything that the store has, complete through revision
// through, which may be lower than before when the store was made anew. Who is
// alive in the table and absent from the store stays, marked missing: an empty
// store is no proof of a death.
func (t *table) rebase(cs []change, through uint64, anew bool) (events []Event) {
	slices.SortFunc(cs, func(a, b change) int { return cmp.Compare(a.revision, b.revision) })
	present := make(map[string]bool, len(cs))
	if len(t.entries) == 0 { // all of it is new
		t.entries, t.touched = make(map[string]*entry, len(cs)), make(map[string]struct{}, len(cs))
		events = make([]Event, 0, len(cs))
	}
	for _, c := range cs {
		present[c.id] = present[c.id] || !c.gone
		if e := t.entries[c.id]; !anew && e != nil && e.revision >= c.revision {
			continue
		}
		events = t.apply(events, c)
	}
	for id, e := range t.entries {
		switch {
		case present[id] || !anew && e.revision > through:
		case e.rec.State == Offline:
			t.drop(id)
		case !e.missing:
			e.missing, e.revision, e.forgotten = true, 0, !anew
		}
	}
	if anew {
		// What waits there is of the store that is gone.
		t.complete = through
		clear(t.ahead)
	}
	t.complete = max(t.complete, through)
	return t.drain(events)
}

// drain applies what waited for the hole before it to be filled.
func (t *table) drain(events []Event) []Event {
	for {
		next, ok := t.ahead[t.complete+1]
		if !ok {
			break
		}
		events = t.apply(events, next)
		t.complete++
	}
	for revision := range t.ahead {
		if revision <= t.complete {
			delete(t.ahead, revision)
		}
	}
	return events
}

// behind tells whether something waits for a hole to be filled.
func (t *table) behind() bool { return len(t.ahead) > 0 }

// apply takes one message that is newer than what the table has of its node.
func (t *table) apply(events []Event, c change) []Event {
	e := t.entries[c.id]
	if c.gone {
		switch {
		case e == nil:
		case e.rec.State == Offline:
			t.drop(c.id)
		default:
			// Nobody leaves by deleting a record: ends are written.
			e.missing, e.revision = true, c.revision
		}
		return events
	}
	rec, err := decodeRecord(c.id, c.revision, c.data)
	if err != nil {
		if e != nil {
			e.missing, e.revision = e.rec.State != Offline, c.revision
		}
		return events
	}
	events = transition(events, e, rec, c.revision)
	t.entries[c.id] = &entry{rec: rec, revision: c.revision, read: c.revision}
	t.touched[c.id] = struct{}{}
	return events
}

// take returns the entries of the ids that were touched since it was last
// called, nil for one that is gone. What a reader of entries reads of them never
// changes.
func (t *table) take() map[string]*entry {
	if len(t.touched) == 0 {
		return nil
	}
	touched := make(map[string]*entry, len(t.touched))
	for id := range t.touched {
		touched[id] = t.entries[id]
	}
	clear(t.touched)
	return touched
}

func (t *table) drop(id string) {
	delete(t.entries, id)
	t.touched[id] = struct{}{}
}

// transition adds what a watcher is told when a node's record becomes rec.
// Each incarnation begins with Joined and has one end.
func transition(events []Event, e *entry, rec record, revision uint64) []Event {
	now := rec.member(revision)
	if e == nil || e.rec.State == Offline {
		if rec.State == Offline {
			return events
		}
		return append(events, Event{Joined, now})
	}
	if e.rec.Incarnation != rec.Incarnation {
		events = append(events, endOf(e.rec.endedBy(rec).member(revision)))
		if rec.State == Offline {
			return events
		}
		return append(events, Event{Joined, now})
	}
	switch {
	case rec.State == Offline:
		return append(events, endOf(now))
	case e.rec.sameToUsers(rec):
		return events
	}
	return append(events, Event{Updated, now})
}

// endOf is the event of an offline member.
func endOf(m Member) Event {
	if m.Reason == ReasonLeft || m.Reason == ReasonClosed {
		return Event{Left, m}
	}
	return Event{Lost, m}
}
