package embedded

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Layout of a directory: catga.lock and catga.pid (lock.go), catga.json (below)
// and nats-server's own folder jetstream.
const (
	markerFile = "catga.json"
	storeDir   = "jetstream"
)

// The modes: a server that is no part of a cluster, and one that is.
const (
	modeAlone   = "alone"
	modeCluster = "cluster"
)

// marker says who a directory belongs to. Its JSON is on users' disks: fields
// are added, never renamed.
type marker struct {
	Version int    `json:"version"`
	Mode    string `json:"mode"`
	Server  string `json:"server"` // name of the server, unique and kept for ever
	Cluster string `json:"cluster,omitempty"`
}

// dir is a directory that this server has for itself.
type dir struct {
	path string
	lock *dirLock
	mark marker
}

// openDir makes, locks and marks a directory for a server as want says, whose
// name may be empty.
func openDir(path string, want marker) (_ *dir, err error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, unusable(path, err)
	}
	lock, err := lockDir(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = lock.release()
		}
	}()
	d := &dir{path: path, lock: lock}
	if d.mark, err = readMarker(path); errors.Is(err, fs.ErrNotExist) {
		err = d.adopt(want)
	}
	if err == nil {
		err = d.fits(want)
	}
	if err != nil {
		return nil, err
	}
	return d, nil
}

// fits returns an error where the directory is another one than wanted.
func (d *dir) fits(want marker) error {
	switch {
	case d.mark.Mode != want.Mode:
		return wrongMode(d.path, d.mark.Mode, want.Mode)
	case d.mark.Cluster != want.Cluster:
		return &fault{is: ErrDirMode, text: fmt.Sprintf(
			"directory %s belongs to the cluster %q, not to %q: correct Cluster.Name, or choose another directory", d.path, d.mark.Cluster, want.Cluster)}
	case want.Server != "" && d.mark.Server != want.Server:
		return &fault{is: ErrDirMode, text: fmt.Sprintf(
			"directory %s belongs to the server %q, not to %q: correct Name or leave it empty, or choose another directory", d.path, d.mark.Server, want.Server)}
	}
	return nil
}

func readMarker(path string) (marker, error) {
	file := filepath.Join(path, markerFile)
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return marker{}, err
	}
	if err != nil {
		return marker{}, unusable(path, err)
	}
	var m marker
	if err := json.Unmarshal(text, &m); err != nil || m.Mode == "" || m.Server == "" {
		return marker{}, &fault{is: ErrDirUnusable, errs: []error{err}, text: fmt.Sprintf(
			"%s cannot be read (%v): restore it, or remove it if a server that stands alone made the directory", file, err)}
	}
	return m, nil
}

// adopt marks a directory that has no marker: a new one, or the store of a
// plain nats-server in the same mode.
func (d *dir) adopt(want marker) error {
	mode := want.Mode
	if _, err := os.Stat(metaDir(d.path)); err == nil {
		mode = modeCluster
	} else if _, err := os.Stat(filepath.Join(d.path, storeDir)); err == nil {
		mode = modeAlone
	}
	if mode != want.Mode {
		return wrongMode(d.path, mode, want.Mode)
	}
	d.mark = want
	d.mark.Version, d.mark.Server = 1, cmp.Or(want.Server, serverName())
	text, err := json.MarshalIndent(d.mark, "", "\t")
	if err != nil {
		return err
	}
	if err := writeSynced(filepath.Join(d.path, markerFile), append(text, '\n')); err != nil {
		return unusable(d.path, err)
	}
	return nil
}

func wrongMode(path, mode, want string) error {
	return &fault{is: ErrDirMode, text: fmt.Sprintf(
		"directory %s was made in mode %q and would lose its streams in mode %q: start it as before and call Server.Backup, then start with an empty directory and call Server.Restore",
		path, mode, want)}
}

// serverName makes a name that no other server has.
func serverName() string { return "catga-" + strings.ToLower(rand.Text()[:10]) }

// writeSynced replaces a file as a whole: after a power cut it has its old or
// its new content.
func writeSynced(file string, content []byte) error {
	tmp := file + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(tmp, file)
}

// removeHalfMade removes streams whose creation was cut short by a crash, and
// returns their folders. nats-server would neither recover them nor say that it
// is healthy as long as they are there. Nobody was told that such a stream
// exists: its folder lacks the last file of a creation and holds no message.
func (d *dir) removeHalfMade() (removed []string) {
	streams, _ := fs.Glob(os.DirFS(d.path), storeDir+"/*/streams/*")
	for _, name := range streams {
		s := filepath.Join(d.path, filepath.FromSlash(name))
		if _, err := os.Stat(filepath.Join(s, "meta.sum")); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if holdsData(s) || os.RemoveAll(s) != nil {
			continue
		}
		removed = append(removed, s)
	}
	return removed
}

// holdsData tells whether a stream's folder may hold a message or a consumer.
func holdsData(stream string) bool {
	for _, sub := range []string{"msgs", "obs"} {
		files, err := os.ReadDir(filepath.Join(stream, sub))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return true
		}
		for _, f := range files {
			if i, err := f.Info(); err != nil || i.IsDir() || i.Size() > 0 {
				return true
			}
		}
	}
	return false
}

func (d *dir) close() error { return d.lock.release() }
