package routing

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/catga/catga-go/internal/wire"
)

// mailbox is mail that its node cannot handle: the node is gone, or it does not
// handle the kinds any more. Without an id it is shared work of one kind that
// nobody handles any more.
type mailbox struct {
	id       string
	peer     Peer // what is known of the node
	standing Standing
	// consumer brings the mail, and is the lock on it: the node's own, or one
	// that is made for what the node's own does not bring.
	consumer string
	made     bool     // the consumer is made for the move, and goes with it
	kinds    []string // that the consumer brings
}

// stream is where it is.
func (b mailbox) stream(c wire.Cluster) string {
	if b.id == "" {
		return c.WorkStream()
	}
	return c.MailStream()
}

// unhandledAge is how long shared work of a kind that nobody handles any more is
// kept, unless nodes that are gone are remembered for longer.
const unhandledAge = defaultForget

// fate is what becomes of a message in such a mailbox. The zero value is to
// wait.
type fate struct {
	to   string // the node that gets it
	any  bool   // any handler gets it
	dead error  // it is a dead letter, and why
}

func (f fate) waits() bool { return f.to == "" && !f.any && f.dead == nil }

// settlesAll reports whether nothing in the mailbox is to wait.
func (b mailbox) settlesAll() bool {
	return b.id != "" && (b.standing == Forgotten || b.standing == Absent && b.peer.Mail == "dead-letter")
}

// keeps reports whether only what a selector chose is to be moved.
func (b mailbox) keeps() bool {
	return b.standing == Absent && b.peer.Mail != "reroute" && b.peer.Mail != "dead-letter"
}

// name is the mailbox in the log.
func (b mailbox) name() string { return cmp.Or(b.id, "any") }

// fate decides by the policy of the node. It is pure. where is the selector by
// which the sender chose the node, age how long the message has been stored, and
// forget how long a node that is there keeps mail of a kind that it does not
// handle any more.
//
//   - What a selector chose goes to another node that it chooses, whatever the
//     policy: it was never meant for one node alone.
//   - "reroute" gives the rest to any handler of the kind, where there is one.
//   - "dead-letter" makes it dead letters at once.
//   - What nobody takes waits as long as the node is remembered, and then is a
//     dead letter.
func (b mailbox) fate(kind string, where *selector, age, forget time.Duration, view *peers, turn uint64) fate {
	if b.id == "" {
		if len(view.handlers[kind]) > 0 || age <= max(forget, unhandledAge) {
			return fate{}
		}
		return fate{dead: fmt.Errorf("nobody handles %s, and the message has waited for %v", kind, age.Round(time.Second))}
	}
	if where != nil && where.err == nil {
		chosen, _ := view.candidates(kind, where) // nobody is what the length says
		chosen = slices.DeleteFunc(slices.Clone(chosen), func(p *peer) bool { return p.ID == b.id })
		if p := pick(chosen, "", nil, turn); p != nil {
			return fate{to: p.ID}
		}
	}
	var gone string
	switch b.standing {
	case Unsure:
		return fate{}
	case Present:
		if b.peer.handles(kind) {
			return fate{}
		}
		gone = fmt.Sprintf("node %s does not handle %s any more", b.id, kind)
	case Absent:
		gone = fmt.Sprintf("node %s is gone", b.id)
	default:
		return fate{dead: b.because(fmt.Sprintf("node %s is no member and not remembered", b.id), kind, where)}
	}
	switch {
	case b.peer.Mail == "dead-letter":
		return fate{dead: b.because(gone, kind, where)}
	case b.standing == Present && age > forget:
		return fate{dead: b.because(gone, kind, where)}
	case b.peer.Mail == "reroute" && where == nil:
		for _, p := range view.handlers[kind] {
			if p.ID != b.id {
				return fate{any: true}
			}
		}
	}
	return fate{}
}

// because says why mail is a dead letter.
func (mailbox) because(gone, kind string, where *selector) error {
	if where != nil && where.err == nil {
		return fmt.Errorf("%s, and no other node that handles %s matches %q", gone, kind, where)
	}
	return errors.New(gone)
}
