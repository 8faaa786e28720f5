package hosts

import (
	"io"
	"slices"
	"testing"
	"time"
)

// cable is a device whose frames a test writes and reads.
type cable struct {
	in   chan []byte
	out  chan []byte
	gone chan struct{}
}

func newCable() *cable {
	return &cable{in: make(chan []byte), out: make(chan []byte, 64), gone: make(chan struct{})}
}

func (c *cable) Read(p []byte) (int, error) {
	select {
	case frame := <-c.in:
		return copy(p, frame), nil
	case <-c.gone:
		return 0, io.EOF
	}
}

func (c *cable) Write(p []byte) (int, error) {
	select {
	case c.out <- slices.Clone(p):
	case <-c.gone:
	}
	return len(p), nil
}

func (c *cable) Close() error {
	close(c.gone)
	return nil
}

func frame(to, from, body byte) []byte {
	f := make([]byte, 15)
	f[5], f[11], f[14] = to, from, body
	return f
}

const broadcast = 0xff

func newTestLAN(t *testing.T) (l *lan, a, b, c *cable) {
	l = newLAN(1)
	t.Cleanup(l.close)
	a, b, c = newCable(), newCable(), newCable()
	for _, device := range []*cable{a, b, c} {
		l.plug(device)
	}
	// Everybody is heard once, so that their ports are known.
	for i, device := range []*cable{a, b, c} {
		device.in <- frame(broadcast, byte(i+1), 0)
		for _, other := range []*cable{a, b, c} {
			if other != device {
				<-other.out
			}
		}
	}
	return l, a, b, c
}

func silent(t *testing.T, devices ...*cable) {
	t.Helper()
	for _, d := range devices {
		select {
		case f := <-d.out:
			t.Errorf("got %v", f)
		default:
		}
	}
}

func TestFramesGoToTheirReceiver(t *testing.T) {
	_, a, b, c := newTestLAN(t)
	a.in <- frame(2, 1, 7)
	if f := <-b.out; f[14] != 7 {
		t.Errorf("got %v", f)
	}
	silent(t, a, c)
}

func TestCutInOneDirection(t *testing.T) {
	l, a, b, c := newTestLAN(t)
	l.set(link{0, 1}, rule{loss: 1})
	a.in <- frame(2, 1, 7) // lost
	a.in <- frame(3, 1, 8)
	<-c.out
	b.in <- frame(1, 2, 9)
	if f := <-a.out; f[14] != 9 {
		t.Errorf("got %v", f)
	}
	silent(t, b)
	l.heal()
	a.in <- frame(2, 1, 10)
	if f := <-b.out; f[14] != 10 {
		t.Errorf("after healing: %v", f)
	}
}

func TestDelayKeepsTheOrder(t *testing.T) {
	l, a, b, _ := newTestLAN(t)
	const delay = 30 * time.Millisecond
	l.set(link{0, 1}, rule{delay: delay})
	begin := time.Now()
	for n := range byte(10) {
		a.in <- frame(2, 1, n)
	}
	for n := range byte(10) {
		if f := <-b.out; f[14] != n {
			t.Fatalf("frame %d came as number %d", f[14], n)
		}
	}
	if took := time.Since(begin); took < delay {
		t.Errorf("held back for %v only", took)
	}
}

func TestLossIsAShare(t *testing.T) {
	l, a, b, _ := newTestLAN(t)
	l.set(link{0, 1}, rule{loss: 0.5})
	for range 1000 {
		a.in <- frame(2, 1, 1)
	}
	l.set(link{0, 1}, rule{})
	a.in <- frame(2, 1, 2)
	got := 0
	for f := range b.out {
		if f[14] == 2 {
			break
		}
		got++
	}
	if got < 300 || got > 700 {
		t.Errorf("%d of 1,000 came through", got)
	}
}
