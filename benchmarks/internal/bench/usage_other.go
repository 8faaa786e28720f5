//go:build !unix

package bench

import (
	"errors"
	"time"
)

// ProcessorTime is 0: this system is not asked.
func ProcessorTime() time.Duration { return 0 }

// Stop is not possible here.
func (p *Process) Stop() error { return errors.ErrUnsupported }

// Resume is not possible here.
func (p *Process) Resume() error { return errors.ErrUnsupported }
