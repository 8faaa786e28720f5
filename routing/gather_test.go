package routing

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/natstest"
	"github.com/catga/catga-go/internal/wire"
)

// pair is what a Gather yielded, and when.
type pair struct {
	node, body string
	err        error
	at         time.Duration
}

// gather collects all pairs, by the order of their nodes.
func gather(ctx context.Context, r *Router, to Many, m Raw) []pair {
	start := time.Now()
	var got []pair
	for a, err := range r.Gather(ctx, to, m, GatherOptions{}) {
		got = append(got, pair{a.Node, string(a.Body.Data), err, time.Since(start)})
	}
	slices.SortStableFunc(got, func(a, b pair) int { return strings.Compare(a.node, b.node) })
	return got
}

// bodies are the answers of a gather that all answered.
func bodies(t *testing.T, got []pair) string {
	t.Helper()
	var all []string
	for _, p := range got {
		if p.err != nil || p.body != p.node {
			t.Errorf("%+v", p)
		}
		all = append(all, p.node)
	}
	return strings.Join(all, " ")
}

func TestGatherAsksAllWhoAreMeant(t *testing.T) {
	w, heard := zoned(t)
	a, deaf := w.nodes[0], w.nodes[4]
	for _, c := range []struct {
		from *Router
		to   Many
		want string
	}{
		{a, All(), "a b c d"},
		{a, Others(), "b c d"},
		{deaf, Others(), "a b c d"},
		{a, Nodes("c", "a", "c"), "a c"},
		{a, All(Where("zone in (1,2)"), Where("zone!=1")), "c"},
		{a, Others(Where("zone=1")), "b"},
		{a, All(Where("zone=9")), ""},
	} {
		if got := bodies(t, gather(t.Context(), c.from, c.to, Raw{Name: "k", Data: []byte("?")})); got != c.want {
			t.Errorf("%+v: answered by %s, want %s", c.to, got, c.want)
		}
		var want []string
		for id := range strings.FieldsSeq(c.want) {
			want = append(want, id+"?")
		}
		if got := hear(t, heard, len(want)); got != strings.Join(want, " ") || len(heard) > 0 {
			t.Errorf("%+v: heard by %q and %d more", c.to, got, len(heard))
		}
	}
	w.tell(left(up("b", 2)), left(up("c", 3)), left(up("d", 4)))
	if got := gather(t.Context(), a, Others(), Raw{Name: "k"}); len(got) != 0 {
		t.Error("a node alone has no others:", got)
	}
}

func TestGatherNamesThoseWhoDoNotAnswer(t *testing.T) {
	w := newTown(t)
	a := w.node("a", answering(named("a"), "k"))
	w.node("busy", answering(named("busy"), "k"))
	w.node("deaf", nil)
	w.node("fails", answering(func(context.Context, *Msg[Raw]) (Raw, error) {
		return Raw{}, &HandlerError{Code: 404, Message: "nothing here"}
	}, "k"))
	w.node("much", answering(func(context.Context, *Msg[Raw]) (Raw, error) {
		return Raw{Data: make([]byte, 2<<20)}, nil
	}, "k"))
	w.node("panics", answering(func(context.Context, *Msg[Raw]) (Raw, error) { panic("at the disco") }, "k"))
	w.open()
	w.nodes[1].kinds["k"].lane.paused.Store(true)
	m := Raw{Name: "k", Data: []byte("?")}

	refused := func(id string, code int, text string) func(error) bool {
		return func(err error) bool {
			he, ok := errors.AsType[*HandlerError](err)
			return ok && he.Node == id && he.Code == code && he.Message == text && !errors.Is(err, ErrNotDelivered)
		}
	}
	undelivered := func(reason error) func(error) bool {
		return func(err error) bool {
			return errors.Is(err, ErrNotDelivered) && errors.Is(err, reason) && !errors.Is(err, ErrUnknown)
		}
	}
	want := map[string]func(error) bool{
		"a":      func(err error) bool { return err == nil },
		"busy":   undelivered(ErrBusy),
		"fails":  refused("fails", 404, "nothing here"),
		"much":   refused("much", codeTooLarge, "the answer of 2097152 bytes is larger than the server takes"),
		"panics": refused("panics", codeInternal, "handler panicked: at the disco"),
	}
	check := func(to Many) {
		t.Helper()
		got := gather(t.Context(), a, to, m)
		if len(got) != len(want) {
			t.Error(len(got), "pairs:", got)
		}
		for _, p := range got {
			if ok := want[p.node]; ok == nil || !ok(p.err) {
				t.Errorf("%s: %v", p.node, p.err)
			}
		}
	}
	check(All())
	w.tell(lost(up("was", 9, "k")))
	want["deaf"] = undelivered(ErrNoHandler)
	want["nobody"] = undelivered(ErrNoMember)
	want["was"] = undelivered(ErrNoMember)
	want["ghost"] = undelivered(nats.ErrNoResponders)
	w.tell(ghost("ghost", "k"))
	check(Nodes("a", "busy", "fails", "much", "panics", "deaf", "nobody", "was", "ghost"))
}

