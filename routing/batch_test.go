package routing

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/catga/catga-go/internal/natstest"
)

// numbered are n messages with their numbers.
func numbered(n int) []Raw {
	ms := make([]Raw, n)
	for i := range ms {
		ms[i] = text("work", fmt.Sprint(i))
	}
	return ms
}

// A batch larger than what is on its way at once is stored in order.
func TestBatchIsStoredInOrder(t *testing.T) {
	w := newTown(t)
	box := newInbox(t)
	w.node("a", func(r *Router) { r.Handle("work", box.handle, HandleOptions{Concurrency: 1}) })
	a := w.open()
	const n = 2*batchWindow + 100
	begin := time.Now()
	if err := a.SendBatch(t.Context(), Any(), numbered(n), SendOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d messages in %v", n, time.Since(begin))
	for i := range n {
		if m := box.next(); string(m.Body.Data) != fmt.Sprint(i) {
			t.Fatalf("%s is number %d", m.Body.Data, i)
		}
	}
	w.idle()
	box.nothing()
}

// A batch that is repeated with its id stores what is missing.
func TestBatchIsRepeatedWithItsID(t *testing.T) {
	w := newTown(t)
	box := newInbox(t)
	w.node("a", handling(box.handle, "work"))
	a := w.open()
	o := SendOptions{ID: "b"}
	for _, step := range []struct {
		n    int
		want error
	}{{5, nil}, {8, nil}, {8, ErrDuplicate}, {3, ErrDuplicate}} {
		if err := a.SendBatch(t.Context(), Any(), numbered(step.n), o); !errors.Is(err, step.want) {
			t.Errorf("%d messages: %v, want %v", step.n, err, step.want)
		}
	}
	var ids []string
	for range 8 {
		ids = append(ids, box.next().ID)
	}
	slices.Sort(ids)
	if want := []string{"b-0", "b-1", "b-2", "b-3", "b-4", "b-5", "b-6", "b-7"}; !slices.Equal(ids, want) {
		t.Errorf("%q, want %q", ids, want)
	}
	w.idle()
	box.nothing()
}

// The server is killed while a batch is on its way: all of it is stored, and once.
func TestBatchOutlastsARestartOfTheServer(t *testing.T) {
	s := natstest.Start(t)
	w := &town{t: t}
	var c counter
	a := w.nodeOn(natstest.Dial(t, s.URL()), Config{Cluster: "c", Node: "a"}, func(r *Router) { r.Handle("work", c.handle, HandleOptions{}) })
	w.open()
	const n = 20_000
	done := make(chan error, 1)
	go func() { done <- a.SendBatch(t.Context(), Any(), numbered(n), SendOptions{}) }()
	natstest.Eventually(t, "it is under way", func() bool { b, _ := c.distinct(); return b > 100 })
	s.Kill()
	s.Restart(t)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, "everything is handled", func() bool { b, _ := c.distinct(); return b == n })
}

// What fails is named one by one; what cannot be sent at all keeps the rest back.
func TestBatchTellsWhatFailed(t *testing.T) {
	s := natstest.Start(t)
	w := &town{t: t}
	box := newInbox(t)
	a := w.nodeOn(natstest.Dial(t, s.URL()), Config{Cluster: "c", Node: "a"}, handling(box.handle, "work"))
	w.open()
	ms := numbered(10)
	ms[7].Data = []byte(strings.Repeat("x", 1<<20))
	err := a.SendBatch(t.Context(), Any(), ms, SendOptions{})
	if _, ok := errors.AsType[*BatchError](err); ok || !errors.Is(err, ErrNotDelivered) || !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "message 7") {
		t.Errorf("%v, want ErrTooLarge of message 7", err)
	}
	box.nothing()
	if err := a.SendBatch(t.Context(), Any(), nil, SendOptions{}); err != nil {
		t.Errorf("nothing: %v", err)
	}

	s.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	err = a.SendBatch(ctx, Any(), numbered(10), SendOptions{})
	e, ok := errors.AsType[*BatchError](err)
	if !ok || len(e.Errors) != 10 || len(e.Unwrap()) != 10 {
		t.Fatalf("%v, want an error for each", err)
	}
	for i, err := range e.Errors {
		if errors.Is(err, ErrNotDelivered) == errors.Is(err, ErrUnknown) {
			t.Errorf("message %d: %v, want one outcome", i, err)
		}
	}
	s.Restart(t)
}
