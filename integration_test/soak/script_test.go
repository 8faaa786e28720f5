package soak_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// act is what is done to a node or to a server.
type act string

const (
	// To nodes.
	kill   act = "kill"   // SIGKILL, and later a new process of that name
	leave  act = "leave"  // a soft stop, and later a new process of that name
	stop   act = "stop"   // SIGSTOP for a time
	drop   act = "drop"   // its connection is closed once
	refuse act = "refuse" // its connection is closed and refused for a time
	hold   act = "hold"   // nothing passes for a time, the connection stays open

	// To servers.
	serverKill    act = "server-kill"    // SIGKILL, started again after a time
	serverStop    act = "server-stop"    // SIGSTOP for a time
	serverRestart act = "server-restart" // stopped as an operator does, and started again
)

// fault is one act of a script.
type fault struct {
	at     time.Duration // from the beginning
	what   act
	target int // which node or server
	lasts  time.Duration
}

func (f fault) String() string {
	return fmt.Sprintf("%6.2fs %s %d for %v", f.at.Seconds(), f.what, f.target, f.lasts.Round(time.Millisecond))
}

const (
	// settle is how long a process is given to start and join.
	settle = 1500 * time.Millisecond
	// healthy is how many nodes are never without a fault at once: somebody has
	// to see what happens.
	healthy = 2
	// stopLimit bounds how long a server is away. Everybody on a server that
	// stands still is spared for ten seconds after the watchers found out; who
	// is silent for longer is taken for dead, and rightly.
	stopLimit = 8 * time.Second
)

// script draws the faults for a time with n nodes and that many servers. One
// server at a time fails, so that three of them go on.
func script(seed uint64, length time.Duration, nodes, servers int) []fault {
	// A shorter script is the beginning of a longer one: servers and nodes draw
	// from different sources.
	r := rand.New(rand.NewPCG(seed, uint64(servers)))
	between := func(a, b time.Duration) time.Duration { return a + time.Duration(r.Int64N(int64(b-a))) }
	var faults []fault
	busy := make([]time.Duration, nodes) // until when each node has a fault
	for at := between(0, time.Second); at < length; at += between(200*time.Millisecond, 2500*time.Millisecond) {
		var free []int
		for i, until := range busy {
			if until <= at {
				free = append(free, i)
			}
		}
		if len(free) <= healthy {
			continue
		}
		f := fault{at: at, target: free[r.IntN(len(free))]}
		switch n := r.IntN(100); {
		case n < 22:
			f.what, f.lasts = kill, between(0, 6*time.Second)
			if r.IntN(3) == 0 {
				f.lasts = 0 // a supervisor that is quick
			}
		case n < 30:
			f.what, f.lasts = leave, between(0, 4*time.Second)
		case n < 42:
			f.what, f.lasts = stop, between(time.Second, 1800*time.Millisecond)
		case n < 57:
			f.what, f.lasts = stop, between(3*time.Second, 12*time.Second)
		case n < 70:
			f.what = drop
		case n < 80:
			f.what, f.lasts = refuse, between(500*time.Millisecond, 12*time.Second)
		case n < 90:
			f.what, f.lasts = hold, between(200*time.Millisecond, 1800*time.Millisecond)
		default:
			f.what, f.lasts = hold, between(3*time.Second, 12*time.Second)
		}
		busy[f.target] = at + f.lasts
		switch f.what {
		case kill, leave:
			busy[f.target] += settle
		case stop, refuse, hold:
			// One that is over soon may be followed by the next one at once; after a
			// long one the node needs the time to come back.
			if f.lasts > 2*time.Second {
				busy[f.target] += time.Second
			}
		}
		faults = append(faults, f)
	}
	r = rand.New(rand.NewPCG(^seed, uint64(servers)))
	for at := between(2*time.Second, 5*time.Second); at < length; {
		f := fault{at: at, target: r.IntN(servers)}
		switch r.IntN(3) {
		case 0:
			f.what, f.lasts = serverKill, between(200*time.Millisecond, 6*time.Second)
		case 1:
			f.what, f.lasts = serverStop, between(time.Second, stopLimit)
		default:
			f.what, f.lasts = serverRestart, between(0, time.Second)
		}
		faults = append(faults, f)
		at += f.lasts + between(5*time.Second, 15*time.Second)
	}
	slices.SortStableFunc(faults, func(a, b fault) int { return cmp.Compare(a.at, b.at) })
	return faults
}
