package membership

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// small measures the cases of one member that comes or goes, beside memberlist.
func (r *run) small() error {
	var wanted []string
	for name := range strings.SplitSeq(smallCases, ",") {
		scale := name == "form" && r.n >= manyNodes || name == "false_deaths"
		if r.opts.Wants(name) && !scale {
			wanted = append(wanted, name)
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	sides := []side{&ours{servers: r.at, n: r.n, deaths: r.deaths}}
	if *r.peers && r.n <= mostPeers {
		sides = append(sides, &theirs{n: r.n, deaths: newDeaths(r.Progress)})
	}
	defer func() {
		for _, s := range sides {
			s.close()
		}
	}()
	if slices.Contains(wanted, "form") {
		r.say("form")
		if err := r.form(sides); err != nil {
			return err
		}
		wanted = slices.DeleteFunc(wanted, func(name string) bool { return name == "form" })
	}
	if len(wanted) > 0 {
		for _, s := range sides {
			if err := s.start(r.ctx); err != nil {
				return err
			}
		}
	}
	for _, f := range []func([]side, []string) error{r.churn, r.faults} {
		if err := f(sides, wanted); err != nil {
			return err
		}
	}
	if len(sides) > 1 {
		r.peerDeaths.samples = []float64{float64(sides[1].falseDeaths())}
	}
	return nil
}

// theirRounds bounds the rounds of what takes memberlist about a second.
func (r *run) theirRounds() int { return min(r.rounds(), 10) }

// form has each side form clusters, one side after the other: it takes all the
// processor that there is.
func (r *run) form(sides []side) error {
	results := make([]measured, 2)
	for i, s := range sides {
		var err error
		if results[i], err = s.form(r.ctx, []int{r.rounds(), r.theirRounds()}[i]); err != nil {
			return err
		}
	}
	r.print("form", "s", results[0], results[1])
	return nil
}

// churn measures join, update and leave, one side after the other: ours takes
// milliseconds.
func (r *run) churn(sides []side, wanted []string) error {
	names := []string{"join_seen_by_all", "update_seen_by_all", "leave_seen_by_all"}
	if !slices.ContainsFunc(names, func(name string) bool { return slices.Contains(wanted, name) }) {
		return nil
	}
	r.say("join, update, leave")
	var results [3][2]measured
	for i, s := range sides {
		var err error
		results[0][i], results[1][i], results[2][i], err = s.churn(r.ctx, []int{r.rounds(), r.theirRounds()}[i])
		if err != nil {
			return err
		}
	}
	for i, name := range names {
		if slices.Contains(wanted, name) {
			r.print(name, "s", results[i][0], results[i][1])
		}
	}
	return nil
}

// faults measures what happens to a process of its own, both sides at the same
// time: they are seconds apart in speed and take little of the processor.
func (r *run) faults(sides []side, wanted []string) error {
	slow := *r.slow
	for _, c := range []struct {
		name    string
		measure func(s side, ours bool) (measured, error)
	}{
		{"crash_seen_by_all", func(s side, ours bool) (measured, error) {
			if ours {
				return s.crash(r.ctx, r.rounds())
			}
			return s.crash(r.ctx, slow)
		}},
		{"hang_seen_by_all", func(s side, _ bool) (measured, error) { return s.hang(r.ctx, slow) }},
		{"restart_same_name", func(s side, ours bool) (measured, error) {
			if ours {
				return s.restart(r.ctx, r.rounds())
			}
			return s.restart(r.ctx, slow)
		}},
		{"rejoin_after_partition", func(s side, _ bool) (measured, error) { return s.rejoin(r.ctx, r.cut.Seconds()) }},
	} {
		if !slices.Contains(wanted, c.name) {
			continue
		}
		r.say("%s", c.name)
		results, errs := make([]measured, 2), make([]error, 2)
		var wg sync.WaitGroup
		for i, s := range sides {
			wg.Go(func() {
				results[i], errs[i] = c.measure(s, i == 0)
				r.say("%s: %s done: %.3f", c.name, []string{"ours", peerName}[i], results[i].samples)
			})
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		if err := r.ctx.Err(); err != nil {
			return context.Cause(r.ctx)
		}
		r.print(c.name, "s", results[0], results[1])
	}
	return nil
}
