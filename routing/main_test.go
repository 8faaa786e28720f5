package routing

import (
	"os"
	"testing"

	"github.com/catga/catga-go/internal/natstest"
)

func TestMain(m *testing.M) {
	if os.Getenv(durableChildEnv) != "" {
		durableChild() // a node process of a test; does not return
	}
	natstest.Main(m)
}
