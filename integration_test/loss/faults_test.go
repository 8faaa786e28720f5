package loss_test

import (
	"math/rand/v2"
	"time"
)

// fault does one random thing to the nodes or the servers. At most two nodes
// and one server are away at a time.
func (w *world) fault(random *rand.Rand) {
	n := w.nodes[random.IntN(len(w.nodes))]
	which := random.IntN(12)
	between := func(a, b time.Duration) time.Duration { return a + time.Duration(random.Int64N(int64(b-a))) }
	short, long, back := between(300*time.Millisecond, 2*time.Second), between(7*time.Second, 9*time.Second), between(0, time.Second)
	if which >= 10 {
		w.serverFault(random.IntN(len(w.servers)), which == 10, back)
		return
	}
	busy := 0
	for _, other := range w.nodes {
		if other.busy {
			busy++
		}
	}
	if n.busy || busy >= 2 || n.proc == nil || !w.is(&n.proc.joined) {
		return
	}
	n.busy = true
	p := n.proc
	switch {
	case which < 4:
		w.note("killed", n.id)
		p.kill(w)
		w.after(back, func() {
			<-p.done
			w.spawn(n)
			n.busy = false
		})
	case which < 6:
		w.stop(n, "stopped for a moment", short)
	case which < 7:
		w.stop(n, "stopped for long", long)
	default:
		w.note("left", n.id)
		w.leave(p)
		w.comeBack(n)
	}
}

// comeBack starts a node again when its process has left.
func (w *world) comeBack(n *node) {
	select {
	case <-n.proc.done:
		if !w.is(&n.proc.left) {
			w.t.Errorf("%s has not left", n.id)
		}
		w.spawn(n)
		n.busy = false
	default:
		w.after(20*time.Millisecond, func() { w.comeBack(n) })
	}
}

func (w *world) stop(n *node, what string, d time.Duration) {
	w.note(what, n.id)
	if err := pause(n.proc.cmd.Process); err != nil {
		w.t.Error(err)
	}
	w.after(d, func() {
		if err := resume(n.proc.cmd.Process); err != nil {
			w.t.Error(err)
		}
		n.busy = false
	})
}

// serverFault kills or stops a server, which is back after a while.
func (w *world) serverFault(i int, kill bool, back time.Duration) {
	if w.down {
		return
	}
	w.down = true
	s := w.servers[i]
	if kill {
		w.note("server killed", s.Name())
		s.Kill()
	} else {
		w.note("server stopped", s.Name())
		s.Stop(w.t)
	}
	w.after(back, func() {
		s.RestartNoWait(w.t)
		// The next server fails when this one is healthy again, or else a cluster
		// of three has lost two.
		healthy := make(chan struct{})
		go func() {
			defer close(healthy)
			s.WaitReady(w.t)
		}()
		w.backUp(healthy)
	})
}

func (w *world) backUp(healthy <-chan struct{}) {
	select {
	case <-healthy:
		w.down = false
	default:
		w.after(20*time.Millisecond, func() { w.backUp(healthy) })
	}
}

func (w *world) note(what, whom string) {
	w.faults[what]++
	w.logf("%s: %s", whom, what)
}
