//go:build unix

package embedded

import (
	"os"
	"path/filepath"
	"testing"
)

func TestDirIsForThisUserOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	start(t, Config{Dir: dir})
	for path, want := range map[string]os.FileMode{
		dir: 0o700, filepath.Join(dir, lockFile): 0o600, filepath.Join(dir, markerFile): 0o600, filepath.Join(dir, storeDir): 0o700,
	} {
		if i, err := os.Stat(path); err != nil || i.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, i, err)
		}
	}
}
