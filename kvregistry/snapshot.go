package kvregistry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/catga/catga-go/internal/provision"
)

const (
	// pageSize is how many messages one batched direct get asks for. A get of
	// "the last of each subject" refuses more than 1,024 subjects; a get of "the
	// next messages" has no such limit and serves snapshot and catch-up alike.
	pageSize = 1000
	// pageLimit is how long the next message of a page may take.
	pageLimit = 2 * time.Second
)

// errShort means that a replica answered that is behind the leader.
var errShort = errors.New("kvregistry: the store answered with less than it has")

// stored is one message read from a stream.
type stored struct {
	subject string
	seq     uint64
	time    time.Time
	header  nats.Header
	data    []byte
}

// recordsAfter reads all records that were stored after revision from, with
// the revision of the last one (from when there is none). It costs a tenth of
// a millisecond when there is nothing new.
func (s *store) recordsAfter(ctx context.Context, from uint64) (cs []change, through uint64, err error) {
	through = from
	err = s.scan(ctx, s.cluster.RecordStream(), from+1, func(m stored) {
		through = m.seq
		if id, ok := s.cluster.NodeOfSubject(m.subject); ok {
			cs = append(cs, change{id: id, revision: m.seq, gone: isMarker(m.header), data: m.data})
		}
	})
	return cs, through, err
}

// snapshot reads all records after revision from, complete through at least
// the last revision that the leader had when it was asked. Nothing is read when
// nothing is new.
func (s *store) snapshot(ctx context.Context, from uint64, known identity) (cs []change, through uint64, err error) {
	const attempts = 5
	if from >= known.last {
		return nil, from, nil
	}
	for attempt := range attempts {
		cs, through, err = s.recordsAfter(ctx, from)
		if err != nil || through >= known.last {
			return cs, through, err
		}
		// Either the last messages are gone from the stream, or a replica
		// answered that does not have them yet. The leader knows.
		if empty, err := s.nothingAfter(ctx, through); err != nil {
			return nil, 0, err
		} else if empty {
			return cs, known.last, nil
		}
		if err := pause(ctx, time.Duration(attempt+1)*10*time.Millisecond); err != nil {
			return nil, 0, err
		}
	}
	return nil, 0, errShort
}

// liveBeat is what the beat bucket says of a node.
type liveBeat struct {
	at   time.Time // by the server's clock
	gone bool
}

// allBeats reads the beat bucket.
func (s *store) allBeats(ctx context.Context) (map[string]liveBeat, error) {
	beats := map[string]liveBeat{}
	err := s.scan(ctx, s.cluster.BeatStream(), 1, func(m stored) {
		if id, ok := s.cluster.NodeOfBeat(m.subject); ok {
			beats[id] = liveBeat{at: m.time, gone: isMarker(m.header)}
		}
	})
	return beats, err
}

// scan reads the messages of a stream from sequence seq on, in order, page by page.
func (s *store) scan(ctx context.Context, stream string, seq uint64, each func(stored)) error {
	inbox := s.nc.NewInbox()
	sub, err := s.nc.SubscribeSync(inbox)
	if err != nil {
		return fmt.Errorf("kvregistry: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	for {
		last, more, err := s.page(ctx, sub, stream, seq, each)
		if errors.Is(err, context.DeadlineExceeded) {
			err = cmp.Or(provision.PublishDenied(s.nc, "$JS.API.DIRECT.GET."+stream), err)
		}
		if err != nil || !more {
			return err
		}
		seq = last + 1
	}
}

func (s *store) page(ctx context.Context, sub *nats.Subscription, stream string, seq uint64, each func(stored)) (last uint64, more bool, err error) {
	// For any other filter the server counts what is left subject by subject.
	request, err := json.Marshal(map[string]any{"seq": seq, "next_by_subj": ">", "batch": pageSize})
	if err != nil {
		return 0, false, err
	}
	if err := s.nc.PublishRequest("$JS.API.DIRECT.GET."+stream, sub.Subject, request); err != nil {
		return 0, false, err
	}
	for {
		msg, err := s.nextOf(ctx, sub)
		if err != nil {
			return last, false, err
		}
		switch status := msg.Header.Get("Status"); status {
		case "":
		case "204": // end of batch
			pending, _ := strconv.ParseUint(msg.Header.Get("Nats-Num-Pending"), 10, 64)
			return last, pending > 0 && last > 0, nil
		case "404":
			return last, false, nil
		case "503":
			return last, false, nats.ErrNoResponders
		default:
			return last, false, fmt.Errorf("kvregistry: direct get from %s: %s %s", stream, status, msg.Header.Get("Description"))
		}
		m, err := decodeStored(msg)
		if err != nil {
			return last, false, err
		}
		last = m.seq
		each(m)
	}
}

func (s *store) nextOf(ctx context.Context, sub *nats.Subscription) (*nats.Msg, error) {
	// Most messages of a page are there already.
	if msg, err := sub.NextMsg(0); !errors.Is(err, nats.ErrTimeout) {
		return msg, err
	}
	ctx, cancel := s.bounded(ctx, pageLimit)
	defer cancel()
	return sub.NextMsgWithContext(ctx)
}

// decodeStored reads what the server adds to a message that it took from a stream.
func decodeStored(msg *nats.Msg) (stored, error) {
	seq, err := strconv.ParseUint(msg.Header.Get(jetstream.SequenceHeader), 10, 64)
	if err != nil || seq == 0 {
		return stored{}, fmt.Errorf("kvregistry: a message without a sequence on %s", msg.Subject)
	}
	at, _ := time.Parse(time.RFC3339Nano, msg.Header.Get(jetstream.TimeStampHeaer))
	return stored{subject: msg.Header.Get(jetstream.SubjectHeader), seq: seq, time: at, header: msg.Header, data: msg.Data}, nil
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// revisionOf reads the revision of a node's key, 0 when the key is not there.
// A replica may answer that is behind.
func (s *store) revisionOf(ctx context.Context, id string) (uint64, error) {
	m, _, err := s.lastOf(ctx, s.cluster.RecordStream(), s.cluster.RecordSubject(id))
	return m.seq, err
}

// beatOf reads the heartbeat of a node; the zero beat when there is none.
func (s *store) beatOf(ctx context.Context, id string) (beat, error) {
	m, ok, err := s.lastOf(ctx, s.cluster.BeatStream(), s.cluster.BeatSubject(id))
	if err != nil || !ok || isMarker(m.header) {
		return beat{}, err
	}
	b, err := decodeBeat(m.data)
	if err != nil {
		// Rubbish, by hand: as good as none.
		s.log.Debug("a beat that cannot be read", "node", id, "err", err)
		return beat{}, nil
	}
	return b, nil
}

// lastOf reads the last message of a subject from whichever replica answers.
func (s *store) lastOf(ctx context.Context, stream, subject string) (m stored, ok bool, err error) {
	ctx, cancel := s.bounded(ctx, putLimit)
	defer cancel()
	msg, err := s.nc.RequestWithContext(ctx, "$JS.API.DIRECT.GET."+stream+"."+subject, nil)
	if err != nil {
		return m, false, err
	}
	switch status := msg.Header.Get("Status"); status {
	case "":
		m, err = decodeStored(msg)
		return m, err == nil, err
	case "404":
		return m, false, nil
	default:
		return m, false, fmt.Errorf("kvregistry: direct get of %s: %s %s", subject, status, msg.Header.Get("Description"))
	}
}
