// Wordcount counts the files, lines and words of every .go file below a folder
// with worker processes: the coordinator sends one message per file to any
// worker, the workers count and report back, and each file is counted once
// however often its message was delivered. Then it counts the same files in one
// plain pass and compares.
//
//	go run ./examples/wordcount            counts the Go source tree
//	go run ./examples/wordcount -kill 1    kills a worker half-way
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"
)

// workerURL is the environment variable that tells a worker where NATS is.
const workerURL = "WORDCOUNT_NATS_URL"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	interrupted := ctx.Err() != nil
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil && interrupted:
		fmt.Fprintln(os.Stderr, "wordcount: interrupted")
		os.Exit(130)
	case err != nil:
		fmt.Fprintln(os.Stderr, "wordcount:", strings.ReplaceAll(err.Error(), "\n", "; "))
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("wordcount", flag.ContinueOnError)
	flags.SetOutput(stderr)
	var (
		dir     = flags.String("dir", "", "count the .go files below this `folder` (default: the source of Go itself)")
		workers = flags.Int("workers", 3, "how many worker `processes` to start")
		kill    = flags.Int("kill", 0, "kill this many `workers` half-way, while they hold work")
		url     = flags.String("url", "", "use the NATS server at this `url` (default: embed one)")
		asJSON  = flags.Bool("json", false, "print one JSON object in place of the table")
		worker  = flags.String("worker", "", "internal: be the worker of that id")
		name    = flags.String("cluster", "", "internal: the cluster of a worker")
	)
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return errors.New("bad usage")
	}
	if *worker != "" {
		if err := runWorker(ctx, os.Getenv(workerURL), *name, *worker, stdin); err != nil {
			return fmt.Errorf("%s: %w", *worker, err)
		}
		return nil
	}
	switch {
	case flags.NArg() > 0:
		return fmt.Errorf("unexpected argument %q: use -dir for the folder", flags.Arg(0))
	case *workers < 1 || *workers > 64:
		return fmt.Errorf("-workers %d: use 1 to 64", *workers)
	case *kill < 0 || *kill >= *workers:
		return fmt.Errorf("-kill %d of %d workers: one must be left", *kill, *workers)
	}
	files, err := find(ctx, *dir)
	if err != nil {
		return err
	}

	j := &job{
		cluster: "wordcount-" + strings.ToLower(rand.Text()[:8]),
		files:   files, workers: *workers, kill: *kill, url: *url,
		bar: newProgress(stderr, len(files), !*asJSON && isTerminal(stderr)),
	}
	res, err := j.run(ctx)
	j.bar.end()
	if err != nil {
		return err
	}
	start := time.Now()
	plain, err := countAll(ctx, files)
	if err != nil {
		return err
	}
	plainSeconds := time.Since(start).Seconds()
	r := newReport(j, res, plain)
	if *asJSON {
		err = r.writeJSON(stdout)
	} else {
		err = writeTable(stdout, r, res, plainSeconds)
	}
	return errors.Join(err, r.check(plain))
}

// find returns the files below dir, by default below the source of Go.
func find(ctx context.Context, dir string) ([]string, error) {
	if dir == "" {
		out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
		if err != nil {
			return nil, fmt.Errorf("go env GOROOT: %w: name a folder with -dir", err)
		}
		dir = filepath.Join(strings.TrimSpace(string(out)), "src")
	}
	dir, err := filepath.Abs(dir) // workers need not share our working folder
	if err != nil {
		return nil, err
	}
	files, err := findGoFiles(dir)
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no .go files below %s", dir)
	}
	return files, nil
}

// countAll counts the files in one plain pass.
func countAll(ctx context.Context, files []string) (total figures, err error) {
	for _, path := range files {
		if ctx.Err() != nil {
			return total, context.Cause(ctx)
		}
		f, err := countFile(path)
		if err != nil {
			return total, err
		}
		total.add(f)
	}
	return total, nil
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
