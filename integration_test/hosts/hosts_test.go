//go:build hosts && linux

package hosts

import (
	"flag"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"
)

var long = flag.Duration("for", 0, "how long faults go on; 0 = each of them once")

// fault is something that happens to hosts. It ends what it begins, and marks
// both in the history.
type fault struct {
	name string
	run  func(l *lab)
}

var faults = []fault{
	{"a server's host is cut off", func(l *lab) { l.cutOff(l.any(l.servers())) }},
	{"a node's host is cut off", func(l *lab) { l.cutOff(l.any(l.others())) }},
	{"a server's host is not heard", func(l *lab) {
		h := l.any(l.servers())
		l.lame(h, rule{loss: 1}, rule{})
		l.pause(8 * time.Second)
		l.heal(h)
	}},
	{"a node's host hears nothing", func(l *lab) {
		h := l.any(l.others())
		l.lame(h, rule{}, rule{loss: 1})
		l.pause(8 * time.Second)
		l.heal(h)
	}},
	{"a bad line", func(l *lab) {
		// Not a harm that excuses a death: it is slow, and it is there.
		h := l.any(l.hosts)
		l.t.Logf("%s: 2%% loss, 20 ms delay", h.name)
		for _, other := range l.hosts {
			if other != h {
				l.lan.set(link{h.port, other.port}, rule{loss: 0.02, delay: 20 * time.Millisecond})
				l.lan.set(link{other.port, h.port}, rule{loss: 0.02, delay: 20 * time.Millisecond})
			}
		}
		l.pause(10 * time.Second)
		l.heal()
	}},
	{"a machine is killed", func(l *lab) {
		h := l.any(l.hosts)
		l.mark(harmed, h, "SIGKILL")
		h.kill()
		l.pause(5 * time.Second)
		l.restart(h)
	}},
	{"a machine is stopped", func(l *lab) {
		h := l.any(l.hosts)
		l.mark(harmed, h, "SIGSTOP")
		h.signal(syscall.SIGSTOP)
		l.pause(7 * time.Second)
		h.signal(syscall.SIGCONT)
		l.mark(healed, h, "SIGCONT")
	}},
	{"a disk is full", func(l *lab) {
		h := l.any(l.servers())
		l.mark(harmed, h, "its disk is full")
		full := h.dir + "/full"
		h.run("sh", "-c", fmt.Sprintf("head -c %d /dev/zero >%s 2>/dev/null; true", disk, full))
		l.pause(8 * time.Second)
		h.run("rm", full)
		// nats-server does not write again after a failed write: it is started anew.
		h.kill()
		l.restart(h)
	}},
	{"all servers are killed at once", func(l *lab) {
		// What was acknowledged before must not be handled again after.
		l.quiet()
		l.settle(time.Minute)
		l.send(l.hosts...)
		l.pause(2 * time.Second)
		for _, h := range l.hosts { // clients are without a server, too
			l.mark(harmed, h, "SIGKILL of all servers")
		}
		for _, h := range l.servers() {
			h.signal(syscall.SIGKILL)
		}
		for _, h := range l.servers() {
			h.kill()
		}
		l.restart(l.servers()...)
		for _, h := range l.others() {
			l.mark(healed, h, "the servers are back")
		}
	}},
}

func TestHosts(t *testing.T) {
	l := newLab(t, 3, 3)
	l.pause(3 * time.Second)
	begin := time.Now()
	for round := 1; ; round++ {
		order := slices.Clone(faults)
		l.random.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, f := range order {
			t.Logf("%v: %s", time.Since(begin).Round(time.Second), f.name)
			f.run(l)
			l.converge()
			l.pause(time.Second)
		}
		if time.Since(begin) >= *long {
			break
		}
	}
	l.verdict()
}

// cutOff cuts a host off for a time, in which it must get to know that.
func (l *lab) cutOff(h *host) {
	from := l.now()
	l.cut(h)
	l.awaitSince(from, h.name+" to know that it is cut off", 15*time.Second, func(e entry) bool {
		return e.What == stale && e.Node == h.name
	})
	known := l.now()
	l.pause(5 * time.Second)
	more, _ := l.since(known)
	for _, e := range more {
		if e.What == stored && e.Node == h.name {
			l.t.Errorf("%s, cut off, was told that %s is stored", h.name, e.ID)
		}
	}
	l.heal(h)
}

func (l *lab) any(hosts []*host) *host { return hosts[l.random.IntN(len(hosts))] }

func (l *lab) others() []*host { return l.hosts[len(l.servers()):] }

// pause lets time go by: what happens meanwhile is in the history.
func (l *lab) pause(d time.Duration) { <-time.After(d) }

// restart starts machines again and waits until they have joined.
func (l *lab) restart(hosts ...*host) {
	from := l.now()
	for _, h := range hosts {
		h.start()
	}
	for _, h := range hosts {
		l.awaitSince(from, h.name+" to join again", time.Minute, func(e entry) bool { return e.What == begun && e.Node == h.name })
		l.mark(healed, h, "started again")
	}
	l.send(hosts...)
}

// isStale tells whether a machine's view is stale by its latest word.
func (l *lab) isStale(h *host) bool {
	all, _ := l.since(0)
	for _, e := range slices.Backward(all) {
		if e.Node == h.name && (e.What == stale || e.What == fresh || e.What == begun) {
			return e.What == stale
		}
	}
	return false
}

// converge waits until all see all.
func (l *lab) converge() {
	l.t.Helper()
	begin := time.Now()
	want := slices.Sorted(slices.Values(l.names()))
	for {
		var wrong []string
		for _, h := range l.hosts {
			if got := l.ask(h, "view", view).View; !slices.Equal(got, want) {
				wrong = append(wrong, fmt.Sprintf("%s sees %v", h.name, got))
			} else if l.isStale(h) {
				wrong = append(wrong, h.name+" takes its view for stale")
			}
		}
		if wrong == nil {
			l.t.Logf("all see all %v after the fault", time.Since(begin).Round(time.Millisecond))
			return
		}
		if time.Since(begin) > time.Minute {
			l.t.Fatalf("not all see all, a minute after the fault: %v", wrong)
		}
		l.pause(50 * time.Millisecond)
	}
}
