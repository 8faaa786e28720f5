package provision

import (
	"context"
	"encoding/json"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/catga/catga-go/internal/natstest"
)

func flush(t *testing.T, nc *nats.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := nc.FlushWithContext(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestEnsureAsksSoonAgainWhereNobodyAnswers: a stream that is being made has no
// leader for a moment, and what is asked then is never answered.
func TestEnsureAsksSoonAgainWhereNobodyAnswers(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		mem := natstest.Memory(t)
		api := mem.Dial(t)
		var asked atomic.Int64
		answer := func(m *nats.Msg, body any) {
			data, err := json.Marshal(body)
			if err != nil {
				t.Error(err)
			}
			if err := m.Respond(data); err != nil {
				t.Error(err)
			}
		}
		if _, err := api.Subscribe("api.STREAM.INFO.S", func(m *nats.Msg) {
			if asked.Add(1) > 2 {
				answer(m, jetstream.StreamInfo{Config: wanted()})
			}
		}); err != nil {
			t.Fatal(err)
		}
		flush(t, api)
		js, err := jetstream.NewWithAPIPrefix(mem.Dial(t), "api")
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if _, err := Ensure(t.Context(), js, Stream{Config: wanted()}); err != nil {
			t.Fatal(err)
		}
		// Two requests are lost: the second is given twice the time of the first.
		if took, most := time.Since(begin), 3*firstLimit+3*firstWait+2*denialPoll; took > most {
			t.Errorf("took %v, more than %v", took, most)
		}
		if n := asked.Load(); n != 3 {
			t.Errorf("asked %d times", n)
		}
	})
}

// TestEnsureWaitsForTheLimitsOfTheAccount: a stream is not made in the wrong
// store because the answer about the limits is late.
func TestEnsureWaitsForTheLimitsOfTheAccount(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T) {
		mem := natstest.Memory(t)
		api := mem.Dial(t)
		var asked atomic.Int64
		made := make(chan jetstream.StorageType, 1)
		for subject, answer := range map[string]func(m *nats.Msg) string{
			"api.STREAM.INFO.S": func(*nats.Msg) string {
				return `{"error":{"code":404,"err_code":10059,"description":"stream not found"}}`
			},
			"api.INFO": func(*nats.Msg) string {
				if asked.Add(1) == 1 {
					return ""
				}
				return `{"limits":{"max_storage":0,"max_memory":-1}}`
			},
			"api.STREAM.CREATE.S": func(m *nats.Msg) string {
				var cfg jetstream.StreamConfig
				if err := json.Unmarshal(m.Data, &cfg); err != nil {
					t.Error(err)
				}
				made <- cfg.Storage
				data, err := json.Marshal(jetstream.StreamInfo{Config: cfg})
				if err != nil {
					t.Error(err)
				}
				return string(data)
			},
		} {
			if _, err := api.Subscribe(subject, func(m *nats.Msg) {
				if text := answer(m); text != "" {
					if err := m.Respond([]byte(text)); err != nil {
						t.Error(err)
					}
				}
			}); err != nil {
				t.Fatal(err)
			}
		}
		flush(t, api)
		js, err := jetstream.NewWithAPIPrefix(mem.Dial(t), "api")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Ensure(t.Context(), js, Stream{Config: wanted()}); err != nil {
			t.Fatal(err)
		}
		if got := <-made; got != jetstream.MemoryStorage {
			t.Errorf("made in %v", got)
		}
	})
}
