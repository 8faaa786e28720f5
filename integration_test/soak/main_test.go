// Package soak_test lets a cluster of real processes run while processes,
// connections and NATS servers fail at random, and then holds what every node
// has seen against what was done to it.
//
//	go test ./integration_test/soak                          # some seconds
//	go test ./integration_test/soak -timeout 0 -soak 1h      # an hour on one server, and one on three
//	go test ./integration_test/soak -run Three -seed 42      # the same faults again
//
// The script of the faults is a function of the seed. The checker is tested by
// histories that it must complain about.
package soak_test

import (
	"flag"
	"os"
	"testing"
	"time"

	"github.com/catga/catga-go/internal/natstest"
)

var (
	length   = flag.Duration("soak", 20*time.Second, "for how long there are faults")
	seed     = flag.Uint64("seed", 0, "of the script of faults; 0 = another one each time")
	logs     = flag.String("logs", "", "a folder for the logs of the nodes")
	rounds   = flag.Int("rounds", 4, "of servers that fail: an even number has the leader of the records fail in half of them")
	members  = flag.Int("members", 8, "of the rounds")
	numNodes = flag.Int("nodes", 6, "how many nodes there are")
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(nodeEnv); spec != "" {
		os.Exit(nodeMain(spec)) // this process is a node of a soak
	}
	natstest.Main(m)
}
