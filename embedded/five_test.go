package embedded

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/catga/catga-go/internal/natstest"
)

func TestFiveServersMayLoseTwo(t *testing.T) {
	cfgs := configs(t, 5)
	servers := startAll(t, cfgs)
	nc := natstest.Dial(t, urls(servers...))
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(within(t, 20*time.Second), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}, Replicas: 5}); err != nil {
		t.Fatal(err)
	}
	stored := uint64(0)
	write := func(n int) {
		t.Helper()
		for range n {
			if err := put(within(t, time.Minute), js, fmt.Sprint(stored)); err != nil {
				t.Fatal(err)
			}
			stored++
		}
	}
	write(20)
	for i := range 2 {
		if err := servers[i].Close(); err != nil {
			t.Fatal(err)
		}
	}
	write(20) // three of five go on
	if err := servers[2].Close(); err != nil {
		t.Fatal(err)
	}
	// Two of five acknowledge nothing. What was tried may be stored later.
	if err := put(within(t, 3*time.Second), js, "too few"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("stored by two of five: %v", err)
	}
	peers, err := servers[3].Peers()
	if err != nil {
		t.Fatal(err)
	}
	online := 0
	for _, p := range peers {
		if p.Online {
			online++
		}
	}
	if len(peers) != 5 || online != 2 {
		t.Errorf("%d of %d are there: %+v", online, len(peers), peers)
	}
	// One of the lost comes back, then the others: all goes on with nothing missing.
	servers = append(servers[3:], startAll(t, cfgs[:1])...)
	write(20)
	servers = append(servers, startAll(t, cfgs[1:3])...)
	write(20)
	ctx := within(t, time.Minute)
	if err := complete(ctx, js, "S", 5); err != nil {
		t.Fatal(err)
	}
	all := messages(t, nc)
	if all != stored && all != stored+1 {
		t.Errorf("%d messages of %d", all, stored)
	}
	for _, s := range servers {
		if n := messages(t, s.Conn()); n != all {
			t.Errorf("%d messages instead of %d", n, all)
		}
	}
}