func TestGatherFromNobodyAtAll(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		w := newTown(t)
		a := w.node("a", nil)
		w.open()
		w.tell(ghost("g", "k"), ghost("h", "k"))
		for _, to := range []Many{All(), Nodes("g", "h")} {
			got := gather(t.Context(), a, to, Raw{Name: "k"})
			if len(got) != 2 || got[0].node != "g" || got[1].node != "h" {
				t.Fatal(got)
			}
			for _, p := range got {
				if !errors.Is(p.err, ErrNotDelivered) || !errors.Is(p.err, nats.ErrNoResponders) || p.at != 0 {
					t.Errorf("%+v: the server knew it at once", p)
				}
			}
		}
	})
}

// TestGatherFromWhoIsNotThere: one request to all tells nobody who is missing, so
// those who do not answer are looked for. Who is at work is not disturbed.
func TestGatherFromWhoIsNotThere(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		w := newTown(t)
		a := w.node("a", answering(named("a"), "k"))
		runs := 0
		w.node("slow", answering(func(context.Context, *Msg[Raw]) (Raw, error) {
			runs++
			time.Sleep(time.Second) // the work
			return Raw{Data: []byte("slow")}, nil
		}, "k"))
		w.open()
		w.tell(ghost("ghost", "k"))
		for _, c := range []struct {
			to      Many
			at      time.Duration
			outcome error
		}{
			{All(), absentAfter + absentGrace, ErrUnknown},
			{Nodes("a", "ghost", "slow"), 0, ErrNotDelivered},
		} {
			runs = 0
			got := gather(t.Context(), a, c.to, Raw{Name: "k"})
			if len(got) != 3 || runs != 1 {
				t.Fatalf("%d runs, %+v", runs, got)
			}
			if p := got[0]; p.node != "a" || p.err != nil || p.at > 2*watchSeldom {
				t.Errorf("%+v", p)
			}
			if p := got[1]; p.node != "ghost" || !errors.Is(p.err, c.outcome) || !errors.Is(p.err, nats.ErrNoResponders) || p.at != c.at {
				t.Errorf("%+v, want %v after %v", p, c.outcome, c.at)
			}
			if p := got[2]; p.node != "slow" || p.err != nil || p.at < time.Second {
				t.Errorf("%+v", p)
			}
		}
	})
}

// TestGatherFromWhoStopsToListen: a node that leaves does not listen any more and
// still works: its answer counts. So does that of one whose connection is away
// while it is looked for.
func TestGatherFromWhoStopsToListen(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		w := newTown(t)
		a := w.node("a", nil)
		work := func(d time.Duration, id string) func(*Router) {
			return answering(func(context.Context, *Msg[Raw]) (Raw, error) {
				time.Sleep(d) // the work
				return Raw{Data: []byte(id)}, nil
			}, "k")
		}
		leaves := w.node("leaves", work(2*time.Second, "leaves"))
		away := w.node("away", work(absentAfter+absentGrace/2, "away"))
		w.open()
		draining := up("leaves", 2, "k")
		draining.Peer.Draining = true
		time.AfterFunc(absentAfter/2, func() {
			w.tell(draining)
			for _, r := range []*Router{leaves, away} {
				r.calls.dispatcher.unsubscribe()
			}
		})
		if got := bodies(t, gather(t.Context(), a, All(), Raw{Name: "k"})); got != "away leaves" {
			t.Error(got)
		}
	})
}

