package routing

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/natstest"
	"github.com/catga/catga-go/internal/wire"
)

// upIn is up with a zone.
func upIn(id string, incarnation uint64, zone string, kinds ...string) Change {
	return Change{Kind: Up, Peer: Peer{ID: id, Incarnation: incarnation, Kinds: kinds, Metadata: map[string]string{"zone": zone, "x": "1"}}}
}

// zoned is a town of a, b, c, d in the zones 1, 1, 2 and none, which handle k
// by telling what they hear, and of a deaf node in zone 1.
func zoned(t *testing.T) (*town, chan string) {
	w := newTown(t)
	heard := make(chan string, 1000)
	for _, id := range []string{"a", "b", "c", "d"} {
		w.node(id, answering(func(_ context.Context, m *Msg[Raw]) (Raw, error) {
			heard <- id + string(m.Body.Data)
			return Raw{Data: []byte(id)}, nil
		}, "k"))
	}
	w.node("deaf", nil)
	w.open()
	w.tell(upIn("a", 1, "1", "k"), upIn("b", 2, "1", "k"), upIn("c", 3, "2", "k"), upIn("deaf", 5, "1"))
	return w, heard
}

// hear takes n of what was heard, sorted.
func hear(t *testing.T, heard <-chan string, n int) string {
	t.Helper()
	var got []string
	for range n {
		select {
		case s := <-heard:
			got = append(got, s)
		case <-t.Context().Done():
			t.Fatalf("heard only %v", got)
		}
	}
	slices.Sort(got)
	return strings.Join(got, " ")
}

func TestSendReachesWhomTheSelectorChooses(t *testing.T) {
	w, heard := zoned(t)
	a := w.nodes[0]
	for _, c := range []struct {
		to     Target
		want   string
		atMost bool
	}{
		{to: All(Where("zone=1")), want: "a b"},
		{to: All(Where("zone in (1,2)"), Where("zone!=1")), want: "c"},
		{to: Others(Where("zone")), want: "b c"},
		{to: All(Where("!zone")), want: "d"},
		{to: All(Where("")), want: "a b c d"},
		{to: Any(Where("zone=2")), want: "c"},
		{to: Any(Where("!zone")), want: "d"},
	} {
		for _, o := range []SendOptions{{}, {AtMostOnce: true}} {
			if err := a.Send(t.Context(), c.to, Raw{Name: "k"}, o); err != nil {
				t.Fatal(err)
			}
			// One for everybody tells that nobody else has heard it: each node takes
			// what reached it on the same way first.
			n := len(strings.Fields(c.want))
			if got := hear(t, heard, n); got != c.want {
				t.Errorf("%+v, %+v: heard by %s, want %s", c.to, o, got, c.want)
			}
			if err := a.Send(t.Context(), All(), Raw{Name: "k", Data: []byte("!")}, o); err != nil {
				t.Fatal(err)
			}
			if got := hear(t, heard, 4); got != "a! b! c! d!" {
				t.Errorf("%+v, %+v: heard by others, too: %s", c.to, o, got)
			}
		}
	}
	var work []string
	for range 4 {
		if err := a.Send(t.Context(), Any(Where("zone=1")), Raw{Name: "k"}, SendOptions{}); err != nil {
			t.Fatal(err)
		}
		work = append(work, hear(t, heard, 1))
	}
	if slices.Sort(work); strings.Join(work, " ") != "a a b b" {
		t.Errorf("in turn, the sender included: %v", work)
	}
}

