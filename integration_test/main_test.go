// Package integration_test runs whole programs over the public API: several
// processes, real TCP, real disks, and faults. Each scenario runs on three
// grounds: NATS embedded in memory, one separate nats-server process with a
// file store, and three of them as a replicated cluster.
package integration_test

import (
	"os"
	"testing"

	"github.com/catga/catga-go/internal/natstest"
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(nodeEnv); spec != "" {
		os.Exit(nodeMain(spec)) // this process is a node of a test
	}
	natstest.Main(m, suite.end)
}
