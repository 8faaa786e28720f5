package provision

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/catga/catga-go/internal/natstest"
)

func wanted() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: "S", Subjects: []string{"s.>"}, Discard: jetstream.DiscardNew, MaxMsgsPerSubject: 1,
		RePublish:   &jetstream.RePublish{Source: "s.>", Destination: "r.>"},
		AllowDirect: true, AllowRollup: true, AllowMsgTTL: true, SubjectDeleteMarkerTTL: 10 * time.Minute,
		MaxMsgs: -1, MaxBytes: -1,
	}
}

func connect(t *testing.T, nc *nats.Conn) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func TestEnsureMakesAndFinds(t *testing.T) {
	js := connect(t, natstest.Memory(t).Dial(t))
	for range 2 {
		s, err := Ensure(t.Context(), js, Stream{Config: wanted()})
		if err != nil {
			t.Fatal(err)
		}
		if got := s.CachedInfo().Config; got.Replicas != 1 || got.Storage != jetstream.MemoryStorage {
			t.Fatalf("made as %+v", got)
		}
	}
}

// TestEnsureByManyAtOnceInACluster: a server may know that a name is taken
// before it knows the stream.
func TestEnsureByManyAtOnceInACluster(t *testing.T) {
	c := natstest.StartCluster(t, 3)
	var all []jetstream.JetStream
	for i := range 12 {
		all = append(all, connect(t, natstest.Dial(t, c.Servers[i%3].URL())))
	}
	for round := range 5 {
		var wg sync.WaitGroup
		for i, js := range all {
			cfg := wanted()
			cfg.Name = fmt.Sprint("S", round)
			cfg.Subjects = []string{fmt.Sprintf("s%d.>", round)}
			cfg.RePublish = &jetstream.RePublish{Source: cfg.Subjects[0], Destination: fmt.Sprintf("r%d.>", round)}
			cfg.FirstSeq = uint64(1000 + i)
			wg.Go(func() {
				if _, err := Ensure(t.Context(), js, Stream{Config: cfg}); err != nil {
					t.Errorf("%s: %v", cfg.Name, err)
				}
			})
		}
		wg.Wait()
	}
}

func TestEnsureByManyAtOnce(t *testing.T) {
	mem := natstest.Memory(t)
	var wg sync.WaitGroup
	for i := range 16 {
		js := connect(t, mem.Dial(t))
		cfg := wanted()
		cfg.FirstSeq = uint64(1000 + i) // as by clocks that differ
		wg.Go(func() {
			if _, err := Ensure(context.Background(), js, Stream{Config: cfg}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestEnsureNamesEachDifference(t *testing.T) {
	for name, tc := range map[string]struct {
		edit func(*jetstream.StreamConfig)
		says []string
	}{
		"subjects":  {func(c *jetstream.StreamConfig) { c.Subjects = []string{"x.>"}; c.RePublish = nil }, []string{"subjects is [x.>]", "--subjects='x.>,s.>'", "republish is off, must be s.> -> r.>"}},
		"retention": {func(c *jetstream.StreamConfig) { c.Retention = jetstream.WorkQueuePolicy }, []string{"retention is", "nats stream rm S"}},
		"discard":   {func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld }, []string{"discard is", "--discard=new"}},
		"history":   {func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 5 }, []string{"max messages per subject is 5, must be 1", "--max-msgs-per-subject=1"}},
		"ttl":       {func(c *jetstream.StreamConfig) { c.AllowMsgTTL = false; c.SubjectDeleteMarkerTTL = 0 }, []string{"per-message TTL is off, must be on"}},
		"markers":   {func(c *jetstream.StreamConfig) { c.SubjectDeleteMarkerTTL = time.Minute }, []string{"TTL of delete markers is 1m0s, must be 10m0s", "--subject-del-markers-ttl=10m0s"}},
		"direct":    {func(c *jetstream.StreamConfig) { c.AllowDirect = false }, []string{"direct get is off", "--allow-direct"}},
		"limits":    {func(c *jetstream.StreamConfig) { c.MaxMsgs, c.MaxBytes, c.MaxAge = 10, 1<<20, time.Hour }, []string{"max messages is 10", "max bytes is 1048576", "max age is 1h0m0s", "--max-age=0s"}},
	} {
		t.Run(name, func(t *testing.T) {
			js := connect(t, natstest.Memory(t).Dial(t))
			have := wanted()
			have.Storage = jetstream.MemoryStorage
			tc.edit(&have)
			if _, err := js.CreateStream(t.Context(), have); err != nil {
				t.Fatal(err)
			}
			_, err := Ensure(t.Context(), js, Stream{Config: wanted()})
			if !errors.Is(err, ErrDiffers) {
				t.Fatalf("got %v", err)
			}
			for _, s := range append(tc.says, "nats stream") {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%v\n does not say %q", err, s)
				}
			}
			// Nothing was changed.
			s, err := js.Stream(t.Context(), "S")
			if err != nil {
				t.Fatal(err)
			}
			if len(differences(s.CachedInfo().Config, have)) != 0 {
				t.Errorf("the stream became %+v", s.CachedInfo().Config)
			}
		})
	}
}

func TestEnsureLeavesTheRestAlone(t *testing.T) {
	js := connect(t, natstest.Memory(t).Dial(t))
	have := wanted()
	have.Storage = jetstream.MemoryStorage
	have.Subjects = append(have.Subjects, "of.a.newer.version")
	have.Description = "mine"
	have.MaxConsumers = 7
	have.Duplicates = time.Minute
	have.SubjectDeleteMarkerTTL = time.Hour
	if _, err := js.CreateStream(t.Context(), have); err != nil {
		t.Fatal(err)
	}
	if _, err := Ensure(t.Context(), js, Stream{Config: wanted()}); err != nil {
		t.Fatal(err)
	}
}

func TestEnsureDoesNotProvisionWhenForbidden(t *testing.T) {
	js := connect(t, natstest.Memory(t).Dial(t))
	_, err := Ensure(t.Context(), js, Stream{Config: wanted(), NoProvision: true})
	if !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), "S") {
		t.Fatalf("got %v", err)
	}
}

