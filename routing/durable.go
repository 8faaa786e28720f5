package routing

import "context"

// durable is the state of the durable side of a router.
type durable struct{}

type lane struct{}

func newLane(*Router, *kind) *lane { return &lane{} }

func (r *Router) provision(context.Context) error    { return nil }
func (r *Router) startDurable(context.Context) error { return nil }
func (r *Router) drainDurable(context.Context) error { return nil }
func (r *Router) closeDurable()                      {}
func (r *Router) releaseOf([]*peer, *peers)          {}
