package soak_test

import (
	"context"
	"fmt"
	"os"
	"time"
)

// do does what a fault of the script says, and puts its end on the agenda.
func (w *world) do(f fault) {
	switch f.what {
	case serverKill, serverStop, serverRestart:
		w.doServer(f)
	default:
		w.doNode(f)
	}
}

func (w *world) doNode(f fault) {
	n := w.nodes[f.target]
	if !w.there(n) {
		w.logf("%s: has not joined yet: no %s", n.id, f.what)
		return
	}
	w.logf("%s %s for %v", f.what, n.id, f.lasts.Round(time.Millisecond))
	p := n.proc
	then := func(do func()) { w.at(time.Now().Add(f.lasts), do) }
	switch f.what {
	case kill:
		w.mu.Lock()
		p.run.killed = true
		w.mu.Unlock()
		w.ended(p, time.Now())
		p.kill()
		<-p.done
		then(func() { w.follow(n, p) })
	case leave:
		// One that has just died of something else is started again, too.
		_, _ = fmt.Fprintln(p.stdin, "leave")
		var again func()
		again = func() {
			select {
			case <-p.done:
				w.follow(n, p)
			default: // still leaving
				w.at(time.Now().Add(100*time.Millisecond), again)
			}
		}
		then(again)
	case stop:
		back := w.away(n.id, false)
		w.signal(p, pause)
		then(func() { w.signal(p, resume); back() })
	case drop:
		w.away(n.id, true)() // until it says that it has another connection
		for _, proxy := range n.proxies {
			proxy.Drop()
		}
	case refuse:
		back := w.away(n.id, true)
		for _, proxy := range n.proxies {
			proxy.Refuse()
		}
		then(func() {
			for _, proxy := range n.proxies {
				proxy.Accept()
			}
			back()
		})
	case hold:
		back := w.away(n.id, false)
		for _, proxy := range n.proxies {
			proxy.Hold()
		}
		then(func() {
			for _, proxy := range n.proxies {
				proxy.Release()
			}
			back()
		})
	}
}

// follow starts a node again after its process p has ended, once: one that takes
// long to leave may be told to leave again, or be killed.
func (w *world) follow(n *node, p *process) {
	if n.proc == p {
		w.spawn(n)
	}
}

func (w *world) signal(p *process, send func(*os.Process) error) {
	if err := send(p.cmd.Process); err != nil {
		w.t.Errorf("%s: %v", p.run.id, err)
	}
}

func (w *world) doServer(f fault) {
	s := w.servers[f.target]
	w.mu.Lock()
	down := w.down
	w.mu.Unlock()
	if down {
		w.logf("another server is not back yet: no %s", f.what)
		return
	}
	w.logf("%s %s for %v", f.what, s.Name(), f.lasts.Round(time.Millisecond))
	back := w.serverAway()
	switch f.what {
	case serverKill:
		s.Kill()
	case serverStop:
		s.Pause()
	case serverRestart:
		s.Stop(w.t)
	}
	w.at(time.Now().Add(f.lasts), func() {
		if f.what == serverStop {
			s.Resume()
		} else {
			s.RestartNoWait(w.t)
		}
		w.wg.Go(func() {
			ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
			defer cancel()
			if err := healthyServer(ctx, s); err != nil {
				w.t.Errorf("server %s does not come back: %v", s.Name(), err)
			}
			back()
		})
	})
}
