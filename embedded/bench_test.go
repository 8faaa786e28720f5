package embedded

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// BenchmarkStart is the time from Start to a connection that has had an answer
// from JetStream.
func BenchmarkStart(b *testing.B) {
	for _, c := range []struct {
		name string
		cfg  Config
	}{
		{"memory", Config{}},
		{"memory+listener", Config{Addr: "127.0.0.1:0"}},
		{"disk", Config{Dir: b.TempDir()}},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				s, err := Start(b.Context(), c.cfg)
				if err != nil {
					b.Fatal(err)
				}
				js, err := jetstream.New(s.Conn())
				if err != nil {
					b.Fatal(err)
				}
				if _, err := js.AccountInfo(b.Context()); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

// BenchmarkClose is the time that Close takes.
func BenchmarkClose(b *testing.B) {
	for _, c := range []struct {
		name string
		cfg  Config
	}{
		{"memory", Config{}},
		{"listener", Config{Addr: "127.0.0.1:0"}},
		{"disk", Config{Dir: b.TempDir()}},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				s, err := Start(b.Context(), c.cfg)
				if err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkWrite is the price of SyncEvery: one acknowledged write.
func BenchmarkWrite(b *testing.B) {
	for _, c := range []struct {
		name    string
		cfg     Config
		storage jetstream.StorageType
	}{
		{"synced", Config{Dir: b.TempDir()}, jetstream.FileStorage},
		{"every 10s", Config{Dir: b.TempDir(), SyncEvery: 10 * time.Second}, jetstream.FileStorage},
		{"memory", Config{}, jetstream.MemoryStorage},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := start(b, c.cfg)
			js, err := jetstream.New(s.Conn())
			if err != nil {
				b.Fatal(err)
			}
			_, err = js.CreateOrUpdateStream(b.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}, Storage: c.storage})
			if err != nil {
				b.Fatal(err)
			}
			payload := make([]byte, 256)
			for b.Loop() {
				if _, err := js.Publish(b.Context(), "s.x", payload); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
