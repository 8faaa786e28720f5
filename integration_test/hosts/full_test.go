//go:build hosts && linux

package hosts

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/catga/catga-go/embedded"
)

// TestStartOnAFullDisk starts a server on a disk without room, with a new
// directory and with one that holds a stream, and again when there is room.
func TestStartOnAFullDisk(t *testing.T) {
	disk := t.TempDir()
	run(t, "mount", "-t", "tmpfs", "-o", "size=2M", "tmpfs", disk)
	t.Cleanup(func() { run(t, "umount", disk) })
	dir, filler := filepath.Join(disk, "d"), filepath.Join(disk, "full")
	for _, there := range []bool{false, true} {
		run(t, "sh", "-c", "cat /dev/zero >"+filler+" 2>/dev/null; true")
		_, err := embedded.Start(t.Context(), embedded.Config{Dir: dir})
		if !errors.Is(err, embedded.ErrDirUnusable) || !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "make room on its disk") {
			t.Errorf("directory is there %v: %v", there, err)
		}
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		s, err := embedded.Start(t.Context(), embedded.Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
