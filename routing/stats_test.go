package routing

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/catga/catga-go/internal/natstest"
)

func TestStatsCountWhatHappened(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		w := newTown(t)
		r := w.node("n1", func(r *Router) {
			retry := RetryPolicy{Retries: 2, Min: time.Second}
			r.Handle("slow", func(context.Context, *Msg[Raw]) (Raw, error) {
				time.Sleep(3 * time.Second) // the work
				return Raw{}, nil
			}, HandleOptions{Reply: true})
			r.Handle("flaky", func(_ context.Context, m *Msg[Raw]) (Raw, error) {
				if m.Attempt < 3 {
					return Raw{}, errors.New("not\nyet")
				}
				return Raw{}, nil
			}, HandleOptions{Retry: retry, Reply: true})
			r.Handle("bad", func(context.Context, *Msg[Raw]) (Raw, error) { panic("oh no") }, HandleOptions{Retry: retry})
			r.Handle("quits", func(context.Context, *Msg[Raw]) (Raw, error) {
				runtime.Goexit()
				return Raw{}, nil
			}, HandleOptions{Retry: RetryPolicy{Retries: -1}, Concurrency: 1})
			r.Handle("unused", named("n1"), HandleOptions{})
		})
		w.open()
		for _, kind := range []string{"slow", "slow", "flaky", "bad", "quits", "quits"} {
			if err := r.Send(t.Context(), Any(), text(kind, "x"), SendOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		go func() { _, _ = r.Call(t.Context(), To("n1"), Raw{Name: "slow"}, CallOptions{}) }()
		if err := r.cast(t.Context(), All(), Raw{Name: "slow"}, SendOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Call(t.Context(), To("n1"), Raw{Name: "flaky"}, CallOptions{}); err == nil {
			t.Error("a call is a first attempt")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if s := r.Stats()[3]; s.Kind != "slow" || s.InFlight != 4 || s.Total != 0 || s.Mean != 0 {
			t.Errorf("while they run: %+v", s)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		want := []KindStats{
			{Kind: "bad", Received: 3, Failed: 3, Retried: 2, Dead: 1, LastError: "panic: oh no"},
			{Kind: "flaky", Received: 3, Calls: 1, Failed: 3, Retried: 2, LastError: "not yet"},
			{Kind: "quits", Received: 2, Failed: 2, Dead: 2, LastError: errGoexit.Error()},
			{Kind: "slow", Received: 2, Calls: 2, Total: 12 * time.Second, Mean: 3 * time.Second},
			{Kind: "unused"},
		}
		got := r.Stats()
		if len(got) != len(want) {
			t.Fatalf("%+v", got)
		}
		for i, s := range got {
			if s != want[i] {
				t.Errorf("got  %+v\nwant %+v", s, want[i])
			}
		}
		w.idle()
	})
}

func TestStatsBeforeAndWithoutHandlers(t *testing.T) {
	w := newTown(t)
	if got := w.node("eye", nil).Stats(); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	if got := w.node("n1", handling(named("n1"), "a", "b")).Stats(); len(got) != 2 || got[0] != (KindStats{Kind: "a"}) {
		t.Errorf("%+v", got)
	}
}

func TestLastErrorIsBounded(t *testing.T) {
	var k tally
	k.fail(errors.New(strings.Repeat("x", 10*maxReason)))
	if n := len(*k.lastError.Load()); n != maxReason {
		t.Error(n)
	}
}

func TestMeterDoesNotAllocate(t *testing.T) {
	var k tally
	if n := testing.AllocsPerRun(1000, func() {
		k.messages.begin()
		k.messages.end(time.Microsecond)
	}); n != 0 {
		t.Error(n, "allocations")
	}
}

// BenchmarkMeter is what counting costs a run; side by side from all cores is
// the worst case.
func BenchmarkMeter(b *testing.B) {
	b.Run("alone", func(b *testing.B) {
		var k tally
		b.ReportAllocs()
		for b.Loop() {
			k.calls.begin()
			k.calls.end(time.Microsecond)
		}
	})
	b.Run("together", func(b *testing.B) {
		var k tally
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				k.calls.begin()
				k.calls.end(time.Microsecond)
			}
		})
	})
}
