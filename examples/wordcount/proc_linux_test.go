package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// children waits until the process has n children and returns them.
func children(t *testing.T, pid, n int) []int {
	t.Helper()
	var found []int
	poll(t, "children of the program", func() bool {
		found = found[:0]
		stats, err := filepath.Glob("/proc/[0-9]*/stat")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range stats {
			data, err := os.ReadFile(name)
			if err != nil {
				continue
			}
			// pid (command) state ppid ...
			_, rest, _ := strings.Cut(string(data), ") ")
			fields := strings.Fields(rest)
			child, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			if err == nil && len(fields) > 1 && fields[1] == strconv.Itoa(pid) {
				found = append(found, child)
			}
		}
		return len(found) == n
	})
	return found
}

func waitGone(t *testing.T, pid int) {
	t.Helper()
	poll(t, "the end of a worker", func() bool { return syscall.Kill(pid, 0) != nil })
}

func poll(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("not within 30 s: " + what)
		}
	}
}

func TestInterruptLeavesNoProcess(t *testing.T) {
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGKILL} {
		t.Run(sig.String(), func(t *testing.T) {
			// Enough files that the run is half-way when the signal comes.
			cmd, _, stderr := program(t, "-json")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			workers := children(t, cmd.Process.Pid, 3)
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			for _, pid := range workers {
				waitGone(t, pid)
			}
			if sig == os.Interrupt {
				if code := cmd.ProcessState.ExitCode(); code != 130 || stderr.String() != "wordcount: interrupted\n" {
					t.Errorf("exit code %d, stderr %q", code, stderr)
				}
			}
		})
	}
}
