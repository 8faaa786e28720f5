package kvregistry

import (
	"math/rand/v2"
	"time"
)

const (
	// spreadPerMember is over how long the work after a reconnect is spread, for
	// each member: a thousand come back within a second.
	spreadPerMember = 500 * time.Microsecond
	// spreadFrom is the size from which reading the store is spread, too.
	spreadFrom = 200
)

// checkLink compares the state of the connection with what the loop knows of
// it. Its status channel only wakes the loop: it drops what it cannot hold.
func (s *session) checkLink() {
	if s.nc.IsClosed() {
		s.stop(ErrConnectionClosed)
		return
	}
	up, epoch := s.nc.IsConnected(), s.nc.Stats().Reconnects
	if up == s.link.up && epoch == s.link.epoch {
		return
	}
	now := time.Now()
	if !up {
		s.link.up = false
		s.store.relink()
		s.guard.link(false, false, now)
		s.setStale(now)
		return
	}
	if s.link.up {
		// Lost and back before the loop has noticed.
		s.store.relink()
	}
	s.untaken.Store(0) // through the connection of before
	server := s.nc.ConnectedServerId()
	s.guard.link(true, server == s.link.server, now)
	s.link.up, s.link.epoch, s.link.server = true, epoch, server
	s.setStale(now)
	// All come back at the same moment, and the server has enough to do.
	spread := rand.N(max(spreadPerMember*time.Duration(s.size.Load()), 1))
	if s.own != nil {
		s.own.wantLater(spread)
	}
	s.sync.retry = 0
	if s.size.Load() < spreadFrom {
		s.resync(false)
		return
	}
	s.sync.due = now.Add(spread)
}

func (s *session) setStale(now time.Time) {
	if s.stale.CompareAndSwap(0, now.UnixNano()) {
		s.dirty = true
	}
}

// setFresh is for a view that was read, if the store can be written, too.
func (s *session) setFresh() {
	if s.untaken.Load() >= maxUntaken {
		return
	}
	if s.stale.Swap(0) != 0 {
		s.dirty = true
	}
}