// TestGatherEndsWithItsNodes: a node that is lost ends its part at once, one that
// left soon after, another incarnation answers nothing, and what was answered
// counts.
func TestGatherEndsWithItsNodes(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		for _, to := range []Many{All(), Nodes("a", "leaves", "lost", "replaced", "slow")} {
			w := newTown(t)
			a := w.node("a", answering(named("a"), "k"))
			g := newGate(t)
			w.node("leaves", answering(g.handle, "k"))
			w.node("lost", answering(g.handle, "k"))
			w.node("replaced", answering(g.handle, "k"))
			w.node("slow", answering(func(context.Context, *Msg[Raw]) (Raw, error) {
				time.Sleep(5 * time.Second) // the work
				return Raw{Data: []byte("slow")}, nil
			}, "k"))
			w.open()
			time.AfterFunc(time.Second, func() {
				w.tell(lost(up("lost", 3, "k")), left(up("leaves", 2, "k")), up("replaced", 77, "k"))
			})
			got := gather(t.Context(), a, to, Raw{Name: "k"})
			want := []struct {
				node string
				at   time.Duration
				ok   bool
			}{
				{"a", 0, true},
				{"leaves", time.Second + leaveGrace, false},
				{"lost", time.Second, false},
				{"replaced", time.Second, false},
				{"slow", 5 * time.Second, true},
			}
			if len(got) != len(want) {
				t.Fatal(got)
			}
			for i, p := range got {
				if p.node != want[i].node || (p.err == nil) != want[i].ok {
					t.Errorf("%+v, want %+v", p, want[i])
				}
				if p.err != nil && (!errors.Is(p.err, ErrUnknown) || errors.Is(p.err, ErrNotDelivered) || !strings.Contains(p.err.Error(), "node "+p.node+" was gone")) {
					t.Error(p.err)
				}
				// The watchdog finds that handlers hang before others begin.
				if d := p.at - want[i].at; d < 0 || d > 2*watchSeldom {
					t.Errorf("%s after %v, want %v", p.node, p.at, want[i].at)
				}
			}
			g.release()
		}
	})
}

func TestAnswerOfALeavingNodeIsGathered(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		w := newTown(t)
		a := w.node("a", nil)
		g := newGate(t)
		w.node("b", answering(g.handle, "k"))
		w.open()
		time.AfterFunc(time.Second, func() {
			w.tell(left(up("b", 2, "k")))
			time.AfterFunc(leaveGrace/2, g.release)
		})
		got := gather(t.Context(), a, All(), Raw{Name: "k", Data: []byte("b")})
		if bodies(t, got) != "b" {
			t.Error(got)
		}
	})
}

func TestGatherEndsWithItsContext(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		w := newTown(t)
		a := w.node("a", answering(named("a"), "k"))
		end := make(chan struct{})
		defer close(end)
		stuck := func(context.Context, *Msg[Raw]) (Raw, error) {
			<-end
			return Raw{}, nil
		}
		w.node("b", answering(stuck, "k"))
		w.node("c", answering(stuck, "k"))
		w.open()
		cancelled, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(errors.New("the user left")) })
		limited, stop := context.WithTimeout(t.Context(), 2*time.Second)
		defer stop()
		for _, c := range []struct {
			ctx context.Context
			at  time.Duration
			is  error
		}{
			{cancelled, time.Second, context.Canceled},
			{limited, 2 * time.Second, context.DeadlineExceeded},
			{t.Context(), callTimeout, context.DeadlineExceeded},
		} {
			start := time.Now()
			got := gather(c.ctx, a, All(), Raw{Name: "k"})
			if len(got) != 3 || got[0].err != nil || got[1].node != "b" || got[2].node != "c" {
				t.Fatal(got)
			}
			for _, p := range got[1:] {
				if !errors.Is(p.err, ErrUnknown) || !errors.Is(p.err, c.is) || errors.Is(p.err, ErrNotDelivered) {
					t.Error(p.err)
				}
			}
			if d := time.Since(start); d > c.at {
				t.Errorf("ended after %v, want %v", d, c.at)
			}
		}
		// Whatever has arrived when the loop comes to look is taken, however late.
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		n := 0
		for p, err := range a.Gather(ctx, Nodes("a", "nobody"), Raw{Name: "k"}, GatherOptions{}) {
			if n++; p.Node == "nobody" {
				<-ctx.Done()
			} else if err != nil {
				t.Error(err)
			}
		}
		if n != 2 {
			t.Error(n)
		}
	})
}

