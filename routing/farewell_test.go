package routing

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/natstest"
	"github.com/catga/catga-go/internal/wire"
)

// losing loses what is published to a node while it is on: a node stops to
// listen while the request is between two servers.
func losing(node string, on *atomic.Bool) func(string) way {
	return func(subject string) way {
		return way{lost: on.Load() && strings.HasPrefix(subject, wire.Cluster("c").CallNode(node, ""))}
	}
}

// A call that gets lost when its node leaves is known to be lost, and goes
// elsewhere; so is the request of a gathering.
func TestCallLostWhenItsNodeLeavesGoesElsewhere(t *testing.T) {
	s := natstest.Start(t)
	w := &town{t: t}
	var lossy atomic.Bool
	a := w.nodeOn(dialWays(t, s.URL(), losing("b", &lossy)), Config{Cluster: "c", Node: "a"}, nil)
	b := w.nodeOn(natstest.Dial(t, s.URL()), Config{Cluster: "c", Node: "b"}, answering(named("b"), "who"))
	w.nodeOn(natstest.Dial(t, s.URL()), Config{Cluster: "c", Node: "z"}, answering(named("z"), "who"))
	w.open()
	call := func(to One) (string, error) {
		got, err := a.Call(t.Context(), to, Raw{Name: "who"}, CallOptions{})
		return string(got.Data), err
	}
	for range 3 {
		if got, err := call(To("b")); got != "b" {
			t.Fatal(got, err)
		}
	}
	lossy.Store(true)
	type result struct {
		answer string
		err    error
	}
	const calls = 20 // half of them to b
	ends := make(chan result, calls)
	for range calls {
		go func() {
			got, err := call(Any())
			ends <- result{got, err}
		}()
	}
	gathered := make(chan map[string]error, 1)
	go func() {
		got := map[string]error{}
		for g, err := range a.Gather(t.Context(), Nodes("b", "z"), Raw{Name: "who"}, GatherOptions{}) {
			got[g.Node] = err
		}
		gathered <- got
	}()
	for range calls / 2 {
		if r := <-ends; r.err != nil || r.answer != "z" {
			t.Fatal(r.answer, r.err)
		}
	}
	natstest.Eventually(t, "the others wait for b", func() bool { return a.calls.replies.Load().waiting() == calls/2+1 })
	if err := b.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range calls / 2 {
		if r := <-ends; r.err != nil || r.answer != "z" {
			t.Error(r.answer, r.err)
		}
	}
	if got := <-gathered; got["z"] != nil || !errors.Is(got["b"], ErrNotDelivered) || !errors.Is(got["b"], ErrLeaving) {
		t.Error(got)
	}
}

