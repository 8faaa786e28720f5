//go:build hosts && linux

package hosts

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	keep = flag.String("history", "", "a file for the history, one JSON object per line")
	seed = flag.Uint64("seed", 0, "of the faults; 0 = one by the clock, which is printed")
)

// lab is a network of hosts, and the history of what happens in it.
type lab struct {
	t      *testing.T
	lan    *lan
	hosts  []*host
	random *rand.Rand
	wg     sync.WaitGroup

	mu      sync.Mutex
	history []entry
	changed chan struct{} // closed and replaced with each entry
	boots   map[string]int
	logs    map[string]*bytes.Buffer
}

func newLab(t *testing.T, servers, nodes int) *lab {
	t.Helper()
	s := *seed
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d: repeat with -seed %d", s, s)
	l := &lab{
		t: t, lan: newLAN(s), random: rand.New(rand.NewPCG(s, 2)),
		changed: make(chan struct{}), boots: map[string]int{}, logs: map[string]*bytes.Buffer{},
	}
	t.Cleanup(l.lan.close)
	for n := range servers {
		l.addHost(fmt.Sprintf("s%d", n+1))
	}
	for n := range nodes {
		l.addHost(fmt.Sprintf("n%d", n+1))
	}
	t.Cleanup(func() {
		for _, h := range l.hosts {
			h.kill()
		}
		l.wg.Wait()
		if t.Failed() {
			for _, h := range l.hosts {
				t.Logf("what %s logged at last:\n%s", h.name, l.tail(h.name))
			}
		}
	})
	for _, h := range l.hosts {
		h.start()
	}
	for _, h := range l.hosts {
		l.await(h.name+" to join", time.Minute, func(e entry) bool { return e.What == begun && e.Node == h.name })
	}
	l.send(l.hosts...)
	return l
}

func (l *lab) names() (names []string) {
	for _, h := range l.hosts {
		names = append(names, h.name)
	}
	return names
}

func (l *lab) host(name string) *host {
	i := slices.IndexFunc(l.hosts, func(h *host) bool { return h.name == name })
	return l.hosts[i]
}

func (l *lab) servers() []*host {
	return l.hosts[:slices.IndexFunc(l.hosts, func(h *host) bool { return !h.isServer() })]
}

func (l *lab) serverIPs() (ips []string) {
	for n := range 3 {
		ips = append(ips, fmt.Sprintf("10.77.0.%d", n+1))
	}
	return ips
}

func (l *lab) boot(name string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.boots[name]++
	return l.boots[name]
}

// add writes into the history.
func (l *lab) add(e entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.history = append(l.history, e)
	close(l.changed)
	l.changed = make(chan struct{})
}

// mark writes what the test does to a host.
func (l *lab) mark(w what, h *host, text string) {
	l.t.Logf("%s %s: %s", w, h.name, text)
	l.add(entry{At: time.Now(), What: w, Node: h.name, Text: text})
}

// since returns the history from entry n on, and what is closed when there is more.
func (l *lab) since(n int) ([]entry, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.history[n:len(l.history):len(l.history)], l.changed
}

func (l *lab) now() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.history)
}

// await waits for an entry, at any time since the beginning.
func (l *lab) await(what string, limit time.Duration, ok func(entry) bool) entry {
	l.t.Helper()
	return l.awaitSince(0, what, limit, ok)
}

