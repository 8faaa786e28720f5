package bench

import (
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

func TestMain(m *testing.M) {
	if InRole() {
		os.Exit(RunRole())
	}
	os.Exit(m.Run())
}

func TestServerComesBackWithWhatItStored(t *testing.T) {
	for _, n := range []int{1, 3} {
		ss, err := StartServers(n)
		if err != nil {
			t.Fatal(err)
		}
		defer ss.Close()
		nc, err := nats.Connect(ss.URL(), nats.MaxReconnects(-1))
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		js, err := nc.JetStream()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := js.AddStream(&nats.StreamConfig{Name: "S", Subjects: []string{"s"}, Replicas: n}); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			// A stream has no leader for a moment after an election.
			if _, err := js.Publish("s", nil, nats.RetryAttempts(100)); err != nil {
				t.Fatal(err)
			}
		}
		nc.Close()
		u, err := ss.Usage()
		if err != nil || u.Memory == 0 || u.InMsgs < 10 {
			t.Errorf("usage %+v, %v", u, err)
		}
		for _, s := range ss.All() {
			s.Kill()
		}
		if err := ss.Restart(); err != nil {
			t.Fatal(err)
		}
		if nc, err = nats.Connect(ss.URL()); err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		if js, err = nc.JetStream(); err != nil {
			t.Fatal(err)
		}
		// A question that comes before there is a leader is not answered.
		info, err := js.StreamInfo("S")
		for begin := time.Now(); err != nil && time.Since(begin) < time.Minute; {
			info, err = js.StreamInfo("S")
		}
		if err != nil || info.State.Msgs != 10 {
			t.Errorf("%d servers: %+v, %v", n, info, err)
		}
		dir := ss.dir
		ss.Close()
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("the store is left: %v", err)
		}
	}
}
