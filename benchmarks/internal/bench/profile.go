package bench

import (
	"fmt"
	"os"
	"runtime/pprof"
)

// profiler writes a CPU profile of this process.
type profiler struct{ file *os.File }

// begin writes to the file at path from now on. An earlier profile ends.
func (p *profiler) begin(path string) error {
	if err := p.end(); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	p.file = f
	return pprof.StartCPUProfile(f)
}

// end completes the profile, if there is one.
func (p *profiler) end() error {
	if p.file == nil {
		return nil
	}
	pprof.StopCPUProfile()
	err := p.file.Close()
	p.file = nil
	return err
}

// Profile writes a CPU profile of each server from now on, to path with the
// number of the server appended. An earlier one ends; with no path nothing else
// happens.
func (ss *Servers) Profile(path string) error {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for i, s := range ss.all {
		order := "profile "
		if path != "" {
			order += fmt.Sprintf("%s.%d", path, i+1)
		}
		var problem string
		if err := s.ask(order, &problem); err != nil {
			return err
		}
		if problem != "" {
			return fmt.Errorf("nats-server %s: profile: %s", s.cfg.Name, problem)
		}
	}
	return nil
}
