package kvregistry

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/catga/catga-go/internal/wire"
)

// MaxRecord is the largest record that is written or read, in bytes: metadata
// at its limit, escaped as JSON at its worst, kinds and the rest.
const MaxRecord = 512 << 10

const (
	minGrace  = 500 * time.Millisecond
	maxGrace  = 2 * time.Minute
	minForget = time.Second
	maxForget = 10 * 365 * 24 * time.Hour
)

// record is what the bucket holds of a node, as JSON under the key node.<id>.
// docs/wire.md is the contract.
type record struct {
	Version int    `json:"v"`
	ID      string `json:"id"`
	// Incarnation is the revision of the claim. The claim itself cannot know
	// its revision: absent means the revision of this very message.
	Incarnation uint64 `json:"inc,omitempty"`
	// Token is made up by the process for each claim: who did not see the
	// answer to a write finds out by it whether the write was stored.
	Token     string            `json:"token,omitempty"`
	Endpoint  string            `json:"endpoint,omitempty"`
	Started   time.Time         `json:"started,omitzero"`
	Metadata  map[string]string `json:"metadata,omitempty"`
	Kinds     []string          `json:"kinds,omitempty"`
	State     State             `json:"state"`
	Mail      MailPolicy        `json:"mail,omitempty"`
	Anonymous bool              `json:"anonymous,omitempty"`
	// Light says that the node watches nobody.
	Light bool `json:"light,omitempty"`
	// GraceMillis is how long the node may need to reconnect: so long nobody
	// concludes anything from its absence.
	GraceMillis int64 `json:"grace_ms,omitempty"`
	// ForgetSeconds is how long its end stays visible, for whoever writes the end.
	ForgetSeconds int64 `json:"forget_s,omitempty"`

	// Before is how the life ended that this one follows, and Earlier is how those
	// before that one ended, newest first: who did not see an end, because a claim
	// has overwritten it, learns it here.
	Before  *ending  `json:"before,omitempty"`
	Earlier []ending `json:"earlier,omitempty"`

	// Only when State is Offline.
	Reason Reason    `json:"reason,omitempty"`
	By     string    `json:"by,omitempty"`
	Seen   time.Time `json:"seen,omitzero"`
}

// decodeRecord reads the record of node id that was stored at revision. What
// it returns is safe to use: names are checked, durations are within bounds.
func decodeRecord(id string, revision uint64, data []byte) (record, error) {
	if len(data) > MaxRecord {
		return record{}, fmt.Errorf("%w: %d bytes, %d at most", ErrTooLarge, len(data), MaxRecord)
	}
	rec, ok := scanRecord(data)
	if !ok {
		if err := json.Unmarshal(data, &rec); err != nil {
			return record{}, fmt.Errorf("record of %s: %w", id, err)
		}
	}
	if rec.Version < 1 {
		return record{}, fmt.Errorf("record of %s: wire version %d", id, rec.Version)
	}
	if rec.ID != id {
		return record{}, fmt.Errorf("record of %s: is of %.70q", id, rec.ID)
	}
	for _, kind := range rec.Kinds {
		if err := wire.CheckKind(kind); err != nil {
			return record{}, fmt.Errorf("record of %s: %w", id, err)
		}
	}
	switch rec.State {
	case Online, Draining, Offline:
	case "":
		return record{}, fmt.Errorf("record of %s: no state", id)
	default:
		// A state of a newer version: alive, and better not given new work.
		rec.State = Draining
	}
	if !slices.IsSorted(rec.Kinds) {
		slices.Sort(rec.Kinds)
	}
	if rec.Incarnation == 0 {
		rec.Incarnation = revision
	}
	rec.Earlier = rec.Earlier[:min(len(rec.Earlier), maxEarlier)]
	return rec, nil
}

func (rec record) encode() ([]byte, error) {
	data, err := json.Marshal(rec)
	if err != nil {
		return nil, fmt.Errorf("kvregistry: record of %s: %w", rec.ID, err)
	}
	if len(data) > MaxRecord {
		return nil, fmt.Errorf("%w: %d bytes, %d at most", ErrTooLarge, len(data), MaxRecord)
	}
	return data, nil
}

// grace is how long the node may need to reconnect.
func (rec record) grace() time.Duration {
	// Bounded before the multiplication: the figure comes from the wire.
	ms := min(max(rec.GraceMillis, 0), int64(maxGrace/time.Millisecond))
	return max(time.Duration(ms)*time.Millisecond, minGrace)
}

// forget is how long its end stays visible, in whole seconds.
func (rec record) forget() time.Duration {
	if rec.ForgetSeconds <= 0 {
		return defaultForget
	}
	s := min(rec.ForgetSeconds, int64(maxForget/time.Second))
	return max(time.Duration(s)*time.Second, minForget)
}

// member returns the record as users see it.
func (rec record) member(revision uint64) Member {
	return Member{
		ID: rec.ID, Incarnation: rec.Incarnation, Endpoint: rec.Endpoint, Started: rec.Started,
		Metadata: rec.Metadata, Kinds: rec.Kinds, State: rec.State, Reason: rec.Reason, By: rec.By,
		LastSeen: rec.Seen, Mail: rec.Mail, Anonymous: rec.Anonymous, Light: rec.Light, Revision: revision,
	}
}

// sameToUsers tells whether nothing that users see differs between two records
// of one incarnation.
func (rec record) sameToUsers(other record) bool {
	return rec.State == other.State && rec.Endpoint == other.Endpoint && rec.Mail == other.Mail &&
		rec.Started.Equal(other.Started) && maps.Equal(rec.Metadata, other.Metadata) && slices.Equal(rec.Kinds, other.Kinds)
}
