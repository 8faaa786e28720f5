package routing

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/catga/catga-go/internal/natstest"
)

// lateness is how much later than asked a delayed message may come on a busy
// machine.
const lateness = 15 * time.Second

// onServers runs a test on one server and on three, which restart kills and
// starts again.
func onServers(t *testing.T, test func(t *testing.T, url string, restart func())) {
	t.Run("one", func(t *testing.T) {
		s := natstest.Start(t)
		test(t, s.URL(), func() {
			s.Kill()
			s.Restart(t)
		})
	})
	t.Run("three", func(t *testing.T) {
		if testing.Short() {
			t.Skip("short: one server only")
		}
		c := natstest.StartCluster(t, 3)
		test(t, c.URL(), func() {
			for _, s := range c.Servers {
				s.Kill()
			}
			for _, s := range c.Servers {
				s.RestartNoWait(t)
			}
			for _, s := range c.Servers {
				s.WaitReady(t)
			}
		})
	})
}

// A delayed message comes when its time has come, also if all servers were
// killed in between: one that was due meanwhile, and one that is due later.
func TestDelayedMessageArrivesWhenItsTimeHasCome(t *testing.T) {
	onServers(t, func(t *testing.T, url string, restart func()) {
		w := &town{t: t}
		box := newInbox(t)
		a := w.nodeOn(natstest.Dial(t, url), Config{Cluster: "c", Node: "a"}, nil)
		w.nodeOn(natstest.Dial(t, url), Config{Cluster: "c", Node: "b"}, handling(box.handle, "work"))
		w.open()
		if err := a.Send(t.Context(), Any(), text("work", "0"), SendOptions{At: time.Now().Add(-time.Hour)}); err != nil {
			t.Fatal(err)
		}
		if m := box.next(); string(m.Body.Data) != "0" {
			t.Errorf("%s, want what is due at once", m.Body.Data)
		}
		w.idle()
		begin := time.Now()
		due := map[string]time.Duration{"1": 2 * time.Second, "2": 2500 * time.Millisecond, "3": 2500 * time.Millisecond, "4": 12 * time.Second}
		for body, to := range map[string]Target{"1": To("b"), "2": Any(), "3": Any(Where("!canary")), "4": Any()} {
			if err := a.Send(t.Context(), to, text("work", body), SendOptions{At: begin.Add(due[body]), ID: "id-" + body}); err != nil {
				t.Fatal(err)
			}
		}
		restart()
		for range due {
			m := box.next()
			body, at := string(m.Body.Data), time.Since(begin)
			if want := due[body]; at < want || at > want+lateness {
				t.Errorf("%s comes after %v, want %v", body, at, want)
			}
			if m.ID != "id-"+body || m.From != "a" || m.Attempt != 1 {
				t.Errorf("%s: id %q, from %q, attempt %d", body, m.ID, m.From, m.Attempt)
			}
			t.Logf("%s due after %v came after %v", body, due[body], at)
		}
		w.idle()
		box.nothing()
	})
}

// A delayed message with an id is stored once while it waits, and taken back by
// its id, by any node, whatever its kind and target. Then it may be sent again.
func TestDelayedMessageIsTakenBack(t *testing.T) {
	onServers(t, func(t *testing.T, url string, restart func()) {
		w := &town{t: t}
		box := newInbox(t)
		a := w.nodeOn(natstest.Dial(t, url), Config{Cluster: "c", Node: "a"}, handling(box.handle, "work", "play"))
		b := w.nodeOn(natstest.Dial(t, url), Config{Cluster: "c", Node: "b"}, nil)
		w.open()
		at := time.Now().Add(10 * time.Second)
		send := func(r *Router, to Target, kind, body string) error {
			return r.Send(t.Context(), to, text(kind, body), SendOptions{At: at, ID: "mine"})
		}
		if err := errors.Join(send(a, Any(), "work", "x"), send(b, Any(), "play", "x"), send(a, To("a"), "work", "x")); err != nil {
			t.Fatal(err)
		}
		if err := send(b, Any(), "work", "x"); !errors.Is(err, ErrDuplicate) {
			t.Errorf("the second: %v, want ErrDuplicate", err)
		}
		if err := a.Send(t.Context(), Any(), text("work", "other"), SendOptions{At: at, ID: "other"}); err != nil {
			t.Fatal(err)
		}
		if err := b.Cancel(t.Context(), "mine"); err != nil {
			t.Fatal(err)
		}
		if err := a.Cancel(t.Context(), "mine"); !errors.Is(err, ErrNotDelayed) {
			t.Errorf("the second cancel: %v, want ErrNotDelayed", err)
		}
		restart()
		if err := send(b, Any(), "work", "again"); err != nil {
			t.Errorf("after the cancel: %v", err)
		}
		got := map[string]bool{string(box.next().Body.Data): true, string(box.next().Body.Data): true}
		if !got["again"] || !got["other"] {
			t.Errorf("%v came, want again and other", got)
		}
		w.idle()
		box.nothing()
		if err := a.Cancel(t.Context(), "other"); !errors.Is(err, ErrNotDelayed) {
			t.Errorf("what was handed out: %v, want ErrNotDelayed", err)
		}
	})
}

