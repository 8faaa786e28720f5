package opening

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const most = 2 * time.Second

func TestLimits(t *testing.T) {
	var l Limits
	of := func(addr string, want time.Duration) {
		t.Helper()
		if got := l.Of(addr, most); got != want {
			t.Errorf("the limit of %s is %v, want %v", addr, got, want)
		}
	}
	// There is no other one.
	of("a", most)
	of("a", most)
	of("b", Shortest)
	of("b", 2*Shortest)
	of("b", 4*Shortest)
	of("c", Shortest)
	l.greeted(time.Millisecond)
	for range 20 {
		l.Of("b", most)
	}
	of("b", most)
	of("a", Shortest)
	// Greetings take long here.
	l.greeted(Shortest)
	of("b", slack*Shortest)
	of("b", 2*slack*Shortest)
	l.greeted(most)
	of("b", most)
}

// silent is a server that takes connections and says nothing until told.
func silent(t *testing.T) (addr string, say chan string) {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	say, done := make(chan string), make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := lis.Accept()
			if err != nil {
				return
			}
			for text := range say {
				_, _ = c.Write([]byte(text))
			}
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = lis.Close(); <-done })
	return lis.Addr().String(), say
}

func TestGuardEndsASilentAttempt(t *testing.T) {
	addr, say := silent(t)
	defer close(say)
	d := &Dialer{Timeout: most}
	d.limits.Of("another", most)
	begin := time.Now()
	c, err := d.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// As nats.go does, for the whole of an attempt.
	if err := c.SetDeadline(begin.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	_, err = c.Read(make([]byte, 10))
	if took := time.Since(begin); !errors.Is(err, os.ErrDeadlineExceeded) || took < d.AttemptLimit() {
		t.Errorf("%v after %v", err, took)
	}
}

func TestGuardIsOverWithTheGreeting(t *testing.T) {
	addr, say := silent(t)
	defer close(say)
	d := &Dialer{Timeout: time.Minute}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	read := func(want string) {
		t.Helper()
		say <- want
		buf := make([]byte, 10)
		if n, err := c.Read(buf); err != nil || string(buf[:n]) != want {
			t.Fatalf("read %q, %v", buf[:n], err)
		}
	}
	read("hello")
	// What counts from now on is what is set from now on.
	if err := c.SetDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 10)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after a deadline: %v", err)
	}
	if err := c.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	read("there")
	if n := d.limits.tried[addr]; n != 0 {
		t.Errorf("%d attempts in vain", n)
	}
}

func TestDeadlineBeforeTheGreetingHolds(t *testing.T) {
	addr, say := silent(t)
	defer close(say)
	c, err := (&Dialer{Timeout: time.Minute}).Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 10)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}
