package soak_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

const (
	// tolerated is for how long a node may be silent and must not be taken for
	// dead.
	tolerated = 2 * time.Second
	// grace is the same for a node whose connection is closed: a crash looks no
	// different.
	grace = 400 * time.Millisecond
	// verdictWay is how long a verdict may be on its way from the evidence to
	// whoever is told of it.
	verdictWay = 4 * time.Second
	// deathSeen is how long the death of a process may stay unseen by somebody
	// who was not away, while every server works.
	deathSeen = 30 * time.Second
)

// check returns what in the history breaks a promise.
func check(h *history) (complaints []string) {
	complain := func(format string, args ...any) { complaints = append(complaints, fmt.Sprintf(format, args...)) }
	for _, s := range h.seers {
		h.checkOrder(s, complain)
		h.checkDeathsSeen(s, complain)
	}
	h.checkVerdicts(complain)
	h.checkViews(complain)
	h.checkEnd(complain)
	return complaints
}

type complainer func(format string, args ...any)

type life struct {
	id          string
	incarnation uint64
}

// checkOrder: of each incarnation Joined comes first and one ending last, and
// of each name one incarnation at a time, each later one greater.
func (h *history) checkOrder(s *seer, complain complainer) {
	open, ended := map[string]uint64{}, map[life]string{}
	newest := map[string]uint64{}
	synced := false
	for i, e := range s.events {
		l := life{e.ID, e.Incarnation}
		switch e.Kind {
		case "Synced":
			if synced {
				complain("%s: Synced twice (event %d)", s.id, i)
			}
			synced = true
		case "Joined":
			switch {
			case ended[l] != "":
				complain("%s: %s/%d Joined after it was %s", s.id, e.ID, e.Incarnation, ended[l])
			case open[e.ID] != 0:
				complain("%s: %s/%d Joined while incarnation %d was there", s.id, e.ID, e.Incarnation, open[e.ID])
			case e.Incarnation <= newest[e.ID]:
				complain("%s: %s/%d Joined after incarnation %d", s.id, e.ID, e.Incarnation, newest[e.ID])
			}
			open[e.ID] = e.Incarnation
			newest[e.ID] = max(newest[e.ID], e.Incarnation)
		case "Updated":
			if open[e.ID] != e.Incarnation {
				complain("%s: %s/%d Updated, and incarnation %d is there", s.id, e.ID, e.Incarnation, open[e.ID])
			}
		case "Left", "Lost":
			switch {
			case ended[l] != "":
				complain("%s: %s/%d %s after it was %s", s.id, e.ID, e.Incarnation, e.Kind, ended[l])
			case open[e.ID] != e.Incarnation:
				complain("%s: %s/%d %s, and incarnation %d is there", s.id, e.ID, e.Incarnation, e.Kind, open[e.ID])
			}
			ended[l] = e.Kind
			if open[e.ID] == e.Incarnation {
				delete(open, e.ID)
			}
		case "Evicted":
			if e.ID != s.id {
				complain("%s: told that %s was evicted", s.id, e.ID)
			}
		default:
			complain("%s: an event of kind %q", s.id, e.Kind)
		}
	}
	if !synced && len(s.events) > 0 && s.end.IsZero() {
		complain("%s: never Synced", s.id)
	}
}

// checkVerdicts: nobody was Lost who was there and could be reached, and nobody
// who was killed is said to have left, nor the other way round.
func (h *history) checkVerdicts(complain complainer) {
	first := map[life]sight{}
	for _, s := range h.seers {
		for _, e := range s.events {
			l := life{e.ID, e.Incarnation}
			if e.Kind != "Lost" && e.Kind != "Left" {
				continue
			}
			f, ok := first[l]
			if ok && f.Kind != e.Kind {
				complain("%s/%d: %s (%s by %s) for one, %s (%s by %s) for %s", e.ID, e.Incarnation, f.Kind, f.Reason, f.By, e.Kind, e.Reason, e.By, s.id)
			}
			if !ok || e.At.Before(f.At) {
				first[l] = e
			}
		}
	}
	for l, e := range first {
		r := h.runOf(l, e.At)
		if r == nil {
			complain("%s/%d: %s, and there was no such process", l.id, l.incarnation, e.Kind)
			continue
		}
		dead := !r.end.IsZero() && r.end.Before(e.At.Add(tick))
		switch {
		case e.Kind == "Left" && !dead && r.end.IsZero():
			complain("%s/%d: Left, and it never did", l.id, l.incarnation)
		case e.Kind == "Left" && r.killed:
			complain("%s/%d: Left, and it was killed", l.id, l.incarnation)
		case e.Kind == "Lost" && r.left && l.incarnation == r.lives[len(r.lives)-1]:
			complain("%s/%d: Lost (%s by %s), and it had left", l.id, l.incarnation, e.Reason, e.By)
		case e.Kind == "Lost" && !dead && !h.excused(l.id, e.At):
			complain("%s/%d: Lost (%s by %s) at %s, and it was there", l.id, l.incarnation, e.Reason, e.By, clock(e.At))
		}
	}
}

// tick is the precision of the times in a history.
const tick = 50 * time.Millisecond

// runOf is the process that had an incarnation: the one that says so, or else
// the latest of that name that had begun by then and could not say it: it died
// before it said anything, or was killed after it had said an earlier one.
func (h *history) runOf(l life, at time.Time) *run {
	var latest *run
	for _, r := range h.runs {
		if r.id != l.id || r.begin.After(at) {
			continue
		}
		if slices.Contains(r.lives, l.incarnation) {
			return r
		}
		if n := len(r.lives); n == 0 || r.killed && r.lives[n-1] < l.incarnation {
			latest = r
		}
	}
	return latest
}