// awaitSince waits for an entry after the first from ones.
func (l *lab) awaitSince(from int, what string, limit time.Duration, ok func(entry) bool) entry {
	l.t.Helper()
	timeout := time.After(limit)
	for {
		more, changed := l.since(from)
		if i := slices.IndexFunc(more, ok); i >= 0 {
			return more[i]
		}
		from += len(more)
		select {
		case <-changed:
		case <-timeout:
			l.t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// ask gives a machine an order and waits for its answer.
func (l *lab) ask(h *host, order string, answer what) entry {
	l.t.Helper()
	from := l.now()
	h.tell(order)
	return l.awaitSince(from, fmt.Sprintf("%s to answer %q", h.name, order), 2*time.Minute, func(e entry) bool {
		return e.What == answer && e.Node == h.name
	})
}

// cut drops everything between h and all others.
func (l *lab) cut(h *host) {
	l.mark(harmed, h, "cut off")
	for _, other := range l.hosts {
		if other != h {
			l.lan.set(link{h.port, other.port}, rule{loss: 1})
			l.lan.set(link{other.port, h.port}, rule{loss: 1})
		}
	}
}

// lame drops a share of what h sends, or of what it is sent, and holds back the rest.
func (l *lab) lame(h *host, outward, inward rule) {
	l.mark(harmed, h, fmt.Sprintf("sends with loss %v and delay %v, gets with loss %v and delay %v", outward.loss, outward.delay, inward.loss, inward.delay))
	for _, other := range l.hosts {
		if other != h {
			l.lan.set(link{h.port, other.port}, outward)
			l.lan.set(link{other.port, h.port}, inward)
		}
	}
}

// heal ends all that was done to the network.
func (l *lab) heal(hosts ...*host) {
	l.lan.heal()
	for _, h := range hosts {
		l.mark(healed, h, "the network is whole")
	}
}

// settle waits until all views are the same and true, and all that was stored
// is handled and its ack confirmed by the servers. From there on nothing of it
// may be handled again.
func (l *lab) settle(limit time.Duration) {
	l.t.Helper()
	begin := time.Now()
	want := slices.Sorted(slices.Values(l.names()))
	for {
		agree := true
		for _, h := range l.hosts {
			if got := l.ask(h, "view", view).View; !slices.Equal(got, want) {
				agree = false
			}
		}
		rest := l.ask(l.host("n1"), "left", "remaining").Text
		if agree && rest == "" {
			break
		}
		if time.Since(begin) > limit {
			l.t.Fatalf("not settled within %v: views agree: %v; remaining: %s", limit, agree, rest)
		}
	}
	l.t.Logf("settled after %v", time.Since(begin).Round(time.Millisecond))
	more, _ := l.since(0)
	done := map[string]bool{}
	for _, e := range more {
		if e.What == confirmed {
			done[e.ID+"/"+e.Node] = true
		}
	}
	for _, e := range more {
		if e.What == handled && !done[e.ID+"/"+e.Node] {
			done[e.ID+"/"+e.Node] = true
			l.add(entry{At: time.Now(), What: confirmed, Node: e.Node, ID: e.ID, Text: "nothing is left at the servers"})
		}
	}
}

// quiet stops all sending.
func (l *lab) quiet() {
	for _, h := range l.hosts {
		l.ask(h, "quiet", "quiet")
	}
}

// send lets machines send. What is sent to all is for those who have joined before.
func (l *lab) send(hosts ...*host) {
	for _, h := range hosts {
		l.ask(h, "send", "sending")
	}
}

// verdict ends a scenario: everything settles, and the history is checked.
func (l *lab) verdict() {
	l.t.Helper()
	l.quiet()
	l.settle(2 * time.Minute)
	l.ask(l.host("n1"), "dead", "counted")
	more, _ := l.since(0)
	counts := map[what]int{}
	for _, e := range more {
		counts[e.What]++
	}
	l.t.Logf("history: %v", counts)
	if *keep != "" {
		l.save(*keep, more)
	}
	for _, wrong := range check(more, l.names()) {
		l.t.Error(wrong)
	}
	if counts[stored] < 100 {
		l.t.Errorf("only %d messages were stored: the run shows nothing", counts[stored])
	}
}

func (l *lab) save(name string, history []entry) {
	l.t.Helper()
	var b bytes.Buffer
	lines := json.NewEncoder(&b)
	for _, e := range history {
		if err := lines.Encode(e); err != nil {
			l.t.Fatal(err)
		}
	}
	if err := os.WriteFile(name, b.Bytes(), 0o600); err != nil {
		l.t.Fatal(err)
	}
}

// stderr keeps the last of what a machine logs.
func (l *lab) stderr(name string) io.Writer {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.logs[name] == nil {
		l.logs[name] = &bytes.Buffer{}
	}
	return &logWriter{l, l.logs[name]}
}

type logWriter struct {
	l   *lab
	buf *bytes.Buffer
}

func (w *logWriter) Write(p []byte) (int, error) {
	w.l.mu.Lock()
	defer w.l.mu.Unlock()
	return w.buf.Write(p)
}

func (l *lab) tail(name string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	buf := l.logs[name]
	if buf == nil {
		return ""
	}
	lines := strings.Split(buf.String(), "\n")
	return strings.Join(lines[max(0, len(lines)-60):], "\n")
}
