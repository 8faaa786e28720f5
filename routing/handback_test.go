package routing

import (
	"slices"
	"testing"
	"time"

	"github.com/catga/catga-go/internal/natstest"
)

func TestWhoHearsOfAHandBack(t *testing.T) {
	now := time.Now()
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for _, c := range []struct {
		name  string
		back  handBack
		since time.Time
		named bool
	}{
		{"not confirmed", handBack{until: ago(3 * time.Second)}, ago(20 * time.Millisecond), true},
		{"confirmed after the question to the server", handBack{confirmed: ago(10 * time.Millisecond)}, ago(20 * time.Millisecond), true},
		{"confirmed in that moment", handBack{confirmed: ago(20 * time.Millisecond)}, ago(20 * time.Millisecond), true},
		{"confirmed before it", handBack{confirmed: ago(30 * time.Millisecond)}, ago(20 * time.Millisecond), false},
		{"still to come", handBack{delayed: true, until: ago(-time.Second)}, ago(20 * time.Millisecond), true},
		{"come a moment ago", handBack{delayed: true, until: ago(500 * time.Millisecond)}, ago(20 * time.Millisecond), true},
		{"come long ago", handBack{delayed: true, until: ago(2 * time.Second)}, ago(20 * time.Millisecond), false},
	} {
		if got := c.back.named(c.since); got != c.named {
			t.Errorf("%s: named %v, want %v", c.name, got, c.named)
		}
	}
}

// What was handed back, and was with the server before somebody asked it how far
// the consumer is, is not this node's any more: it moves at once when the one who
// took it is lost.
func TestHandBackIsNamedAsLongAsItMayBeOnItsWay(t *testing.T) {
	w, h, n1, stranger := twoBusy(t)
	m := steal(t, stranger)
	ack, err := parseAck(m.Reply)
	if err != nil {
		t.Fatal(err)
	}
	p := n1.durable.work["work"]
	d := &delivery{p: p, kind: n1.kinds["work"], life: n1.life.Load(), msg: m, ack: ack}
	if !p.take(d) {
		t.Fatal("not taken")
	}
	names := func(within time.Duration) bool {
		return slices.Contains(p.inHand(time.Now().Add(-within)), ack.seq)
	}
	if !names(0) {
		t.Error("it is in hand, and not named")
	}
	begin := time.Now()
	d.finish(ackNak)
	steal(t, stranger) // who is lost with it
	natstest.Eventually(t, "the hand-back is confirmed", func() bool { return !names(0) })
	if named := names(backKept - time.Second); !named && time.Since(begin) < backKept-2*time.Second {
		t.Error("not named to somebody who asked the server before it was confirmed")
	}
	h.goOn["n2"] <- struct{}{} // which orders again
	n1.releaseWork("work")
	if got := h.expect(t); got != "n2 third" {
		t.Error(got)
	}
	for _, id := range []string{"n1", "n2"} {
		h.goOn[id] <- struct{}{}
	}
	w.idle()
	h.once(t)
}