// What cannot be delayed is refused, and nothing is stored.
func TestWhatCannotBeDelayed(t *testing.T) {
	w := newTown(t)
	box := newInbox(t)
	w.node("a", handling(box.handle, "work"))
	a := w.open()
	later := SendOptions{At: time.Now().Add(time.Second)}
	cast := later
	cast.AtMostOnce = true
	for what, err := range map[string]error{
		"many":         a.Send(t.Context(), All(), text("work", ""), later),
		"some":         a.Send(t.Context(), Nodes("a"), text("work", ""), later),
		"at most once": a.Send(t.Context(), To("a"), text("work", ""), cast),
		"nobody":       a.Send(t.Context(), To("nobody"), text("work", ""), later),
		"nothing":      a.Send(t.Context(), Any(), text("nothing", ""), later),
	} {
		if !errors.Is(err, ErrNotDelivered) {
			t.Errorf("%s: %v, want ErrNotDelivered", what, err)
		}
	}
	w.idle()
	if err := a.Cancel(t.Context(), ""); err == nil {
		t.Error("an empty id is cancelled")
	}
}

// A work stream that an older server made takes no delayed messages when the
// server is newer.
func TestStreamWithoutSchedulesIsSaidSo(t *testing.T) {
	w := newTown(t)
	box := newInbox(t)
	w.node("a", handling(box.handle, "work"))
	old := w.nodes[0].workStream()
	old.AllowMsgSchedules, old.Storage = false, jetstream.MemoryStorage
	if _, err := w.nodes[0].js.CreateStream(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	a := w.open()
	err := a.Send(t.Context(), Any(), text("work", ""), SendOptions{At: time.Now().Add(time.Hour)})
	if !errors.Is(err, ErrNotDelivered) || !strings.Contains(fmt.Sprint(err), "nats stream edit") {
		t.Errorf("%v, want what mends it", err)
	}
}

// A delayed message to a node that is forgotten when its time comes is a dead
// letter; one whose mail goes to others goes there.
func TestDelayedMessageOfANodeThatIsGone(t *testing.T) {
	w := newTown(t)
	box := newInbox(t)
	w.node("a", handling(box.handle, "work"))
	a := w.open()
	gone := w.lostNode(w.conn(), "dead-letter", "work")
	if err := a.Send(t.Context(), To("gone"), text("work", "x"), SendOptions{At: time.Now().Add(time.Second), ID: "mine"}); err != nil {
		t.Fatal(err)
	}
	w.tell(lost(gone))
	natstest.Eventually(t, "a dead letter", func() bool {
		if err := a.sweep(t.Context(), false); err != nil {
			t.Error(err)
		}
		return len(letters(t, a, "work")) == 1
	})
	letter := letters(t, a, "work")[0]
	if letter.ID != "mine" || letter.From != "a" || letter.Node != "gone" {
		t.Errorf("%+v", letter)
	}
	for name := range letter.Header {
		if strings.HasPrefix(name, "Nats-Schedule") {
			t.Errorf("the letter has %s", name)
		}
	}
}

// A user without the permission is told so.
func TestCancelWithoutPermission(t *testing.T) {
	s := natstest.Start(t, natstest.ConfigText(`authorization: {users: [
		{user: all, password: x}
		{user: some, password: x, permissions: {publish: {deny: ["$JS.API.STREAM.PURGE.>"]}}}
	]}`))
	w := &town{t: t}
	a := w.nodeOn(natstest.Dial(t, s.URL(), nats.UserInfo("some", "x")), Config{Cluster: "c", Node: "a"}, nil)
	w.open()
	if err := a.Cancel(t.Context(), "mine"); err == nil || !strings.Contains(err.Error(), "STREAM.PURGE") {
		t.Errorf("%v, want the permission", err)
	}
}
