package routing

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestLimitIsAContext holds limit beside context.WithTimeoutCause, which it
// stands for, whichever question is asked first.
func TestLimitIsAContext(t *testing.T) {
	why, over := errors.New("why"), errors.New("over")
	type key struct{}
	questions := map[string]func(context.Context) any{
		"err":   func(ctx context.Context) any { return ctx.Err() },
		"cause": func(ctx context.Context) any { return context.Cause(ctx) },
		"done": func(ctx context.Context) any {
			select {
			case <-ctx.Done():
				return true
			default:
				return false
			}
		},
		"deadline": func(ctx context.Context) any { d, _ := ctx.Deadline(); return d.UnixNano() },
		"value":    func(ctx context.Context) any { return ctx.Value(key{}) },
		"trace":    func(ctx context.Context) any { return ctx.Value(traceKey{}) },
		"child": func(ctx context.Context) any {
			child, cancel := context.WithCancel(ctx)
			defer cancel()
			return child.Err()
		},
	}
	for name, happens := range map[string]func(end context.CancelFunc, parent context.CancelCauseFunc){
		"nothing":      func(context.CancelFunc, context.CancelCauseFunc) {},
		"end":          func(end context.CancelFunc, _ context.CancelCauseFunc) { end() },
		"end of life":  func(_ context.CancelFunc, parent context.CancelCauseFunc) { parent(over) },
		"its time":     func(context.CancelFunc, context.CancelCauseFunc) { <-time.After(2 * time.Second) },
		"time and end": func(end context.CancelFunc, _ context.CancelCauseFunc) { <-time.After(2 * time.Second); end() },
	} {
		for first := range questions {
			for asked, early := range map[string]bool{"early": true, "late": false} {
				synctest.Test(t, func(t *testing.T) {
					base := context.WithValue(context.WithValue(t.Context(), key{}, 7), traceKey{}, "t")
					one, endOne := context.WithCancelCause(base)
					two, endTwo := context.WithCancelCause(base)
					defer endOne(nil)
					defer endTwo(nil)
					want, cancel := context.WithTimeoutCause(one, time.Second, why)
					defer cancel()
					got := limit(two, time.Now().Add(time.Second), why)
					defer got.end()
					if early {
						questions[first](got)
					}
					happens(cancel, endOne)
					happens(got.end, endTwo)
					if waited := early && first != "deadline" && first != "trace"; name == "time and end" && !waited {
						return // who did not wait before the end hears of the end
					}
					synctest.Wait()
					for _, question := range []string{first, "err", "cause", "done", "deadline", "value", "trace", "child"} {
						a, b := questions[question](want), questions[question](got)
						if question == "deadline" && name != "nothing" {
							continue // the two were not made at the same instant of the sleep
						}
						if a != b {
							t.Errorf("%s, first asked for its %s %s: %s is %v, want %v", name, first, asked, question, b, a)
						}
					}
				})
			}
		}
	}
}

// TestLimitWakesWhoWaits: who waits is woken when the time is up, exactly.
func TestLimitWakesWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := limit(t.Context(), time.Now().Add(time.Minute), errTimeLimit)
		defer ctx.end()
		child, cancel := context.WithCancel(ctx)
		defer cancel()
		start := time.Now()
		<-child.Done()
		if took := time.Since(start); took != time.Minute {
			t.Errorf("woken after %v", took)
		}
		if !errors.Is(context.Cause(child), errTimeLimit) {
			t.Errorf("cause %v", context.Cause(child))
		}
	})
}