func TestGatherLeftEarlyLeavesNothing(t *testing.T) {
	w := newTown(t)
	g := newGate(t)
	for _, id := range []string{"a", "b", "c"} {
		w.node(id, answering(named(id), "k"))
	}
	w.node("d", answering(g.handle, "k"))
	a := w.open()
	asked := a.Gather(t.Context(), All(), Raw{Name: "k"}, GatherOptions{})
	for range 3 { // each loop asks anew
		for p, err := range asked {
			if err != nil || p.Node == "d" {
				t.Error(p, err)
			}
			break
		}
		<-g.entered
		if n := a.calls.replies.Load().waiting(); n != 0 {
			t.Errorf("%d are left in the table", n)
		}
	}
	for _, err := range a.Gather(t.Context(), Nodes("nobody", "a"), Raw{Name: "k"}, GatherOptions{}) {
		t.Log("the first one:", err)
		break
	}
	g.release() // late answers find nobody
	if got := bodies(t, gather(t.Context(), a, Nodes("a", "b", "c"), Raw{Name: "k"})); got != "a b c" {
		t.Error(got)
	}
}

func TestGatherThatCannotBegin(t *testing.T) {
	w := newTown(t)
	a := w.node("a", nil)
	w.node("b", answering(named("b"), "k"))
	closed := w.node("c", nil)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	check := func(what string, seq []pair, is error) {
		t.Helper()
		if len(seq) != 1 || seq[0].node != "" || !errors.Is(seq[0].err, ErrNotDelivered) || !errors.Is(seq[0].err, is) || errors.Is(seq[0].err, ErrUnknown) {
			t.Errorf("%s: %+v", what, seq)
		}
	}
	k := Raw{Name: "k"}
	check("before Start", gather(t.Context(), a, All(), k), ErrNotJoined)
	w.open()
	check("no target", gather(t.Context(), a, nil, k), errNoTarget)
	check("no node", gather(t.Context(), a, Nodes(), k), ErrNoMember)
	check("cancelled", gather(ended, a, All(), k), context.Canceled)
	check("no selector", gather(t.Context(), a, All(Where("a b")), k), ErrSelector)
	check("no handler", gather(t.Context(), a, All(), Raw{Name: "other"}), ErrNoHandler)
	check("no kind", gather(t.Context(), a, All(), Raw{}), ErrNoHandler)
	check("too large", gather(t.Context(), a, All(), Raw{Name: "k", Data: make([]byte, 2<<20)}), ErrTooLarge)
	w.tell(up("d", 9, "k"))
	check("too large for several", gather(t.Context(), a, All(), Raw{Name: "k", Data: make([]byte, 2<<20)}), ErrTooLarge)
	for _, err := range a.Gather(t.Context(), All(), k, GatherOptions{Header: nats.Header{"Nats-X": {"1"}}}) {
		check("header", []pair{{err: err}}, ErrNotDelivered)
	}
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	check("closed", gather(t.Context(), closed, All(), k), ErrClosed)
}

func TestGatherWithoutConnectionAsksNobody(t *testing.T) {
	w := newTown(t)
	a := w.nodeOn(w.conn(nats.ReconnectWait(time.Hour)), Config{Cluster: "c", Node: "a"}, nil)
	ran := make(chan struct{}, 1)
	w.node("b", answering(func(context.Context, *Msg[Raw]) (Raw, error) {
		ran <- struct{}{}
		return Raw{}, nil
	}, "k"))
	w.open()
	w.drop(a)
	got := gather(t.Context(), a, All(), Raw{Name: "k"})
	if len(got) != 1 || got[0].node != "" || !errors.Is(got[0].err, ErrNotDelivered) || !errors.Is(got[0].err, nats.ErrDisconnected) {
		t.Error(got)
	}
	if len(ran) > 0 {
		t.Error("it ran")
	}
}

func TestGatherWhoseConnectionBrokeEnds(t *testing.T) {
	w := newTown(t)
	a := w.node("a", nil)
	g := newGate(t)
	w.node("b", answering(g.handle, "k"))
	w.node("c", answering(named("c"), "k"))
	w.open()
	ended := make(chan []pair)
	go func() { ended <- gather(t.Context(), a, All(), Raw{Name: "k"}) }()
	<-g.entered
	w.drop(a)
	got := <-ended
	if len(got) != 2 || got[0].node != "b" || !errors.Is(got[0].err, ErrUnknown) || !errors.Is(got[0].err, nats.ErrDisconnected) {
		t.Error(got)
	}
	if d := got[0].at; d < dropGrace || d > callTimeout/2 {
		t.Error("after", d)
	}
}