// excused tells whether a node was away for so long that it may be taken for
// dead at that time. Times that follow each other closely count as one.
func (h *history) excused(id string, at time.Time) bool {
	// A verdict that a server got before it stopped is stored when it goes on.
	slack := verdictWay
	for _, s := range h.servers {
		if s.from.Before(at) && s.to.After(at.Add(-3*verdictWay)) {
			slack += s.to.Sub(s.from)
		}
	}
	for _, s := range merged(h.awayOf(id)) {
		limit := tolerated
		if s.closed {
			limit = grace
		}
		end := s.to
		if at.Before(end) {
			end = at
		}
		if end.Sub(s.from) > limit && s.to.After(at.Add(-slack)) {
			return true
		}
	}
	return false
}

// merged joins times with less than a second between them.
func merged(spans []span) (out []span) {
	spans = slices.SortedFunc(slices.Values(spans), func(a, b span) int { return a.from.Compare(b.from) })
	for _, s := range spans {
		if n := len(out) - 1; n >= 0 && s.from.Sub(out[n].to) < time.Second {
			if s.to.After(out[n].to) {
				out[n].to = s.to
			}
			out[n].closed = out[n].closed || s.closed
			continue
		}
		out = append(out, s)
	}
	return out
}

// checkDeathsSeen: whoever saw an incarnation begin and lives sees it end, in
// time, when its process is gone.
func (h *history) checkDeathsSeen(s *seer, complain complainer) {
	joined, ended := map[life]time.Time{}, map[life]time.Time{}
	for _, e := range s.events {
		l := life{e.ID, e.Incarnation}
		switch e.Kind {
		case "Joined":
			joined[l] = e.At
		case "Left", "Lost":
			ended[l] = e.At
		}
	}
	for l, at := range joined {
		r := h.runOf(l, at)
		if r == nil {
			complain("%s: %s/%d Joined, and there was no such process", s.id, l.id, l.incarnation)
			continue
		}
		if r.end.IsZero() {
			continue
		}
		due := h.due(s, r.end)
		switch seen, ok := ended[l]; {
		case ok && seen.After(due):
			complain("%s: the end of %s/%d at %s was seen after %v", s.id, l.id, l.incarnation, clock(r.end), seen.Sub(r.end))
		case !ok && h.end.After(due) && (s.end.IsZero() || s.end.After(due)):
			complain("%s: the end of %s/%d at %s was never seen", s.id, l.id, l.incarnation, clock(r.end))
		}
	}
}

// due is until when s must have seen what happened at a time. While it is away,
// and while a server is, the time stands still.
func (h *history) due(s *seer, at time.Time) time.Time {
	due := at.Add(deathSeen)
	for _, w := range merged(slices.Concat(h.awayOf(s.id), h.servers)) {
		if w.from.Before(due) && w.to.After(at) {
			from := w.from
			if from.Before(at) {
				from = at
			}
			due = due.Add(w.to.Sub(from))
		}
	}
	return due
}

// checkViews: equal revisions are equal views.
func (h *history) checkViews(complain complainer) {
	type first struct{ digest, by string }
	seen := map[uint64]first{}
	for _, s := range h.seers {
		for _, v := range s.views {
			f, ok := seen[v.Revision]
			switch {
			case !ok:
				seen[v.Revision] = first{v.Digest, s.id}
			case f.digest != v.Digest:
				complain("revision %d: %s has view %s, %s has %s", v.Revision, f.by, f.digest, s.id, v.Digest)
			}
		}
	}
}

// checkEnd: the last view of everybody who lives is the truth.
func (h *history) checkEnd(complain complainer) {
	truth := h.truth()
	for _, s := range h.seers {
		if !s.end.IsZero() {
			continue
		}
		switch {
		case s.last == nil:
			complain("%s: has no view at the end", s.id)
		case s.last.Stale:
			complain("%s: its view is stale at the end", s.id)
		case !maps.Equal(s.last.Members, truth):
			complain("%s: sees %v at the end, the truth is %v", s.id, s.last.Members, truth)
		}
	}
}

// truth is who lives, as what.
func (h *history) truth() map[string]uint64 {
	truth := map[string]uint64{}
	for _, r := range h.runs {
		if r.end.IsZero() {
			truth[r.id] = 0
			if n := len(r.lives); n > 0 {
				truth[r.id] = r.lives[n-1]
			}
		}
	}
	return truth
}

// deathTimes are the times from the end of each process that did not leave
// until everybody who was there had seen it, sorted.
func (h *history) deathTimes() (times []time.Duration) {
	for _, r := range h.runs {
		if r.end.IsZero() || r.left || len(r.lives) == 0 {
			continue
		}
		l := life{r.id, r.lives[len(r.lives)-1]}
		var last time.Duration
		for _, s := range h.seers {
			if len(h.away[s.id]) > 0 {
				continue
			}
			for _, e := range s.events {
				if e.Kind == "Lost" && (life{e.ID, e.Incarnation}) == l {
					last = max(last, e.At.Sub(r.end))
				}
			}
		}
		if last > 0 {
			times = append(times, last)
		}
	}
	slices.SortFunc(times, cmp.Compare)
	return times
}

func clock(t time.Time) string { return t.Format("15:04:05.000") }