func TestEnsureWithoutJetStream(t *testing.T) {
	server := natstest.Start(t, natstest.ConfigText(`
accounts { plain { users: [{user: u, password: p}] }, sys { users: [{user: s, password: p}] } }
system_account: sys`))
	js := connect(t, natstest.Dial(t, server.URL(), nats.UserInfo("u", "p")))
	_, err := Ensure(t.Context(), js, Stream{Config: wanted()})
	if !errors.Is(err, ErrNoJetStream) {
		t.Fatalf("got %v", err)
	}
}

func TestEnsureNamesTheMissingPermission(t *testing.T) {
	server := natstest.Start(t, natstest.ConfigText(`
accounts { a { jetstream: enabled, users: [
  {user: reader, password: p, permissions: {publish: ["$JS.API.STREAM.INFO.>"], subscribe: ">"}}
  {user: blind, password: p, permissions: {publish: ["x"], subscribe: ">"}}
] } }`))
	for user, subject := range map[string]string{"reader": "$JS.API.STREAM.CREATE.S", "blind": "$JS.API.STREAM.INFO.S"} {
		js := connect(t, natstest.Dial(t, server.URL(), nats.UserInfo(user, "p")))
		// The second time the connection's error is an old one.
		for range 2 {
			begin := time.Now()
			_, err := Ensure(t.Context(), js, Stream{Config: wanted()})
			if !errors.Is(err, ErrDenied) || !strings.Contains(err.Error(), subject) {
				t.Fatalf("%s: got %v, want a denial of %s", user, err, subject)
			}
			if took := time.Since(begin); took > 12*time.Second {
				t.Errorf("%s: said so after %v", user, took)
			}
		}
	}
}

func TestEnsureHonoursItsContext(t *testing.T) {
	server := natstest.Start(t)
	js := connect(t, natstest.Dial(t, server.URL()))
	server.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	begin := time.Now()
	_, err := Ensure(ctx, js, Stream{Config: wanted()})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("returned after %v", took)
	}
}

func TestVersions(t *testing.T) {
	for v, tooOld := range map[string]bool{"2.10.29": true, "2.11.0": false, "2.11.0-RC.1": false, "2.9.0": true, "2.15.2": false, "3.0.0": false, "1.4.1": true, "v2.10.1": true, "": false, "dev": false} {
		if got := older(v, MinServer); got != tooOld {
			t.Errorf("%q too old: %v", v, got)
		}
	}
}

// A cluster says in its own way that no server has the room.
func TestNoRoomOnACluster(t *testing.T) {
	c := natstest.StartCluster(t, 3, natstest.ConfigText("jetstream { max_file: 64MB }"))
	js, err := jetstream.New(natstest.Dial(t, c.URL()))
	if err != nil {
		t.Fatal(err)
	}
	cfg := jetstream.StreamConfig{Name: "BIG", Subjects: []string{"big"}, MaxBytes: 256 << 20}
	_, err = Ensure(t.Context(), js, Stream{Config: cfg})
	if !NoRoom(err) || !strings.Contains(err.Error(), "no room") {
		t.Fatalf("got %v", err)
	}
	cfg.MaxBytes = 1 << 20
	if _, err = Ensure(t.Context(), js, Stream{Config: cfg}); err != nil {
		t.Error(err)
	}
}
