package loss_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
)

// entry is one line of a log. A line is written with one call and before what
// it is about goes on, so that a process that is killed loses none that counts.
type entry struct {
	Send    *send    `json:",omitempty"` // is about to be sent
	Result  *result  `json:",omitempty"` // Send has returned
	Handled *handled `json:",omitempty"` // the handler is about to return nil
}

// send is a message before it is sent.
type send struct {
	ID, From string
	Target   target
	Do       deed
	At       int64 // ns
}

// deed is what the handler of a message does.
type deed string

const (
	succeed  deed = "succeed"
	failOnce deed = "fail once" // in the first attempt
	fail     deed = "fail"      // in every one: a dead letter
)

// target is where a message goes.
type target struct {
	Kind aim
	IDs  []string `json:",omitempty"` // of toNode, toNodes
	Zone string   `json:",omitempty"` // of anyWhere, allWhere
}

// aim is a kind of target.
type aim string

const (
	toNode   aim = "To"
	toAny    aim = "Any"
	anyWhere aim = "Any(Where)"
	toAll    aim = "All"
	toOthers aim = "Others"
	allWhere aim = "All(Where)"
	toNodes  aim = "Nodes"
)

// result is how a send ended.
type result struct {
	ID      string
	Outcome outcome
	Reason  string `json:",omitempty"`
	At      int64
}

// outcome is what a verb told its caller.
type outcome string

const (
	stored  outcome = "stored"
	refused outcome = "not delivered"
	unsure  outcome = "unknown" // also where the sender died before it was told
)

// handled is one message that a handler is through with.
type handled struct {
	ID, Node string
	Attempt  int
}

// history is all that a run knows at its end.
type history struct {
	zones   map[string]string // of the nodes
	there   map[string]int64  // since when a node is prepared, whether it is there or away
	sends   map[string]*send
	results map[string]*result
	handled map[string]map[string]int // id, node: how often
	dead    map[string]map[string]int // id, node that gave up: how often
}

func newHistory(zones map[string]string) *history {
	return &history{
		zones: zones, there: map[string]int64{}, sends: map[string]*send{}, results: map[string]*result{},
		handled: map[string]map[string]int{}, dead: map[string]map[string]int{},
	}
}

// read adds a log file. A last line that is cut short was never whole.
func (h *history) read(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for line := range bytes.Lines(data) {
		if line[len(line)-1] != '\n' {
			return nil
		}
		var e entry
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("%s: %w in %s", file, err, line)
		}
		h.add(e)
	}
	return nil
}

func (h *history) add(e entry) {
	switch {
	case e.Send != nil:
		h.sends[e.Send.ID] = e.Send
	case e.Result != nil:
		h.results[e.Result.ID] = e.Result
	case e.Handled != nil:
		count(h.handled, e.Handled.ID, e.Handled.Node)
	}
}

func count(m map[string]map[string]int, id, node string) {
	if m[id] == nil {
		m[id] = map[string]int{}
	}
	m[id][node]++
}