// What a farewell says of a call decides what becomes of it.
func TestFarewellEndsWhatNeverArrived(t *testing.T) {
	for _, c := range []struct {
		name string
		say  func(f *farewell, number uint64, token string)
		lost bool
	}{
		{"a higher number than any that arrived", func(*farewell, uint64, string) {}, true},
		{"none of the caller's has ever arrived", func(f *farewell, _ uint64, _ string) { f.Stem, f.Last = "", 0 }, true},
		{"it arrived", func(f *farewell, n uint64, _ string) { f.Last = n }, false},
		{"a later one arrived, and it may have before the list begins", func(f *farewell, n uint64, _ string) { f.Last = n + 1 }, false},
		{"a later one arrived, and it is not in the list", func(f *farewell, n uint64, _ string) { f.Last, f.For = n+1, time.Hour }, true},
		{"a later one arrived, and it is in the list", func(f *farewell, n uint64, token string) { f.Last, f.For, f.Got = n+1, time.Hour, []string{"0", token} }, false},
		{"an earlier life of the node", func(f *farewell, _ uint64, _ string) { f.Incarnation-- }, false},
		{"another node", func(f *farewell, _ uint64, _ string) { f.Node = "z" }, false},
		{"another caller of that name", func(f *farewell, _ uint64, _ string) { f.Stem = "aaaaaaaa" }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newTown(t)
			a := w.node("a", nil)
			w.open()
			b := up("b", 7, "who")
			w.tell(b)
			nc := w.conn()
			sub := listens(t, nc, "catga.c.call.node.b.who")
			end := make(chan error, 1)
			go func() {
				_, err := a.Call(context.Background(), To("b"), Raw{Name: "who"}, CallOptions{})
				end <- err
			}()
			m, err := sub.NextMsg(10 * time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(sub.Unsubscribe(), nc.Flush()); err != nil { // nobody is asked again
				t.Fatal(err)
			}
			base := a.cluster.InboxPrefix("a", 1)
			token := m.Reply[len(base)+stemLength:]
			number := leadingNumber(token)
			f := farewell{Node: "b", Incarnation: 7, Stem: m.Reply[len(base) : len(base)+stemLength], Last: number - 1}
			c.say(&f, number, token)
			data, err := json.Marshal(f)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(nc.Publish(base+wire.FarewellToken, data), nc.Flush(), a.nc.Flush()); err != nil {
				t.Fatal(err)
			}
			natstest.Eventually(t, "the farewell is read", func() bool {
				n, _, err := a.calls.replies.Load().sub.Pending()
				return err == nil && n == 0
			})
			if waits := a.calls.replies.Load().waiting() == 1; waits == c.lost {
				t.Errorf("it waits: %v", waits)
			}
			w.tell(lost(b))
			want := ErrUnknown
			if c.lost {
				want = ErrNotDelivered
			}
			if err := <-end; !errors.Is(err, want) {
				t.Errorf("%v, want %v", err, want)
			}
		})
	}
}

