package routing

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/natstest"
)

// drop breaks the connection of r and returns when that is seen, and a channel
// that is closed when it is back.
func (w *town) drop(r *Router) (back <-chan struct{}) {
	w.t.Helper()
	broke := r.nc.StatusChanged(nats.RECONNECTING, nats.DISCONNECTED)
	defer r.nc.RemoveStatusListener(broke)
	back = r.calls.drops.back()
	if err := w.mem.Server.DisconnectClientByID(clientID(w.t, r.nc)); err != nil {
		w.t.Fatal(err)
	}
	<-broke
	return back
}

func TestCallWhoseConnectionBrokeEnds(t *testing.T) {
	w := newTown(t)
	a := w.node("a", nil)
	g := newGate(t)
	w.node("b", answering(g.handle, "k"))
	w.open()
	for _, to := range []One{To("b"), Any()} {
		ended := make(chan error, 1)
		start := time.Now()
		go func() {
			_, err := a.Call(t.Context(), to, Raw{Name: "k"}, CallOptions{})
			ended <- err
		}()
		<-g.entered
		w.drop(a)
		if err := <-ended; !errors.Is(err, ErrUnknown) || !errors.Is(err, nats.ErrDisconnected) || errors.Is(err, ErrNotDelivered) {
			t.Error(err)
		}
		if d := time.Since(start); d < dropGrace || d > callTimeout/2 {
			t.Error("after", d)
		}
	}
	if n := len(g.entered); n != 0 {
		t.Errorf("%d calls were made again that are not idempotent", n)
	}
}

func TestIdempotentCallWhoseConnectionBrokeIsMadeAgain(t *testing.T) {
	w := newTown(t)
	a := w.node("a", nil)
	var mu sync.Mutex
	runs := map[string]int{}
	begun, end := make(chan struct{}), make(chan struct{})
	defer close(end)
	// The first run of each body hangs, the others answer.
	handle := func(id string) Handler {
		return func(_ context.Context, m *Msg[Raw]) (Raw, error) {
			mu.Lock()
			runs[string(m.Body.Data)]++
			first := runs[string(m.Body.Data)] == 1
			mu.Unlock()
			if first {
				begun <- struct{}{}
				<-end
			}
			return Raw{Data: []byte(id)}, nil
		}
	}
	w.node("b", answering(handle("b"), "k", "both"))
	w.node("c", answering(handle("c"), "both"))
	w.open()
	for what, c := range map[string]struct {
		to   One
		kind string
	}{
		"that node":       {To("b"), "k"},
		"the only one":    {Any(), "k"},
		"one of two":      {Any(), "both"},
		"the one, of two": {To("c"), "both"},
	} {
		ended := make(chan error, 1)
		go func() {
			got, err := a.Call(t.Context(), c.to, Raw{Name: c.kind, Data: []byte(what)}, CallOptions{Idempotent: true})
			if err == nil && len(got.Data) != 1 {
				err = fmt.Errorf("answer %q", got.Data)
			}
			ended <- err
		}()
		<-begun
		w.drop(a)
		if err := <-ended; err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if runs[what] != 2 {
			t.Errorf("%s: %d runs", what, runs[what])
		}
	}
}

// An answer that comes soon after the reconnect is taken, and calls that begin
// after it have nothing to do with it.
func TestAnswerSoonAfterTheConnectionIsBackCounts(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		w := newTown(t)
		a := w.node("a", nil)
		g := newGate(t)
		w.node("b", answering(g.handle, "soon"))
		w.node("c", answering(func(_ context.Context, m *Msg[Raw]) (Raw, error) {
			time.Sleep(5 * time.Second) // the work
			return m.Body, nil
		}, "late"))
		w.open()
		ended := make(chan error, 2)
		call := func(kind string) {
			_, err := a.Call(t.Context(), Any(), Raw{Name: kind}, CallOptions{})
			ended <- err
		}
		go call("soon")
		<-g.entered
		go call("late")
		time.Sleep(time.Second)
		<-w.drop(a)
		back := time.Now()
		go call("late")
		time.Sleep(dropGrace / 2)
		g.release()
		if err := <-ended; err != nil {
			t.Error("soon:", err)
		}
		if err := <-ended; !errors.Is(err, ErrUnknown) || time.Since(back) != dropGrace {
			t.Errorf("late: %v, %v after the reconnect", err, time.Since(back))
		}
		if err := <-ended; err != nil || time.Since(back) < 5*time.Second {
			t.Errorf("begun after it: %v, %v after the reconnect", err, time.Since(back))
		}
	})
}

// A call whose time is up earlier ends as ever.
func TestDroppedConnectionDoesNotLengthenACall(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		w := newTown(t)
		a := w.node("a", nil)
		end := make(chan struct{})
		defer close(end)
		w.node("b", answering(func(context.Context, *Msg[Raw]) (Raw, error) { <-end; return Raw{}, nil }, "k"))
		w.open()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		time.AfterFunc(time.Second-dropGrace/2, func() { w.drop(a) })
		_, err := a.Call(ctx, To("b"), Raw{Name: "k"}, CallOptions{Idempotent: true})
		if !errors.Is(err, ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}
