package kvregistry

import (
	"encoding/json"
	"fmt"
	"time"
)

const (
	// minBeat is the shortest interval of heartbeats. Three of them are their
	// time to live, and a replicated stream that loses its leader takes no
	// writes for 4 to 9 seconds: with a time to live of 3 to 5 seconds every
	// live node expired.
	minBeat = 5 * time.Second
	// maxBeat is the longest interval.
	maxBeat = 30 * time.Second
	// beatsPerSecond is the most that a whole cluster writes, whatever its size.
	beatsPerSecond = 500
	// beatLives is the time to live of a beat, in intervals.
	beatLives = 3
)

// beatEvery is the interval of heartbeats in a cluster of n nodes.
func beatEvery(n int) time.Duration {
	return min(max(time.Duration(n)*time.Second/beatsPerSecond, minBeat), maxBeat).Round(time.Second)
}

// beat is the heartbeat of a node, as JSON under the key beat.<id>. It is the
// signal of last resort, and what people see.
type beat struct {
	Version int `json:"v"`
	// Incarnation is absent in the beat that goes before the claim.
	Incarnation uint64 `json:"inc,omitempty"`
	// Tripwire is the number of the node's newest tripwire; absent means 1.
	Tripwire uint64 `json:"trip,omitempty"`
}

func decodeBeat(data []byte) (beat, error) {
	var b beat
	if err := json.Unmarshal(data, &b); err != nil {
		return beat{}, fmt.Errorf("beat: %w", err)
	}
	if b.Version < 1 {
		return beat{}, fmt.Errorf("beat: wire version %d", b.Version)
	}
	return b, nil
}
