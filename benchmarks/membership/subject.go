package membership

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/catga/catga-go/benchmarks/internal/bench"
)

var roleMembers = bench.AddRole("members", beMembers)

// subject is a process with one or more members, which can be killed or
// stopped. It is in the hand of one goroutine.
type subject struct {
	proc *bench.Process
	ids  []string
	// incarnations are those that the members joined in.
	incarnations map[string]uint64
}

type joinOrder struct {
	URL, Cluster string
	IDs          []string
	Light        bool
}

type joinAnswer struct {
	Incarnations map[string]uint64
	Err          string
}

// launch starts a process whose members join at once; it does not wait for them.
func launch(order joinOrder) (*subject, error) {
	proc, err := bench.StartRole(roleMembers)
	if err != nil {
		return nil, err
	}
	if err := proc.Tell(order); err != nil {
		proc.Kill()
		return nil, err
	}
	return &subject{proc: proc, ids: order.IDs}, nil
}

// joined waits until the members have joined and are armed.
func (s *subject) joined() error {
	var answer joinAnswer
	err := s.proc.Hear(&answer)
	if err == nil && answer.Err != "" {
		err = errors.New(answer.Err)
	}
	if err != nil {
		return fmt.Errorf("the process of %s: %w", s.ids[0], err)
	}
	s.incarnations = answer.Incarnations
	return nil
}

// kill is SIGKILL.
func (s *subject) kill() {
	if s != nil {
		s.proc.Kill()
	}
}

// beMembers is the process of a subject.
func beMembers(ctx context.Context, in *json.Decoder, out *json.Encoder) error {
	var order joinOrder
	if err := in.Decode(&order); err != nil {
		return err
	}
	c := &crowd{cluster: order.Cluster, url: order.URL}
	defer c.close()
	answer := joinAnswer{Incarnations: map[string]uint64{}}
	err := c.join(ctx, order.IDs, func(int) bool { return order.Light })
	if err == nil {
		err = c.armed(ctx)
	}
	if err != nil {
		answer.Err = err.Error()
	}
	for _, m := range c.members {
		answer.Incarnations[m.id] = m.reg.Self().Incarnation
	}
	if err := out.Encode(answer); err != nil {
		return err
	}
	var end string
	return in.Decode(&end)
}