func TestSelectorOfManyIsJudgedByTheReceiver(t *testing.T) {
	w, heard := zoned(t)
	a, b := w.nodes[0], w.nodes[1]
	b.Update([]Change{upIn("b", 2, "9", "k")}) // nobody else knows yet
	for _, o := range []SendOptions{{}, {AtMostOnce: true}} {
		if err := a.Send(t.Context(), All(Where("zone=9")), Raw{Name: "k"}, o); err != nil {
			t.Fatal(err)
		}
		if got := hear(t, heard, 1); got != "b" {
			t.Error(got)
		}
	}
	// A node that is buried for a while still is who it was.
	b.Update([]Change{left(up("b", 2))})
	if err := a.Send(t.Context(), All(Where("zone=9")), Raw{Name: "k"}, SendOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := hear(t, heard, 1); got != "b" {
		t.Error(got)
	}
}

func TestSelectorThatChoosesNobodyOrIsNone(t *testing.T) {
	w, _ := zoned(t)
	a := w.nodes[0]
	verbs := map[string]func(to One, kind string) error{
		"send": func(to One, kind string) error { return a.Send(t.Context(), to, Raw{Name: kind}, SendOptions{}) },
		"at most": func(to One, kind string) error {
			return a.Send(t.Context(), to, Raw{Name: kind}, SendOptions{AtMostOnce: true})
		},
		"call": func(to One, kind string) error {
			_, err := a.Call(t.Context(), to, Raw{Name: kind}, CallOptions{})
			return err
		},
	}
	for name, verb := range verbs {
		for _, c := range []struct {
			to   One
			kind string
			is   error
		}{
			{Any(Where("zone=9")), "k", ErrNoMember},
			{Any(Where("zone=1")), "other", ErrNoHandler},
			{Any(Where("zone in 1")), "k", ErrSelector},
			{Any(Where("zone=1"), Where("=")), "k", ErrSelector},
		} {
			if err := verb(c.to, c.kind); !errors.Is(err, ErrNotDelivered) || !errors.Is(err, c.is) {
				t.Errorf("%s to %+v: %v", name, c.to, err)
			}
		}
	}
	for _, to := range []Target{All(Where("a b")), Others(Where("a b"))} {
		for _, o := range []SendOptions{{}, {AtMostOnce: true}} {
			if err := a.Send(t.Context(), to, Raw{Name: "k"}, o); !errors.Is(err, ErrNotDelivered) || !errors.Is(err, ErrSelector) {
				t.Error(err)
			}
		}
		if err := a.Send(t.Context(), All(Where("zone=9")), Raw{Name: "k"}, SendOptions{AtMostOnce: true}); err != nil {
			t.Error("many may be none:", err)
		}
	}
}

func TestCallGoesToWhomTheSelectorChooses(t *testing.T) {
	w, _ := zoned(t)
	a := w.nodes[0]
	count := map[string]int{}
	for range 4 {
		got, err := a.Call(t.Context(), Any(Where("zone"), Where("zone!=9")), Raw{Name: "k"}, CallOptions{})
		if err != nil {
			t.Fatal(err)
		}
		count[string(got.Data)]++
	}
	if fmt.Sprint(count) != "map[b:2 c:2]" {
		t.Error("in turn, local last:", count)
	}
	// Nobody is at these two; then only a is left of those that are meant.
	w.tell(upIn("e", 9, "7", "k"), upIn("f", 9, "7", "k"), upIn("a", 1, "7", "k"))
	got, err := a.Call(t.Context(), Any(Where("zone=7")), Raw{Name: "k"}, CallOptions{})
	if err != nil || string(got.Data) != "a" {
		t.Error(got, err)
	}
}

func TestIDIsScopedToTheSelector(t *testing.T) {
	w, heard := zoned(t)
	a, b := w.nodes[0], w.nodes[1]
	for _, c := range []struct {
		to   Target
		want error
	}{
		{Any(), nil},
		{Any(Where("zone=1")), nil},
		{Any(Where("zone in (1)")), ErrDuplicate}, // says the same
		{Any(Where("zone")), nil},
		{All(), nil},
		{All(Where("zone=1")), nil},
		{All(Where("zone=2")), nil},
		{Others(Where("zone=2")), nil},
	} {
		if err := a.Send(t.Context(), c.to, Raw{Name: "k"}, SendOptions{ID: "7"}); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v", c.to, err)
		}
		if err := b.Send(t.Context(), c.to, Raw{Name: "k"}, SendOptions{ID: "7"}); !errors.Is(err, ErrDuplicate) {
			t.Errorf("again to %+v: %v", c.to, err)
		}
	}
	// One each of Any, 4 of All, 2 of All in zone 1, one each of the rest.
	hear(t, heard, 1+1+1+4+2+1+1)
}

// TestSelectorOfAForeignProgram: one that nobody can read ends the message for
// everybody who would run it.
func TestSelectorOfAForeignProgram(t *testing.T) {
	w, heard := zoned(t)
	a := w.nodes[0]
	nc := w.conn()
	ask := func(subject, selector string) (Raw, error) {
		m, err := nc.RequestMsgWithContext(t.Context(), &nats.Msg{Subject: subject, Header: nats.Header{wire.HeaderSelect: {selector}}})
		if err != nil {
			t.Fatal(err)
		}
		return decodeAnswer(m, "a", "k")
	}
	_, err := ask("catga.c.call.node.a.k", "zone in 1")
	if he, ok := errors.AsType[*HandlerError](err); !ok || he.Code != codeBadRequest || !strings.Contains(he.Message, "character 9") {
		t.Error(err)
	}
	if got, err := ask("catga.c.call.all.k", "zone=2"); err != nil || string(got.Data) != "c" {
		t.Error(got, err)
	}
	hear(t, heard, 1)
	if _, err := a.js.PublishMsg(t.Context(), &nats.Msg{Subject: "catga.c.all.k", Header: nats.Header{wire.HeaderSelect: {"zone in 1"}}}); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, "a dead letter of each node", func() bool {
		n := 0
		for l, err := range a.DeadLetters().List(t.Context(), "k") {
			if err == nil && strings.Contains(l.Reason, "bad selector") {
				n++
			}
		}
		return n == 4
	})
	if len(heard) > 0 {
		t.Error("it ran:", <-heard)
	}
}

// TestReplayOfSelectedWork: a letter of work for any such node goes to one that
// is there, a letter of a message to many to the node where it ended.
func TestReplayOfSelectedWork(t *testing.T) {
	w := newTown(t)
	heard := make(chan string, 10)
	var fail atomic.Bool
	fail.Store(true)
	for _, id := range []string{"a", "b"} {
		w.node(id, answering(func(_ context.Context, m *Msg[Raw]) (Raw, error) {
			if fail.Load() {
				return Raw{}, Permanent(errors.New("no"))
			}
			heard <- id + " " + m.Header.Get(wire.HeaderSelect)
			return Raw{}, nil
		}, "k"))
	}
	a := w.open()
	w.tell(upIn("b", 2, "1", "k"))
	for _, to := range []Target{Any(Where("zone=1")), All(Where("zone=1"))} {
		if err := a.Send(t.Context(), to, Raw{Name: "k"}, SendOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	letters := map[string]uint64{}
	natstest.Eventually(t, "two dead letters", func() bool {
		for l, err := range a.DeadLetters().List(t.Context(), "k") {
			if err == nil {
				letters[l.Subject] = l.Seq
			}
		}
		return len(letters) == 2
	})
	fail.Store(false)
	w.tell(upIn("a", 1, "1", "k"), upIn("b", 2, "2", "k"))
	for subject, want := range map[string]string{"catga.c.node.b.k": "a zone=1", "catga.c.all.k": "b "} {
		if err := a.DeadLetters().Replay(t.Context(), letters[subject]); err != nil {
			t.Fatal(subject, err)
		}
		if got := hear(t, heard, 1); got != want {
			t.Errorf("%s: %q, want %q", subject, got, want)
		}
	}
}
