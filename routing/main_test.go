package routing

import (
	"os"
	"testing"

	"github.com/catga/catga-go/internal/natstest"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		childMain() // a node process of a test; does not return
	}
	if os.Getenv(durableChildEnv) != "" {
		durableChild() // the same for durable messages
	}
	natstest.Main(m)
}
