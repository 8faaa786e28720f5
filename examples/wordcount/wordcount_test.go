package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/catga/catga-go/embedded"
)

// asProgram makes the test binary the program itself, so that it can start
// workers and be killed.
const asProgram = "WORDCOUNT_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func program(t *testing.T, args ...string) (cmd *exec.Cmd, stdout, stderr *bytes.Buffer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	cmd = exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	stdout, stderr = &bytes.Buffer{}, &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	return cmd, stdout, stderr
}

// tree makes a folder with n .go files, of 0 to 49 times size lines, and some others.
func tree(t *testing.T, n, size int) string {
	t.Helper()
	dir := t.TempDir()
	for i := range n {
		sub := filepath.Join(dir, fmt.Sprint("d", i%7))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			t.Fatal(err)
		}
		text := strings.Repeat("package p // one two three\n", size*(i%50))
		for name, text := range map[string]string{"f%d.go": text, "f%d.txt": "not counted\n"} {
			if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf(name, i)), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

func TestCountMatchesThePlainPass(t *testing.T) {
	cmd, stdout, stderr := program(t, "-json", "-dir", tree(t, 500, 1))
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s%s", err, stdout, stderr)
	}
	var r report
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	// 500 files, of i mod 50 lines of 6 words.
	if want := int64(10 * 49 * 50 / 2); !r.Match || r.Files != 500 || r.Lines != want || r.Words != 6*want || r.Workers != 3 || r.Killed != 0 {
		t.Fatalf("%+v", r)
	}
	if stderr.Len() > 0 {
		t.Errorf("not quiet: %s", stderr)
	}
}

func TestKilledWorkerLosesNothing(t *testing.T) {
	cmd, stdout, stderr := program(t, "-dir", tree(t, 4000, 20), "-kill", "1")
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s%s", err, stdout, stderr)
	}
	for _, want := range []string{"every figure equals the plain pass", "1 worker(s) killed half-way", "redelivered"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
	}
}

func TestOnAnExistingServerNothingIsLeft(t *testing.T) {
	srv, err := embedded.Start(t.Context(), embedded.Config{Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	cmd, stdout, stderr := program(t, "-json", "-dir", tree(t, 50, 1), "-workers", "1", "-url", srv.ClientURL())
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s%s", err, stdout, stderr)
	}
	reply, err := srv.Conn().Request("$JS.API.STREAM.NAMES", nil, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(reply.Data), "wordcount") {
		t.Errorf("left behind: %s", reply.Data)
	}
}

func TestBadInputGetsOneLine(t *testing.T) {
	dangling := tree(t, 3, 1)
	if err := os.Symlink("nowhere", filepath.Join(dangling, "dangling.go")); err != nil {
		t.Fatal(err)
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0") // a port that nobody listens on
	if err != nil {
		t.Fatal(err)
	}
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"no such folder":  {[]string{"-dir", "/no/such/folder"}, "/no/such/folder"},
		"no files":        {[]string{"-dir", t.TempDir()}, "no .go files"},
		"unreadable file": {[]string{"-dir", dangling}, "dangling.go"},
		"no server":       {[]string{"-dir", tree(t, 1, 1), "-url", "nats://" + closed.Addr().String()}, closed.Addr().String()},
		"not a url":       {[]string{"-dir", tree(t, 1, 1), "-url", "http://x y"}, "x y"},
		"kill all":        {[]string{"-kill", "3"}, "one must be left"},
		"no workers":      {[]string{"-workers", "0"}, "-workers 0"},
		"stray argument":  {[]string{"folder"}, `"folder"`},
	} {
		t.Run(name, func(t *testing.T) {
			cmd, stdout, stderr := program(t, tc.args...)
			err := cmd.Run()
			if code := cmd.ProcessState.ExitCode(); code != 1 {
				t.Errorf("exit code %d: %v", code, err)
			}
			if got := stderr.String(); strings.Count(got, "\n") != 1 || !strings.HasPrefix(got, "wordcount: ") || !strings.Contains(got, tc.want) {
				t.Errorf("stderr %q, want one line with %q", got, tc.want)
			}
			if stdout.Len() > 0 {
				t.Errorf("stdout %q", stdout)
			}
		})
	}
}
