package provision

import (
	"testing"

	"github.com/catga/catga-go/internal/natstest"
)

func TestMain(m *testing.M) { natstest.Main(m) }
