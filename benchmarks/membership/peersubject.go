package membership

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/catga/catga-go/benchmarks/internal/bench"
)

var rolePeer = bench.AddRole("memberlist", bePeer)

// peerSubject is a process with one member of memberlist, which can be killed
// or stopped.
type peerSubject struct {
	proc *bench.Process
	name string
	port int
}

type peerOrder struct {
	Name, Meta, Seed string
	Port             int
}

type peerAnswer struct {
	Port int
	Err  string
}

// launchPeer starts a process whose member joins at once; it does not wait for it.
func launchPeer(order peerOrder) (*peerSubject, error) {
	proc, err := bench.StartRole(rolePeer)
	if err != nil {
		return nil, err
	}
	if err := proc.Tell(order); err != nil {
		proc.Kill()
		return nil, err
	}
	return &peerSubject{proc: proc, name: order.Name}, nil
}

// joined waits until the member has joined.
func (s *peerSubject) joined() error {
	var answer peerAnswer
	err := s.proc.Hear(&answer)
	if err == nil && answer.Err != "" {
		err = errors.New(answer.Err)
	}
	if err != nil {
		return fmt.Errorf("the memberlist process of %s: %w", s.name, err)
	}
	s.port = answer.Port
	return nil
}

// kill is SIGKILL.
func (s *peerSubject) kill() {
	if s != nil {
		s.proc.Kill()
	}
}

// bePeer is the process of a peerSubject.
func bePeer(_ context.Context, in *json.Decoder, out *json.Encoder) error {
	var order peerOrder
	if err := in.Decode(&order); err != nil {
		return err
	}
	var answer peerAnswer
	p, err := newPeer(order.Name, order.Meta, order.Port, nil)
	if err == nil {
		defer p.close()
		answer.Port = int(p.list.LocalNode().Port)
		_, err = p.list.Join([]string{order.Seed})
	}
	if err != nil {
		answer.Err = err.Error()
	}
	if err := out.Encode(answer); err != nil {
		return err
	}
	var end string
	return in.Decode(&end)
}
