package kvregistry

import "time"

const (
	// maxEarlier is how many ends a record carries beside that of the life before
	// it. Who missed more lives than that is told that an end is not known.
	maxEarlier = 31
	// maxEndingAge is for how long an end is carried, by the clocks of the hosts:
	// a wrong one costs a watcher that was away the reason, not the end.
	maxEndingAge = 24 * time.Hour
)

// ending is the end of an incarnation.
type ending struct {
	Incarnation uint64    `json:"inc"`
	Reason      Reason    `json:"reason"`
	By          string    `json:"by,omitempty"`
	Seen        time.Time `json:"seen,omitzero"`
}

// ended returns the record as it is written at the end of its incarnation.
func (rec record) ended(reason Reason, by string, seen time.Time) record {
	rec.State, rec.Reason, rec.By, rec.Seen = Offline, reason, by, seen.UTC()
	return rec
}

// ending is how the life of this record ended, for the record of the next life,
// which is claimed over it at that time.
func (rec record) ending(now time.Time) ending {
	if rec.State != Offline {
		return ending{Incarnation: rec.Incarnation, Reason: ReasonReplaced, By: rec.ID, Seen: now}
	}
	return ending{Incarnation: rec.Incarnation, Reason: rec.Reason, By: rec.By, Seen: rec.Seen}
}

// following returns the record as that of the life that follows last, the zero
// record where none is known: it tells how last and those before it ended.
func (rec record) following(last record) record {
	rec.Before, rec.Earlier = nil, nil
	if last.Incarnation == 0 {
		return rec
	}
	end := last.ending(rec.Started)
	rec.Before = &end
	for _, e := range last.endings() {
		if len(rec.Earlier) < maxEarlier && rec.Started.Sub(e.Seen) < maxEndingAge {
			rec.Earlier = append(rec.Earlier, e)
		}
	}
	return rec
}

// endings are the ends of earlier lives that the record tells of, newest first.
func (rec record) endings() []ending {
	if rec.Before == nil {
		return nil
	}
	return append([]ending{*rec.Before}, rec.Earlier...)
}

// endedBy returns the record at its end as that of a later life tells it.
func (rec record) endedBy(later record) record {
	for _, e := range later.endings() {
		if e.Incarnation == rec.Incarnation {
			return rec.ended(e.Reason, e.By, e.Seen)
		}
	}
	return rec.ended(ReasonUnknown, "", time.Time{})
}
