// Package machines_test runs clusters whose NATS servers are embedded in
// processes of their own, as on three machines, and kills and replaces them
// under load.
//
//	go test ./integration_test/machines                                  # some kills
//	go test ./integration_test/machines -v -timeout 0 -kills 100         # and many
//	go test ./integration_test/machines -run Kills -seed 42              # the same ones again
package machines_test

import (
	"flag"
	"os"
	"testing"

	"github.com/catga/catga-go/internal/natstest"
)

var (
	kills = flag.Int("kills", 4, "how often one of three servers is killed")
	moves = flag.Int("moves", 3, "how many of the three servers are replaced, 3 at most")
	seed  = flag.Uint64("seed", 0, "of the kills; 0 = another one each time")
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(machineEnv); spec != "" {
		os.Exit(machineMain(spec)) // this process is a server of a test
	}
	natstest.Main(m)
}
