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

const (
	// agreeLimit is how long the writing before a verdict may take: so long the
	// last probe is ago when the verdict is written.
	agreeLimit = 250 * time.Millisecond
	// agreeFor is for how long one such writing stands for several verdicts.
	agreeFor = 100 * time.Millisecond
)

// storeAgrees tells whether what is written now is stored now. The leader of a
// replicated store that is cut off takes a write and may store it much later,
// when it is heard again; a verdict must not come so late, on whoever lives by
// then. So this node's own record is written first, once more, and the verdict
// only when that was stored at once.
func (s *session) storeAgrees(ctx context.Context) bool {
	if s.store.replicas.Load() <= 1 || time.Since(time.Unix(0, s.agreed.Load())) < agreeFor {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, agreeLimit)
	defer cancel()
	err := s.own.do(ctx, func(ctx context.Context) error { return s.own.update(ctx, func(*record) {}) })
	if err != nil {
		s.log.Debug("no verdict: the store does not take writes at once", "err", err)
		return false
	}
	s.agreed.Store(time.Now().UnixNano())
	return true
}
