package kvregistry

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/natstest"
)

// journal keeps what a registry logs.
type journal struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(p)
}

func (j *journal) log() *slog.Logger {
	return slog.New(slog.NewTextHandler(j, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// lines are those of a level with that text.
func (j *journal) lines(level slog.Level, text string) []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.DeleteFunc(strings.Split(j.buf.String(), "\n"), func(line string) bool {
		return !strings.Contains(line, "level="+level.String()+" ") || !strings.Contains(line, text)
	})
}

// Whatever is done to a node by hand or by a server that forgets, its log says
// what happened, once, and nothing that did not happen.
func TestTheLogSaysWhatHappened(t *testing.T) {
	const (
		gone        = "own record was gone from the store, written again"
		overwritten = "own record was overwritten in the store, written again"
		anew        = "the registry's bucket was made anew"
		armed       = "tripwire armed again"
		evicted     = "evicted, rejoining"
		heartbeats  = "the bucket of the heartbeats was gone, made again"
	)
	deleteStream := func(name func(*store) string) func(testing.TB, *Registry) error {
		return func(t testing.TB, r *Registry) error {
			return r.session.store.js.DeleteStream(t.Context(), name(r.session.store))
		}
	}
	for _, tc := range []struct {
		name string
		do   func(t testing.TB, r *Registry) error
		// said must be in the log, may can be; nothing else of the above.
		said, may []string
	}{
		{"tripwire deleted", func(t testing.TB, r *Registry) error {
			return r.session.store.js.DeleteConsumer(t.Context(), r.session.store.cluster.RecordStream(), r.session.own.trip.armed())
		}, []string{armed}, nil},
		{"record deleted", func(t testing.TB, r *Registry) error {
			msg := nats.NewMsg(r.session.store.cluster.RecordSubject("a"))
			msg.Header.Set("KV-Operation", "DEL")
			_, err := r.session.store.js.PublishMsg(t.Context(), msg)
			return err
		}, []string{gone}, nil},
		{"record overwritten", func(t testing.TB, r *Registry) error {
			_, err := r.session.store.js.Publish(t.Context(), r.session.store.cluster.RecordSubject("a"), []byte("what?"))
			return err
		}, []string{overwritten}, nil},
		{"records purged", func(t testing.TB, r *Registry) error {
			stream, err := r.session.store.js.Stream(t.Context(), r.session.store.cluster.RecordStream())
			if err != nil {
				return err
			}
			return stream.Purge(t.Context())
		}, []string{gone}, nil},
		// The tripwire goes with the bucket.
		{"bucket deleted", deleteStream(func(s *store) string { return s.cluster.RecordStream() }), []string{gone, anew}, []string{armed}},
		{"bucket of the beats deleted", deleteStream(func(s *store) string { return s.cluster.BeatStream() }), nil, []string{heartbeats}}, // the first of the two that beats
		{"buried", func(t testing.TB, r *Registry) error { buryByHand(t, r, ReasonHung); return nil }, []string{evicted}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			natstest.Bubble(t, func(t *testing.T) {
				mem := natstest.Memory(t)
				j := &journal{}
				a := join(t, mem.Dial(t), Config{Node: "a", Log: j.log()})
				b := join(t, mem.Dial(t), Config{Node: "b"})
				waitFor(t, b, "a", "b")
				// Two makings of a stream are told apart by their times.
				<-time.After(time.Second)
				if err := tc.do(t, a); err != nil {
					t.Fatal(err)
				}
				<-time.After(time.Minute) // fake: longer than anything takes to be noticed
				for _, text := range []string{gone, overwritten, anew, armed, evicted, heartbeats} {
					level := slog.LevelWarn
					if text == armed {
						level = slog.LevelInfo
					}
					want := slices.Contains(tc.said, text)
					switch n := len(j.lines(level, text)); {
					case want && n != 1:
						t.Errorf("%q is in the log %d times", text, n)
					case !want && n > 0 && !slices.Contains(tc.may, text):
						t.Errorf("%q is in the log", text)
					}
				}
				if st := a.Status(); !st.Ready || !st.Armed || st.Stale {
					t.Errorf("a minute later: %+v", st)
				}
				if err := a.Check(t.Context()); err != nil {
					t.Error(err)
				}
				waitFor(t, a, "a", "b")
				waitFor(t, b, "a", "b")
				if t.Failed() {
					t.Logf("the log:\n%s", &j.buf)
				}
			})
		})
	}
}

// A memory store that is empty after a restart of its server is the same to a
// node as a bucket that was deleted, and the log says so.
func TestTheLogSaysThatTheStoreIsEmpty(t *testing.T) {
	server := natstest.Start(t)
	j := &journal{}
	a := join(t, natstest.Dial(t, server.URL()), Config{Node: "a", Log: j.log()})
	check := unharmed(t, a, a)
	server.Kill()
	server.RestartEmpty(t)
	for _, text := range []string{"own record was gone from the store, written again", "the registry's bucket was made anew"} {
		natstest.Eventually(t, "the log tells: "+text, func() bool { return len(j.lines(slog.LevelWarn, text)) == 1 })
	}
	check()
}

func TestDeletedBucketsAreMadeAgain(t *testing.T) {
	mem := natstest.Memory(t)
	a := join(t, mem.Dial(t), Config{Node: "a"})
	b := join(t, mem.Dial(t), Config{Node: "b"})
	waitFor(t, b, "a", "b")
	check := unharmed(t, b, a)
	st := a.session.store
	for _, stream := range []string{st.cluster.BeatStream(), st.cluster.RecordStream()} {
		if err := st.js.DeleteStream(t.Context(), stream); err != nil {
			t.Fatal(err)
		}
	}
	natstest.Eventually(t, "a is armed again", func() bool { return a.Check(t.Context()) == nil && a.Status().Armed })
	waitFor(t, a, "a", "b")
	check()
}

// Somebody deletes the consumer that would tell of a's crash.
func TestTripwireDeletedByHandIsArmedAgain(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		mem := natstest.Memory(t)
		a := join(t, mem.Dial(t), Config{Node: "a"})
		b := join(t, mem.Dial(t), Config{Node: "b"})
		waitFor(t, b, "a", "b")
		incarnation := a.Self().Incarnation
		st := a.session.store
		name := a.session.own.trip.armed()
		if err := st.js.DeleteConsumer(t.Context(), st.cluster.RecordStream(), name); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute)
		again := a.session.own.trip.armed()
		if again == "" || again == name {
			t.Fatalf("the tripwire is %q after a minute, was %q", again, name)
		}
		if _, err := st.js.PushConsumer(t.Context(), st.cluster.RecordStream(), again); err != nil {
			t.Errorf("the new tripwire: %v", err)
		}
		if m, _ := b.View().Member("a"); m.Incarnation != incarnation || m.State != Online {
			t.Errorf("b sees a as %+v", m)
		}
	})
}
