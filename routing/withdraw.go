package routing

// Withdraw takes back what Prepare opened, for a node that could not join after
// all: it stops listening, and refuses what has arrived, so that its senders go
// elsewhere. Consumers stay at the server, because by now they may be those of
// the process that has the node's id. Prepare may follow again. After Start it
// does nothing: Drain and Close are for that.
func (r *Router) Withdraw() {
	r.mu.Lock()
	if r.phase != phasePrepared {
		r.mu.Unlock()
		return
	}
	subs := r.durable.heard
	r.durable.heard = nil
	r.mu.Unlock()
	for _, sub := range subs {
		_ = sub.Unsubscribe() // the only errors are of a closed connection
	}

	r.calls.mu.Lock()
	d := r.calls.dispatcher
	r.calls.dispatcher = nil
	r.calls.mu.Unlock()
	if d != nil {
		d.unsubscribe()
		d.refuseRest()
	}
}
