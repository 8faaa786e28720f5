package embedded

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
)

func TestRestartKeepsDataAndName(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "here")
	s := start(t, Config{Dir: dir})
	js, _ := stream(t, s.Conn(), jetstream.FileStorage)
	for i := range 100 {
		if _, err := js.Publish(t.Context(), "s.x", []byte(strconv.Itoa(i))); err != nil {
			t.Fatal(err)
		}
	}
	name := s.Conn().ConnectedServerName()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = start(t, Config{Dir: dir})
	if n := messages(t, s.Conn()); n != 100 {
		t.Errorf("%d messages", n)
	}
	if again := s.Conn().ConnectedServerName(); again != name || !strings.HasPrefix(name, "catga-") {
		t.Errorf("name %q, then %q", name, again)
	}
	if other := start(t, Config{}).Conn().ConnectedServerName(); other == name {
		t.Errorf("two servers are called %q", name)
	}
}

func TestRelativeDir(t *testing.T) {
	t.Chdir(t.TempDir())
	s := start(t, Config{Dir: "data"})
	t.Chdir(t.TempDir()) // the server stays where it is
	stream(t, s.Conn(), jetstream.FileStorage)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat("data"); err == nil {
		t.Error("there are two directories")
	}
}

func TestDirLockedInThisProcess(t *testing.T) {
	dir := t.TempDir()
	s := start(t, Config{Dir: dir})
	_, err := Start(t.Context(), Config{Dir: dir})
	if !errors.Is(err, ErrDirLocked) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "another server of this process") {
		t.Errorf("err %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	start(t, Config{Dir: dir})
}

func TestDirUnusable(t *testing.T) {
	tmp := t.TempDir()
	file := filepath.Join(tmp, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "below"), "/proc/catga"} {
		_, err := Start(t.Context(), Config{Dir: dir})
		if !errors.Is(err, ErrDirUnusable) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

// What to do about a full disk is not what to do about a missing permission.
func TestFullDiskAdvice(t *testing.T) {
	for err, want := range map[error]string{
		&os.PathError{Op: "write", Path: "d/x", Err: syscall.ENOSPC}: "make room on its disk",
		&os.PathError{Op: "open", Path: "d/x", Err: syscall.EACCES}:  "let this user write it",
	} {
		if got := unusable("d", err); !errors.Is(got, ErrDirUnusable) || !strings.Contains(got.Error(), want) {
			t.Errorf("%v: %v", err, got)
		}
	}
}

func TestDirOfAnotherMode(t *testing.T) {
	t.Run("marked", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, markerFile), []byte(`{"version":1,"mode":"cluster","server":"a"}`), 0o600); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the refusal unlocks it
			_, err := Start(t.Context(), Config{Dir: dir})
			if !errors.Is(err, ErrDirMode) || !strings.Contains(err.Error(), `mode "cluster"`) {
				t.Errorf("err %v", err)
			}
		}
	})
	t.Run("of a clustered nats-server", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, "jetstream", "$SYS", "_js_", "_meta_"), 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := Start(t.Context(), Config{Dir: dir}); !errors.Is(err, ErrDirMode) {
			t.Errorf("err %v", err)
		}
	})
	t.Run("broken marker", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, markerFile), []byte(`{`), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Start(t.Context(), Config{Dir: dir}); !errors.Is(err, ErrDirUnusable) || !strings.Contains(err.Error(), markerFile) {
			t.Errorf("err %v", err)
		}
	})
}

