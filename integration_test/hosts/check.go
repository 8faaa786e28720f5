package hosts

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// entry is one line of the history of a run: what a process did or saw, or
// what the test did to it. All clocks are those of one machine.
type entry struct {
	At   time.Time `json:"at"`
	What what      `json:"what"`
	// Node is who did or saw it, or whom it was done to.
	Node string `json:"node"`
	// ID is the message's; To whom it was sent: a node, "any" or "all".
	ID string `json:"id,omitempty"`
	To string `json:"to,omitempty"`
	// Whom is the member that an event is about.
	Whom        string `json:"whom,omitempty"`
	Incarnation uint64 `json:"incarnation,omitempty"`
	// Text is what else a reader of the history may want to know.
	Text string `json:"text,omitempty"`
	// View is what the node sees at the end: its members, sorted.
	View []string `json:"view,omitempty"`
}

type what string

const (
	// begun: the process has joined.
	begun what = "begun"
	// stored, refused, unclear: a send returned nil, ErrNotDelivered, ErrUnknown.
	stored  what = "stored"
	refused what = "refused"
	unclear what = "unclear"
	// handled: a handler has the message, before its ack.
	handled what = "handled"
	// confirmed: the server has confirmed the ack.
	confirmed what = "confirmed"
	// dead: the message is a dead letter at the end.
	dead what = "dead"
	// joined, left, lost: an event of the node's watch.
	joined what = "joined"
	left   what = "left"
	lost   what = "lost"
	// view: the node's view at the end.
	view what = "view"
	// stale, fresh: the node knows that its view may be behind, or that it is not.
	stale what = "stale"
	fresh what = "fresh"
	// on: the node's connection is to that server's host (To) from now on.
	on what = "on"
	// harmed, healed: the test stopped, cut off, killed or starved the node's host, and ended that.
	harmed what = "harmed"
	healed what = "healed"
)

// forgiven is for how long after the end of a harm a node may still be
// declared lost for it, or be seen so: the verdict may be under way, and who
// was cut off from the servers hears of it when the connection is back.
const forgiven = 12 * time.Second

// check returns everything that is wrong with a history. nodes are those that
// take part and live at its end.
func check(history []entry, nodes []string) (wrong []string) {
	history = slices.Clone(history)
	slices.SortStableFunc(history, func(a, b entry) int { return a.At.Compare(b.At) })
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }

	type message struct {
		sent      entry
		by        map[string]int       // how often each node handled it
		confirmed map[string]time.Time // when each node's ack was
		dead      bool
	}
	messages := map[string]*message{}
	of := func(id string) *message {
		m := messages[id]
		if m == nil {
			m = &message{by: map[string]int{}, confirmed: map[string]time.Time{}}
			messages[id] = m
		}
		return m
	}
	ended := map[string]map[uint64]what{} // of each watcher and member: node/member
	harm := map[string]time.Time{}        // since when a node is harmed
	healedAt := map[string]time.Time{}    // and until when it was
	views := map[string][]string{}        // at the end
	at := map[string]string{}             // the server that a node is connected to
	hurt := map[string]bool{}             // hosts that are harmed now
	via := map[string]string{}            // the harmed server that a node was cut off by
	begin := func(node string, when time.Time) {
		harm[node] = when
		delete(healedAt, node)
	}
	end := func(node string, when time.Time) {
		if _, ok := harm[node]; ok && !hurt[node] {
			healedAt[node] = when
		}
	}
	for _, e := range history {
		switch e.What {
		case stored, refused, unclear:
			m := of(e.ID)
			if m.sent.ID != "" {
				complain("%s was sent twice", e.ID)
			}
			m.sent = e
		case handled:
			m := of(e.ID)
			m.by[e.Node]++
			for by, at := range m.confirmed {
				if (m.sent.To != "all" || by == e.Node) && e.At.After(at) {
					complain("%s was handled by %s at %s after its ack by %s was confirmed at %s", e.ID, e.Node, clock(e.At), by, clock(at))
				}
			}
		case confirmed:
			of(e.ID).confirmed[e.Node] = e.At
		case dead:
			of(e.ID).dead = true
		case harmed:
			hurt[e.Node] = true
			begin(e.Node, e.At)
			for node, server := range at { // who hangs on a silent link is cut off with it
				if server == e.Node {
					via[node] = server
					begin(node, e.At)
				}
			}
		case healed:
			delete(hurt, e.Node)
			end(e.Node, e.At)
			for node, server := range via {
				if server == e.Node {
					delete(via, node)
					end(node, e.At)
				}
			}
		case on:
			at[e.Node] = e.To
			switch {
			case hurt[e.To]:
				via[e.Node] = e.To
				begin(e.Node, e.At)
			case via[e.Node] != "":
				delete(via, e.Node)
				end(e.Node, e.At)
			}
		case joined, left, lost:
			key := e.Node + "/" + e.Whom
			if ended[key] == nil {
				ended[key] = map[uint64]what{}
			}
			before, seen := ended[key][e.Incarnation]
			switch {
			case e.What == joined && seen:
				complain("%s saw %s/%d join after %s", e.Node, e.Whom, e.Incarnation, before)
			case e.What != joined && !seen:
				complain("%s saw the end of %s/%d and not its beginning", e.Node, e.Whom, e.Incarnation)
			case e.What != joined && before != joined:
				complain("%s saw %s/%d end twice: %s, %s", e.Node, e.Whom, e.Incarnation, before, e.What)
			}
			ended[key][e.Incarnation] = e.What
			if e.What != lost {
				continue
			}
			since, ever := harm[e.Whom]
			until, over := healedAt[e.Whom]
			switch {
			case strings.HasPrefix(e.Node, e.Whom+"."): // it hears of its own end when it is back
			case !ever:
				complain("%s saw %s/%d lost at %s, and nothing was ever done to it", e.Node, e.Whom, e.Incarnation, clock(e.At))
			case over && e.At.Sub(until) > forgiven:
				complain("%s saw %s/%d lost at %s, long after it was healed at %s", e.Node, e.Whom, e.Incarnation, clock(e.At), clock(until))
			case e.At.Before(since):
				complain("%s saw %s/%d lost before it was harmed", e.Node, e.Whom, e.Incarnation)
			}
		case view:
			views[e.Node] = e.View
		case begun, stale, fresh:
		}
	}
	for _, id := range slices.Sorted(maps.Keys(messages)) {
		m := messages[id]
		switch m.sent.What {
		case "":
			// Its sender was killed before it could say how the send ended.
		case refused:
			if len(m.by) > 0 {
				complain("%s was handled although its send said that it was not delivered: %s", id, m.sent.Text)
			}
		case stored:
			if m.dead {
				continue
			}
			if m.sent.To == "all" {
				for _, node := range nodes {
					if m.by[node] == 0 {
						complain("%s was sent to all at %s and %s never handled it", id, clock(m.sent.At), node)
					}
				}
			} else if len(m.by) == 0 {
				complain("%s was stored for %s at %s and nobody handled it", id, m.sent.To, clock(m.sent.At))
			}
		}
	}
	want := slices.Sorted(slices.Values(nodes))
	for _, node := range want {
		if got, ok := views[node]; !ok {
			complain("%s did not show its view at the end", node)
		} else if !slices.Equal(got, want) {
			complain("%s sees %v at the end instead of %v", node, got, want)
		}
	}
	return wrong
}

func clock(at time.Time) string { return at.Format("05.000") }
