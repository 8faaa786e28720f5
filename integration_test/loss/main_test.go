// Package loss_test sends durable messages to all kinds of targets from and to
// real processes that are killed, stopped and restarted, on NATS servers that
// are killed and restarted, and then holds what became of every message against
// what its sender was told.
//
//	go test ./integration_test/loss                                   # 2,000 messages on one server
//	go test ./integration_test/loss -v -timeout 0 -messages 100000    # and on three
//	go test ./integration_test/loss -run Three -seed 42               # the same faults again
//
// The servers sync their files as nats-server does by default: a process that
// is killed loses nothing that it has written, only a power cut would.
package loss_test

import (
	"flag"
	"os"
	"testing"

	"github.com/catga/catga-go/internal/natstest"
)

var (
	messages = flag.Int("messages", 2000, "how many are sent")
	rate     = flag.Int("rate", 1000, "how many are sent in a second")
	seed     = flag.Uint64("seed", 0, "of the faults and the messages; 0 = another one each time")
	logs     = flag.String("logs", "", "a folder for the logs of the nodes")
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(nodeEnv); spec != "" {
		os.Exit(nodeMain(spec)) // this process is a node of a test
	}
	natstest.Main(m)
}