func TestStreamHalfMadeByACrashIsRemoved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "with [meta] characters")
	s := start(t, Config{Dir: dir})
	js, _ := stream(t, s.Conn(), jetstream.FileStorage)
	if _, err := js.Publish(t.Context(), "s.x", nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	half := filepath.Join(dir, storeDir, "$G", "streams", "HALF")
	for _, sub := range []string{"msgs", "obs"} {
		if err := os.MkdirAll(filepath.Join(half, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s = start(t, Config{Dir: dir})
	if n := messages(t, s.Conn()); n != 1 {
		t.Errorf("%d messages", n)
	}
	if _, err := os.Stat(half); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestStreamDeletedByHalfDoesNotHinder(t *testing.T) {
	h := &server.HealthStatus{Errors: []server.HealthzError{
		{Type: server.HealthzErrorStream, Stream: ".S", Error: "deleted"},
	}}
	if got := unhealthy(h); got != "" {
		t.Error(got)
	}
	h.Errors = append(h.Errors, server.HealthzError{Type: server.HealthzErrorStream, Stream: "S", Error: "lost"})
	if got := unhealthy(h); got != "lost" {
		t.Error(got)
	}
}

func TestStreamThatCannotBeRecoveredIsNotPassedOver(t *testing.T) {
	dir := t.TempDir()
	s := start(t, Config{Dir: dir})
	js, _ := stream(t, s.Conn(), jetstream.FileStorage)
	if _, err := js.Publish(t.Context(), "s.x", nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	meta := filepath.Join(dir, storeDir, "$G", "streams", "S", "meta.inf")
	if err := os.WriteFile(meta, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := Start(ctx, Config{Dir: dir})
	if !errors.Is(err, ErrNotReady) || !strings.Contains(err.Error(), "$G > S") {
		t.Errorf("err %v", err)
	}
	if err := os.RemoveAll(filepath.Dir(meta)); err != nil {
		t.Fatal(err)
	}
	start(t, Config{Dir: dir})
}

// A child process is this test binary with a directory in the environment. It
// starts a server, prints "ready" or the error, and writes messages, each of
// which it prints after its ack, until it is killed.
const childEnv = "CATGA_EMBEDDED_CHILD"

func child(dir string) int {
	ctx := context.Background()
	s, err := Start(ctx, Config{Dir: dir})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("ready")
	js, err := jetstream.New(s.Conn())
	if err != nil {
		fmt.Println(err)
		return 1
	}
	_, err = js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}})
	for i := 1; err == nil; i++ {
		if _, err = js.Publish(ctx, "s.x", nil); err == nil {
			fmt.Println(i)
		}
	}
	fmt.Println(err)
	return 1
}

// spawn starts a child and returns its lines.
func spawn(t *testing.T, dir string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd, bufio.NewScanner(out)
}

func TestDirLockedByAnotherProcess(t *testing.T) {
	dir := t.TempDir()
	cmd, lines := spawn(t, dir)
	if !lines.Scan() || lines.Text() != "ready" {
		t.Fatal(lines.Text())
	}
	_, err := Start(t.Context(), Config{Dir: dir})
	if !errors.Is(err, ErrDirLocked) || !strings.Contains(err.Error(), fmt.Sprintf("process %d", cmd.Process.Pid)) {
		t.Errorf("err %v", err)
	}
	// And the other way round.
	mine := t.TempDir()
	start(t, Config{Dir: mine})
	_, lines = spawn(t, mine)
	if !lines.Scan() || !strings.Contains(lines.Text(), fmt.Sprintf("in use by process %d", os.Getpid())) {
		t.Error(lines.Text())
	}
}

func TestKilledProcessLosesNothingAcknowledged(t *testing.T) {
	dir := t.TempDir()
	acked, total := 0, uint64(0)
	for round := range 3 {
		cmd, lines := spawn(t, dir)
		if !lines.Scan() || lines.Text() != "ready" {
			t.Fatal(lines.Text())
		}
		for i := 0; i < 50*(round+1) && lines.Scan(); i++ {
			acked++
		}
		if err := cmd.Process.Kill(); err != nil { // SIGKILL: the lock goes with it
			t.Fatal(err)
		}
		for lines.Scan() { // what it printed meanwhile
			acked++
		}
		_ = cmd.Wait()
		s := start(t, Config{Dir: dir})
		total = messages(t, s.Conn())
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if total < uint64(acked) {
			t.Fatalf("round %d: %d messages, %d were acknowledged", round, total, acked)
		}
	}
	t.Logf("%d acknowledged, %d stored", acked, total)
}