// A request to all that never arrived is known to be lost by a farewell, too; that
// the node was looked for does not count as its arrival.
func TestFarewellOfARequestToAll(t *testing.T) {
	for _, arrived := range []bool{false, true} {
		w := newTown(t)
		a := w.node("a", nil)
		w.open()
		b := up("b", 7, "who")
		w.tell(b, up("z", 8, "who"))
		nc := w.conn()
		all := listens(t, nc, "catga.c.call.all.who")
		looked := listens(t, nc, "catga.c.call.node.b.who") // and so it is not missed
		listens(t, nc, "catga.c.call.node.z.who")
		got := make(chan error, 1)
		go func() {
			for g, err := range a.Gather(context.Background(), All(), Raw{Name: "who"}, GatherOptions{}) {
				if g.Node == "b" {
					got <- err
					return
				}
			}
		}()
		m, err := all.NextMsgWithContext(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		look, err := looked.NextMsgWithContext(t.Context())
		if err != nil || isFor(look.Header, "b", nil) {
			t.Fatal(look, err)
		}
		base := a.cluster.InboxPrefix("a", 1)
		token := m.Reply[len(base)+stemLength:]
		f := farewell{
			Node: "b", Incarnation: 7, Stem: m.Reply[len(base) : len(base)+stemLength],
			Last: leadingNumber(token), For: time.Hour, Got: []string{look.Reply[len(base)+stemLength:]},
		}
		want := ErrNotDelivered
		if arrived {
			f.Got, want = append(f.Got, token), ErrUnknown
		}
		data, err := json.Marshal(f)
		if err := errors.Join(err, nc.Publish(base+wire.FarewellToken, data), nc.Flush(), a.nc.Flush()); err != nil {
			t.Fatal(err)
		}
		if arrived {
			w.tell(lost(b))
		}
		if err := <-got; !errors.Is(err, want) {
			t.Errorf("arrived %v: %v, want %v", arrived, err, want)
		}
	}
}

// What is for another node, and what looks for this one, has not arrived.
func TestFarewellKnowsOnlyWhatIsMeant(t *testing.T) {
	w := newTown(t)
	w.node("a", nil)
	b := w.node("b", answering(named("b"), "k"))
	w.open()
	nc := w.conn()
	if err := nc.PublishMsg(&nats.Msg{
		Subject: "catga.c.call.node.b.k", Reply: "catga.c.inbox.a.1.abcdefgh7-0", Header: nats.Header{wire.HeaderOnly: {""}},
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := nc.RequestWithContext(t.Context(), "catga.c.call.node.b.k", nil); err != nil {
		t.Fatal(err)
	}
	if known := b.calls.dispatcher.callers.farewells(farewell{}); len(known) > 0 {
		t.Errorf("arrived: %+v", known)
	}
}

// A node says farewell to who has called it, member or not, and to the members,
// and names what came while it left.
func TestFarewellSaysWhatArrived(t *testing.T) {
	w := newTown(t)
	a := w.node("a", nil)
	g := newGate(t)
	b := w.node("b", answering(g.handle, "who"))
	w.node("quiet", nil)
	w.open()
	tool := w.nodeOn(w.conn(), Config{Cluster: "c", Node: "tool"}, nil)
	if err := tool.Start(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	tool.Update([]Change{up("b", 2, "who")})
	nc := w.conn()
	said := make(chan *nats.Msg, 10)
	if _, err := nc.ChanSubscribe("catga.c.inbox.*.*."+wire.FarewellToken, said); err != nil || nc.Flush() != nil {
		t.Fatal(err)
	}
	ends := make(chan error, 10)
	call := func(r *Router) {
		go func() {
			_, err := r.Call(context.Background(), To("b"), Raw{Name: "who"}, CallOptions{})
			ends <- err
		}()
		<-g.entered
	}
	call(a)
	call(tool)
	drained := make(chan error, 1)
	go func() { drained <- b.Drain(context.Background()) }()
	natstest.Eventually(t, "it leaves", func() bool {
		c := &b.calls.dispatcher.callers
		c.mu.Lock()
		defer c.mu.Unlock()
		return !c.since.IsZero()
	})
	call(a)
	g.release()
	for range 3 {
		if err := <-ends; err != nil {
			t.Error(err)
		}
	}
	if err := <-drained; err != nil {
		t.Fatal(err)
	}
	got := map[string]farewell{}
	for range 4 {
		select {
		case m := <-said:
			var f farewell
			if err := json.Unmarshal(m.Data, &f); err != nil {
				t.Fatal(err)
			}
			got[strings.Split(m.Subject, ".")[3]] = f
		case <-time.After(10 * time.Second):
			t.Fatal("not everybody is told:", got)
		}
	}
	for id, want := range map[string]farewell{"a": {Last: 2, Got: []string{"2"}}, "tool": {Last: 1}, "quiet": {}, "b": {}} {
		f := got[id]
		called := id == "a" || id == "tool"
		if f.Node != "b" || f.Incarnation != 2 || f.Last != want.Last || strings.Join(f.Got, " ") != strings.Join(want.Got, " ") ||
			(f.Stem != "") != called || (f.For > 0) != called || f.For > time.Minute {
			t.Errorf("%s was told %+v", id, f)
		}
	}
}

// What is remembered of callers is bounded, and what is forgotten is not claimed.
func TestCallersAreForgottenInOrder(t *testing.T) {
	c := callers{root: "inbox.", known: map[string]*caller{}}
	c.leave()
	reply := func(n uint64) string { return (&replies{prefix: "inbox.a.1.abcdefgh"}).subject(n) }
	before := time.Now()
	var last *caller
	for n := range uint64(mostFarewell + 1) {
		last = c.note(reply(n+1), last, true)
	}
	f := c.farewells(farewell{})["inbox.a.1.abcdefgh"]
	if len(f.Got) != mostFarewell/2+1 || f.Last != mostFarewell+1 || f.For > time.Since(before) || "abcdefgh"+f.Got[0] != reply(mostFarewell/2 + 1)[len("inbox.a.1."):] {
		t.Errorf("%d named from %q on, last %d, for %v", len(f.Got), f.Got[0], f.Last, f.For)
	}
	if c.note("_INBOX.xyz.1", last, true) != last || c.note("_.n1", nil, true) != nil || len(c.known) != 1 {
		t.Error("strangers are remembered")
	}
	for n := range mostCallers {
		c.note("inbox.b."+reply(uint64(n) + 1<<40)[len("inbox.a.1.abcdefgh"):]+".abcdefgh1", nil, false)
	}
	if len(c.known) > mostCallers || !c.forgot {
		t.Errorf("%d callers, forgot %v", len(c.known), c.forgot)
	}
}
