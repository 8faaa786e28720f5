package loss_test

import (
	"fmt"
	"maps"
	"slices"
)

// check returns what in a history breaks a promise:
//
//   - stored: handled, or a dead letter; with a target of many by every node that
//     it was promised to
//   - not delivered: neither, anywhere
//   - unknown, or the sender died before it was told: either
//   - nobody handles what is not for him, what fails always, or what nobody sent
func check(h *history) (complaints []string) {
	complain := func(format string, args ...any) { complaints = append(complaints, fmt.Sprintf(format, args...)) }
	for _, id := range slices.Sorted(maps.Keys(h.sends)) {
		s := h.sends[id]
		who := func(what string) string {
			return fmt.Sprintf("%s, %s %v to %v: %s", id, s.Do, s.Target.Kind, s.Target, what)
		}
		outcome := h.outcomeOf(id)
		switch outcome {
		case stored:
			if s.Target.one() {
				if len(h.handled[id])+len(h.dead[id]) == 0 {
					complain("%s", who("stored, and neither handled nor a dead letter"))
				}
				break
			}
			for _, node := range h.promised(s) {
				if h.handled[id][node]+h.dead[id][node] == 0 {
					complain("%s", who("stored, and neither handled nor a dead letter at "+node))
				}
			}
		case refused:
			for node := range h.handled[id] {
				complain("%s", who("not delivered, and handled at "+node))
			}
			for node := range h.dead[id] {
				complain("%s", who("not delivered, and a dead letter of "+node))
			}
		}
		for _, node := range slices.Sorted(maps.Keys(h.handled[id])) {
			if !h.meant(s, node) {
				complain("%s", who("handled at "+node+", which was not meant"))
			}
			if s.Do == fail {
				complain("%s", who("handled at "+node+", where it fails"))
			}
		}
		for _, node := range slices.Sorted(maps.Keys(h.dead[id])) {
			if !h.meant(s, node) {
				complain("%s", who("a dead letter of "+node+", which was not meant"))
			}
		}
	}
	for what, m := range map[string]map[string]map[string]int{"handled": h.handled, "dead": h.dead} {
		for _, id := range slices.Sorted(maps.Keys(m)) {
			if h.sends[id] == nil {
				complain("%s: %s, and nobody sent it", id, what)
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(h.results)) {
		if h.sends[id] == nil {
			complain("%s: it has a result, and nobody sent it", id)
		}
	}
	return complaints
}

// outcomeOf is what the sender of a message was told.
func (h *history) outcomeOf(id string) outcome {
	if r := h.results[id]; r != nil {
		return r.Outcome
	}
	return unsure
}

// one reports whether one node is to handle the message.
func (t target) one() bool { return t.Kind == toNode || t.Kind == toAny || t.Kind == anyWhere }

// promised are the nodes of which a stored message to many must be handled by
// each: they had joined when it was sent. One that is away gets it when it is back.
func (h *history) promised(s *send) (nodes []string) {
	for _, node := range slices.Sorted(maps.Keys(h.zones)) {
		if since, ok := h.there[node]; ok && since <= s.At && h.meant(s, node) {
			nodes = append(nodes, node)
		}
	}
	return nodes
}

// meant reports whether node may handle the message.
func (h *history) meant(s *send, node string) bool {
	zone, ok := h.zones[node]
	if !ok {
		return false
	}
	switch s.Target.Kind {
	case toNode, toNodes:
		return slices.Contains(s.Target.IDs, node)
	case toOthers:
		return node != s.From
	case anyWhere, allWhere:
		return zone == s.Target.Zone
	default:
		return true
	}
}
