package kvregistry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/catga/catga-go/internal/wire"
)

const (
	// minBeat is the shortest interval of heartbeats. Three of them are their
	// time to live, and a replicated stream that loses its leader takes no
	// writes for 4 to 9 seconds: with a time to live of 3 to 5 seconds every
	// live node expired.
	minBeat = 5 * time.Second
	// maxUntaken is how many heartbeats in a row the store may not take before
	// the view is stale, and beatAgain the pause after one of them.
	maxUntaken = 2
	beatAgain  = 500 * time.Millisecond
	// maxBeat is the longest interval.
	maxBeat = 30 * time.Second
	// beatsPerSecond is the most that a whole cluster writes, whatever its size.
	beatsPerSecond = 500
	// beatLives is the time to live of a beat, in intervals.
	beatLives = 3
	// lookEvery is how often the own record is looked for in the store, beside
	// what the feed tells.
	lookEvery = 10 * time.Second
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
	// Tripwire is the number of the node's newest tripwire; absent before it has one.
	Tripwire uint64 `json:"trip,omitempty"`
	// Server, Addr and Embedded are as in a pong, for a watcher that never had one.
	Server   string `json:"server,omitempty"`
	Addr     string `json:"addr,omitempty"`
	Embedded bool   `json:"embedded,omitempty"`
}

// newBeat is the beat of an incarnation of this node; of none yet for 0.
func (s *session) newBeat(incarnation uint64) beat {
	return beat{
		Version: wire.Version, Incarnation: incarnation, Tripwire: s.own.trip.number.Load(),
		Server: s.nc.ConnectedServerId(), Addr: s.nc.ConnectedAddr(), Embedded: embedded(s.nc),
	}
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

// beats writes this node's heartbeat and looks after its record.
func (s *session) beats() {
	var looked time.Time
	for {
		every := beatEvery(int(s.size.Load()))
		err := s.beat(s.ctx, every)
		s.wrote(err)
		switch {
		case s.untaken.Load() > 0:
			every = min(every, max(beatAgain, time.Duration(s.size.Load())*time.Second/retriesPerSecond))
		case err == nil && time.Since(looked) > lookEvery-minBeat/2:
			looked = time.Now()
			s.lookForRecord(s.ctx)
		}
		// Spread, so that nodes that started together do not beat together.
		wait := every - time.Duration(rand.Int64N(int64(every/5)))
		if pause(s.ctx, wait) != nil {
			return
		}
	}
}

// errNoRecord says that there is nothing to keep alive.
var errNoRecord = errors.New("kvregistry: no record of this node is stored")

// beat writes the heartbeat.
func (s *session) beat(ctx context.Context, every time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, every)
	defer cancel()
	m := s.own.self.Load()
	if m == nil || s.own.stored.Load() == 0 {
		return errNoRecord
	}
	err := s.store.putBeat(ctx, m.ID, s.newBeat(m.Incarnation), beatLives*every)
	if errors.Is(err, jetstream.ErrNoStreamResponse) {
		err = s.makeBeats(ctx, err)
	}
	return err
}

// makeBeats makes the bucket of the heartbeats again when it is gone. cause is
// why that is to be feared: no stream answers also where there is no leader.
func (s *session) makeBeats(ctx context.Context, cause error) error {
	_, err := s.store.js.Stream(ctx, s.cluster.BeatStream())
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return cause
	}
	if err := s.store.provision(ctx, s.cfg.Replicas, s.cfg.NoProvision, s.own.stored.Load()); err != nil {
		return err
	}
	s.log.Warn("the bucket of the heartbeats was gone, made again")
	return cause // the next heartbeat is due soon
}

// wrote notes how a heartbeat went. While the store takes none, or refuses them,
// the view is stale although it can be read: a leader that is cut off together
// with this node goes on answering for 10 to 20 s. One alone may be late at a
// server that has too much to do.
func (s *session) wrote(err error) {
	switch {
	case s.ctx.Err() != nil, errors.Is(err, errNoRecord):
	case err == nil:
		if s.untaken.Swap(0) >= maxUntaken {
			s.post(func() { s.resync(false) })
		}
	default:
		s.log.Debug("beat not written", "node", s.cfg.Node, "err", err)
		if !s.lost(err) {
			s.untaken.Add(1)
		}
		s.post(func() {
			if s.untaken.Load() >= maxUntaken {
				s.setStale(time.Now())
			}
			s.resync(false)
		})
	}
}

// lost tells whether a write ended with the connection, which tells by itself
// what becomes of the view.
func (s *session) lost(err error) bool {
	return errors.Is(err, context.Canceled) || !s.nc.IsConnected()
}

// lookForRecord makes sure that the store has this node's record.
func (s *session) lookForRecord(ctx context.Context) {
	stored := s.own.stored.Load()
	revision, err := s.store.revisionOf(ctx, s.cfg.Node)
	if err != nil {
		if s.ctx.Err() == nil {
			s.post(func() { s.resync(false) })
		}
		return
	}
	if revision == stored || stored == 0 || stored != s.own.stored.Load() {
		return
	}
	s.own.wantLook()
	if revision == 0 {
		// Perhaps not only the own record is gone.
		s.post(func() { s.resync(true) })
	}
}

// tellTripwire writes a beat that names the newest tripwire.
func (s *session) tellTripwire(ctx context.Context, l life) {
	if err := s.store.putBeat(ctx, l.id, s.newBeat(l.incarnation), beatLives*beatEvery(int(s.size.Load()))); err != nil {
		s.log.Debug("beat not written", "node", l.id, "err", err)
	}
}
