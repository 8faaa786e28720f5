package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
)

// Result is one case of a suite, as it is printed.
type Result struct {
	Suite string `json:"suite"`
	Case  string `json:"case"`
	// Nodes is the size of the cluster; 0 where it says nothing.
	Nodes     int    `json:"nodes,omitempty"`
	Servers   int    `json:"servers,omitempty"`
	Transport string `json:"transport,omitempty"`
	Unit      string `json:"unit"`
	// Ours is the median of the samples.
	Ours    float64  `json:"ours"`
	Min     float64  `json:"min"`
	Max     float64  `json:"max"`
	P95     *float64 `json:"p95,omitempty"`
	Samples int      `json:"samples"`
	// Peer is what was measured beside it in the same run; empty when nothing was.
	Peer      string   `json:"peer,omitempty"`
	Theirs    *float64 `json:"theirs,omitempty"`
	TheirsMin *float64 `json:"theirs_min,omitempty"`
	TheirsMax *float64 `json:"theirs_max,omitempty"`
	Ratio     *float64 `json:"ratio,omitempty"`
	// LowerIsBetter tells which way the ratio is good.
	LowerIsBetter bool `json:"lower_is_better"`
	// Note says what a reader of the figure must know.
	Note string `json:"note,omitempty"`
}

// Of fills the figures of r from samples, which it leaves as they are.
func (r Result) Of(samples []float64) Result {
	if len(samples) == 0 {
		return r
	}
	sorted := slices.Sorted(slices.Values(samples))
	r.Ours, r.Min, r.Max, r.Samples = Median(sorted), sorted[0], sorted[len(sorted)-1], len(sorted)
	if len(sorted) >= 10 {
		p := Percentile(sorted, 95)
		r.P95 = &p
	}
	return r
}

// Beside adds the samples of the peer, and the ratio of the medians.
func (r Result) Beside(peer string, samples []float64) Result {
	if len(samples) == 0 {
		return r
	}
	sorted := slices.Sorted(slices.Values(samples))
	theirs, least, most := Median(sorted), sorted[0], sorted[len(sorted)-1]
	r.Peer, r.Theirs, r.TheirsMin, r.TheirsMax = peer, &theirs, &least, &most
	if theirs != 0 {
		ratio := r.Ours / theirs
		r.Ratio = &ratio
	}
	return r
}

// Median returns the middle of sorted, which has at least one.
func Median(sorted []float64) float64 {
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

// Percentile returns the p-th percentile of sorted by the nearest rank.
func Percentile(sorted []float64, p float64) float64 {
	rank := int(p/100*float64(len(sorted)) + 0.999999)
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// Printer writes results as they come. It is safe for concurrent use.
type Printer struct {
	mu     sync.Mutex
	w      io.Writer
	json   bool
	titled bool
	all    []Result
}

// NewPrinter returns a printer of JSON lines or of a table.
func NewPrinter(w io.Writer, asJSON bool) *Printer { return &Printer{w: w, json: asJSON} }

// Results returns what was printed.
func (p *Printer) Results() []Result {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.all)
}

// Print writes one result.
func (p *Printer) Print(r Result) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = append(p.all, r)
	if p.json {
		line, err := json.Marshal(r)
		if err != nil {
			panic(err) // a figure that is not a number: a mistake of the suite
		}
		fmt.Fprintf(p.w, "%s\n", line)
		return
	}
	if !p.titled {
		p.titled = true
		fmt.Fprintf(p.w, "%-28s %6s %-6s %12s %12s %12s %8s  %s\n", "case", "nodes", "unit", "ours", "min", "max", "samples", "peer")
	}
	where := r.Case
	if r.Transport != "" {
		where += " " + r.Transport
	}
	var peer strings.Builder
	if r.Theirs != nil {
		fmt.Fprintf(&peer, "%s %.4g", r.Peer, *r.Theirs)
		if r.Ratio != nil {
			fmt.Fprintf(&peer, ", ratio %.3f", *r.Ratio)
		}
	}
	if r.Note != "" {
		if peer.Len() > 0 {
			peer.WriteString("; ")
		}
		peer.WriteString(r.Note)
	}
	fmt.Fprintf(p.w, "%-28s %6d %-6s %12.4g %12.4g %12.4g %8d  %s\n", where, r.Nodes, r.Unit, r.Ours, r.Min, r.Max, r.Samples, peer.String())
}
