package kvregistry

import (
	"context"
	"errors"
	"time"
)

// bury writes the end of an incarnation that is gone: one compare-and-set, so
// that of several watchers one writes it. expected is the revision of its key
// that this node knows. over means that the matter is settled, by this write
// or by something newer in the store; otherwise the caller probes afresh.
func (s *session) bury(ctx context.Context, rec record, expected uint64, reason Reason, seen time.Time) (over bool) {
	end := rec.ended(reason, s.cfg.Node, seen)
	// The second attempt is for a key that was deleted or lost with its store.
	for range 2 {
		_, err := s.store.put(ctx, end, expected, end.forget())
		if err == nil {
			s.log.Info("declared gone", "node", rec.ID, "incarnation", rec.Incarnation, "reason", string(reason))
			return true
		}
		if !errors.Is(err, errConflict) {
			s.log.Debug("verdict not written", "node", rec.ID, "err", err)
			return false
		}
		c, ok, err := s.store.last(ctx, rec.ID)
		if err != nil {
			return false
		}
		if !ok || c.gone {
			expected = c.revision
			continue
		}
		found, err := decodeRecord(c.id, c.revision, c.data)
		if err != nil {
			expected = c.revision
			continue
		}
		// Ended, or replaced by a newer life: over. Changed by the suspect
		// itself: it was alive a moment ago.
		return found.State == Offline || found.Incarnation != rec.Incarnation
	}
	return false
}
