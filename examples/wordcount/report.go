package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/schollz/progressbar/v3"
)

// progress shows how far the run is, or nothing.
type progress struct{ bar *progressbar.ProgressBar }

func newProgress(w io.Writer, files int, visible bool) progress {
	if !visible {
		return progress{}
	}
	return progress{progressbar.NewOptions(files,
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetDescription("counting"),
		progressbar.OptionShowCount(),
		progressbar.OptionThrottle(50*time.Millisecond),
		progressbar.OptionClearOnFinish(),
	)}
}

func (p progress) step() {
	if p.bar != nil {
		_ = p.bar.Add(1)
	}
}

func (p progress) end() {
	if p.bar != nil {
		_ = p.bar.Clear()
	}
}

// report is what -json prints.
type report struct {
	Files       int64   `json:"files"`
	Lines       int64   `json:"lines"`
	Words       int64   `json:"words"`
	Match       bool    `json:"match"`
	Workers     int     `json:"workers"`
	Killed      int     `json:"killed"`
	LostSeenMS  int64   `json:"lost_seen_ms"`
	MovedMS     int64   `json:"moved_ms"`
	Redelivered int     `json:"redelivered"`
	Seconds     float64 `json:"seconds"`
}

func newReport(j *job, res *result, plain figures) report {
	t := res.tally
	return report{
		Files: t.total.Files, Lines: t.total.Lines, Words: t.total.Words,
		Match:   t.total == plain,
		Workers: j.workers, Killed: j.kill,
		LostSeenMS:  res.lostSeen.Milliseconds(),
		MovedMS:     t.movedIn.Milliseconds(),
		Redelivered: t.redelivered,
		Seconds:     float64(int(res.seconds*1000)) / 1000,
	}
}

func (r report) writeJSON(w io.Writer) error { return json.NewEncoder(w).Encode(r) }

// check returns what is wrong with the run, or nil.
func (r report) check(plain figures) error {
	switch {
	case !r.Match:
		return fmt.Errorf("the figures differ: one plain pass counts %d files, %d lines, %d words", plain.Files, plain.Lines, plain.Words)
	case r.Killed > 0 && r.LostSeenMS >= 2000:
		return fmt.Errorf("the cluster took %d ms to see the killed worker as lost, 2000 ms at most", r.LostSeenMS)
	case r.Killed > 0 && r.MovedMS >= moveLimit.Milliseconds():
		return fmt.Errorf("the work of the killed worker has not moved after %d ms", r.MovedMS)
	}
	return nil
}

func writeTable(w io.Writer, r report, res *result, plainSeconds float64) error {
	t := res.tally
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "node\tfiles\tlines\twords\tMB\tredelivered\t")
	for _, node := range slices.Sorted(maps.Keys(t.perNode)) {
		row(tw, node, t.perNode[node].figures, int(t.perNode[node].Redelivered))
	}
	row(tw, "total", t.total, t.redelivered)
	if err := tw.Flush(); err != nil {
		return err
	}
	mb := float64(t.total.Bytes) / 1e6
	fmt.Fprintf(w, "\n%d workers: %.2f s, %.0f MB/s; one plain pass: %.2f s, %.0f MB/s\n",
		r.Workers, r.Seconds, mb/r.Seconds, plainSeconds, mb/plainSeconds)
	if r.Killed > 0 {
		fmt.Fprintf(w, "%d worker(s) killed half-way with work in hand: seen by the cluster after %d ms, its %d tasks begun by others after %d ms\n",
			r.Killed, r.LostSeenMS, t.moved, r.MovedMS)
	}
	if r.Match {
		fmt.Fprintln(w, "every figure equals the plain pass")
	}
	return nil
}

func row(w io.Writer, node string, f figures, redelivered int) {
	fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%.1f\t%d\t\n", node, f.Files, f.Lines, f.Words, float64(f.Bytes)/1e6, redelivered)
}
