package hosts

import (
	"os"
	"testing"

	"github.com/catga/catga-go/internal/natstest"
)

// roles are what this program does in a host instead of testing: see
// machine_test.go and holder_test.go.
var roles = map[string]func() error{}

const envRole = "CATGA_HOSTS_ROLE"

func TestMain(m *testing.M) {
	if role, ok := roles[os.Getenv(envRole)]; ok {
		if err := role(); err != nil {
			println(err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}
	natstest.Main(m)
}
