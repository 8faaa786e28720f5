package kvregistry

import (
	"context"
	"fmt"
)

// Check makes the round trip that Status does not make: it writes this node's
// heartbeat and reads its record from the store's leader. Nil means that the
// store can be written and that this incarnation is in it. For an observer it
// reads only.
//
// Errors: ErrNotJoined, ErrClosed, ErrEvicted when the record is not that of
// this incarnation, or what the store said.
func (r *Registry) Check(ctx context.Context) error {
	s, err := r.running()
	if err != nil {
		return err
	}
	if s.own == nil {
		if _, err := s.store.identify(ctx); err != nil {
			return fmt.Errorf("kvregistry: check: the store cannot be read: %w", err)
		}
		return nil
	}
	m := s.own.self.Load()
	if err := s.store.putBeat(ctx, m.ID, s.newBeat(m.Incarnation), beatLives*maxBeat); err != nil {
		return fmt.Errorf("kvregistry: check: the store cannot be written: %w", err)
	}
	c, ok, err := s.store.last(ctx, m.ID)
	if err != nil {
		return fmt.Errorf("kvregistry: check: the store cannot be read: %w", err)
	}
	if !ok || c.gone {
		s.own.wantLook()
		return fmt.Errorf("kvregistry: check: %w: its record is not in the store", ErrEvicted)
	}
	rec, err := decodeRecord(c.id, c.revision, c.data)
	if err != nil {
		s.own.wantLook()
		return fmt.Errorf("kvregistry: check: %w", err)
	}
	if rec.Incarnation != m.Incarnation || rec.State == Offline {
		s.own.wantLook()
		return fmt.Errorf("kvregistry: check: %w: the store has incarnation %d, %s", ErrEvicted, rec.Incarnation, rec.State)
	}
	return nil
}
