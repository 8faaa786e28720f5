package hosts

import (
	"io"
	"math/rand/v2"
	"sync"
	"time"
)

// lan is an Ethernet switch. Each port is a device that reads and writes whole
// frames; the switch learns which address is behind which port.
type lan struct {
	mu     sync.Mutex
	closed bool
	ports  []io.ReadWriteCloser
	links  map[link]*queue
	rules  map[link]rule
	where  map[mac]int
	random *rand.Rand
	wg     sync.WaitGroup
}

type mac [6]byte

// link is one direction between two ports.
type link struct{ from, to int }

// rule is what a link does to frames. The zero rule delivers them at once.
type rule struct {
	// loss is the share of frames that are dropped: 1 is a cut cable.
	loss float64
	// delay is how long each of the others is held back; their order is kept.
	delay time.Duration
}

// maxQueue is how many frames a link holds; the next ones are dropped, as a
// switch does that is out of buffers.
const maxQueue = 4096

func newLAN(seed uint64) *lan {
	return &lan{
		links: map[link]*queue{}, rules: map[link]rule{}, where: map[mac]int{},
		random: rand.New(rand.NewPCG(seed, 1)),
	}
}

// plug adds a device and returns the number of its port.
func (l *lan) plug(device io.ReadWriteCloser) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	port := len(l.ports)
	l.ports = append(l.ports, device)
	for other := range port {
		l.connect(link{other, port})
		l.connect(link{port, other})
	}
	l.wg.Go(func() { l.read(port, device) })
	return port
}

func (l *lan) connect(k link) {
	q := &queue{frames: make(chan held, maxQueue)}
	l.links[k] = q
	device := l.ports[k.to]
	l.wg.Go(func() {
		for f := range q.frames {
			if wait := time.Until(f.due); wait > 0 {
				<-time.After(wait)
			}
			// A device that is down or gone loses frames.
			_, _ = device.Write(f.frame)
		}
	})
}

// queue holds the frames of a link until they are due.
type queue struct{ frames chan held }

type held struct {
	frame []byte
	due   time.Time
}

// set gives a link its rule.
func (l *lan) set(k link, r rule) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rules[k] = r
}

// heal gives all links the zero rule.
func (l *lan) heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.rules)
}

func (l *lan) read(port int, device io.Reader) {
	buf := make([]byte, 1<<16)
	for {
		n, err := device.Read(buf)
		if err != nil {
			return
		}
		if n >= 14 { // an Ethernet header
			l.forward(port, append([]byte(nil), buf[:n]...))
		}
	}
}

// forward passes a frame to the port of its receiver, or to all others where
// it is not known.
func (l *lan) forward(from int, frame []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.where[mac(frame[6:12])] = from
	if to, ok := l.where[mac(frame[:6])]; ok {
		if to != from {
			l.pass(link{from, to}, frame)
		}
		return
	}
	for to := range l.ports {
		if to != from {
			l.pass(link{from, to}, frame)
		}
	}
}

func (l *lan) pass(k link, frame []byte) {
	r := l.rules[k]
	if r.loss >= 1 || r.loss > 0 && l.random.Float64() < r.loss {
		return
	}
	select {
	case l.links[k].frames <- held{frame, time.Now().Add(r.delay)}:
	default:
	}
}

// close unplugs everything and waits for what runs.
func (l *lan) close() {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return
	}
	l.closed = true
	for _, q := range l.links {
		close(q.frames)
	}
	ports := l.ports
	l.mu.Unlock()
	for _, device := range ports {
		_ = device.Close()
	}
	l.wg.Wait()
}
