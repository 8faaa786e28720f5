//go:build unix

package membership

import (
	"strings"
	"testing"
)

func TestTooManyMembersForTheOpenFiles(t *testing.T) {
	if err := filesFor(10); err != nil {
		t.Error(err)
	}
	err := filesFor(1 << 40)
	if err == nil || !strings.Contains(err.Error(), "ulimit -Hn") {
		t.Errorf("got %v", err)
	}
}
