package main

import (
	"bufio"
	"context"
	"net"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"
)

// asProgram makes the test binary the program itself.
const asProgram = "QUICKSTART_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// start runs the program and returns what it prints, line by line.
func start(t *testing.T, listen string, args ...string) (*exec.Cmd, <-chan string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1", "LISTEN="+listen)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines, ended := make(chan string, 100), make(chan struct{})
	go func() {
		defer close(ended)
		for in := bufio.NewScanner(out); in.Scan(); {
			lines <- in.Text()
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		_ = cmd.Wait()
	})
	return cmd, lines
}

// await reads lines until all of want were there, in any order.
func await(t *testing.T, lines <-chan string, want ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for len(want) > 0 {
		select {
		case line := <-lines:
			want = slices.DeleteFunc(want, func(w string) bool { return w == line })
		case <-ctx.Done():
			t.Fatalf("still missing: %q", want)
		}
	}
}

func TestTwoTerminals(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}

	_, one := start(t, addr, "n1")
	await(t, one, "Joined n1", "Synced")
	second, two := start(t, addr, "n2", "nats://"+addr)
	await(t, one, "Joined n2", "n2 says hello n1")
	await(t, two, "Joined n1", "n1 says hello n2")
	if err := second.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	await(t, one, "Left n2")
}