func TestCloseEndsAGather(t *testing.T) {
	w := newTown(t)
	a := w.node("a", nil)
	g := newGate(t)
	w.node("b", answering(g.handle, "k"))
	w.open()
	ended := make(chan []pair)
	go func() { ended <- gather(t.Context(), a, All(), Raw{Name: "k"}) }()
	<-g.entered
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	got := <-ended
	if len(got) != 1 || got[0].node != "b" || !errors.Is(got[0].err, ErrUnknown) || !errors.Is(got[0].err, ErrClosed) {
		t.Error(got)
	}
}

func TestGatherCarriesHeaderDeadlineAndTrace(t *testing.T) {
	w := newTown(t)
	a := w.node("a", nil)
	seen := make(chan *Msg[Raw], 2)
	var b *Router
	b = w.node("b", answering(func(ctx context.Context, m *Msg[Raw]) (Raw, error) {
		if m.Body.Name == "outer" {
			var bodies []byte
			for p, err := range b.Gather(ctx, All(), Raw{Name: "inner"}, GatherOptions{}) {
				bodies = append(bodies, p.Body.Data...)
				if err != nil {
					return Raw{}, err
				}
			}
			return Raw{ContentType: bytesType, Data: bodies}, nil
		}
		if _, ok := ctx.Deadline(); !ok {
			return Raw{}, errors.New("no deadline")
		}
		seen <- m
		return Raw{ContentType: bytesType, Data: []byte{1}}, nil
	}, "outer", "inner"))
	w.open()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	m := Raw{Name: "outer", ContentType: bytesType, Data: []byte{0}}
	header := nats.Header{"traceparent": {"00-1-2-01"}, "X-Tenant": {"t1"}}
	for p, err := range a.Gather(ctx, All(), m, GatherOptions{Header: header}) {
		if err != nil || p.Node != "b" || p.Body.ContentType != bytesType || len(p.Body.Data) != 1 {
			t.Error(p, err)
		}
	}
	if inner := <-seen; inner.Header.Get("traceparent") != "00-1-2-01" || inner.From != "b" {
		t.Errorf("the trace did not travel on: %+v", inner)
	}
	if len(header) != 2 {
		t.Error("the caller's header was changed:", header)
	}
}

// TestGatherByAForeignProgram: whoever asks all is told who answers.
func TestGatherByAForeignProgram(t *testing.T) {
	w, _ := zoned(t)
	nc := w.conn()
	inbox, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	w.nodes[2].kinds["k"].lane.paused.Store(true)
	if err := nc.PublishRequest("catga.c.call.all.k", inbox.Subject, nil); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for range 4 {
		m, err := inbox.NextMsgWithContext(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got[m.Header.Get(wire.HeaderFrom)] = string(m.Data) + m.Header.Get(wire.HeaderRefused)
	}
	if fmt.Sprint(got) != "map[a:a b:b c:busy d:d]" {
		t.Error(got)
	}
}

// TestGatherFromForeignAnswers: answers of nobody who was asked, and second ones,
// count for nothing.
func TestGatherFromForeignAnswers(t *testing.T) {
	w := newTown(t)
	a := w.node("a", nil)
	w.open()
	w.tell(ghost("b", "k"), ghost("c", "k"), ghost("d-1", "k"))
	nc := w.conn()
	answer := func(subject string) {
		_, err := nc.Subscribe(subject, func(m *nats.Msg) {
			for _, id := range []string{"eve", "", "b", "b", "c"} {
				_ = nc.PublishMsg(&nats.Msg{Subject: m.Reply, Data: []byte("zoe"), Header: nats.Header{wire.HeaderFrom: {id}}})
				_ = nc.PublishMsg(&nats.Msg{Subject: m.Reply + id + "x", Reply: wire.CastReply(id), Data: []byte("zoe")})
				_ = nc.PublishMsg(&nats.Msg{Subject: m.Reply, Reply: wire.CastReply(id), Data: []byte(id)})
				_ = nc.PublishMsg(&nats.Msg{Subject: m.Reply, Reply: wire.CastReply(id), Data: []byte("again")})
			}
			_ = nc.PublishMsg(&nats.Msg{Subject: m.Reply, Reply: wire.CastReply("d-1"), Data: []byte("d-1"), Header: nats.Header{wire.HeaderFrom: {"c"}}})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	answer("catga.c.call.all.k")
	if err := flush(t.Context(), nc); err != nil {
		t.Fatal(err)
	}
	got := gather(t.Context(), a, All(), Raw{Name: "k"})
	if bodies(t, got) != "b c d-1" {
		t.Error(got)
	}
}
