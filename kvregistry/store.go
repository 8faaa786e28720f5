package kvregistry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/catga/catga-go/internal/provision"
	"github.com/catga/catga-go/internal/wire"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// markerTTL is how long the server keeps the mark of a deleted or expired
	// key: who was away longer takes a full snapshot instead of catching up.
	markerTTL = 10 * time.Minute
	// maxConsumers leaves room for a tripwire per node; the server's default is 1,000.
	maxConsumers = 100_000
	// putLimit bounds one write. An election takes longer: the caller decides
	// whether to repeat.
	putLimit = 2 * time.Second
)

// errConflict means that the key has another revision than the one expected.
var errConflict = errors.New("kvregistry: the record has changed meanwhile")

// store reads and writes the two buckets.
//
// The KV API of nats.go is not used: its Put and Update take the time to live
// off a key, and its watchers are consumers.
type store struct {
	nc      *nats.Conn
	js      jetstream.JetStream
	cluster wire.Cluster
	log     *slog.Logger
	// link ends when the connection is lost: the answers to what was asked
	// through it will not come, and waiting for them is a waste.
	link atomic.Pointer[linkLife]
	// replicas is how many servers keep the records, as last read.
	replicas atomic.Int32
}

// linkLife is one unbroken time of the connection.
type linkLife struct {
	ctx context.Context
	end context.CancelFunc
}

// relink begins a new time of the connection and ends what waits for answers
// of the one before.
func (s *store) relink() {
	ctx, cancel := context.WithCancel(context.Background())
	if old := s.link.Swap(&linkLife{ctx, cancel}); old != nil {
		old.end()
	}
}

// bounded returns ctx, at most limit long, and ended by a loss of the connection.
func (s *store) bounded(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	link := s.link.Load()
	if link == nil {
		return ctx, cancel
	}
	unhook := context.AfterFunc(link.ctx, cancel)
	return ctx, func() { unhook(); cancel() }
}

func newStore(nc *nats.Conn, cluster string, log *slog.Logger) (*store, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("kvregistry: %w", err)
	}
	return &store{nc: nc, js: js, cluster: wire.Cluster(cluster), log: log}, nil
}

// provision makes the buckets, or compares existing ones. after is the last
// revision that this node has seen: those of a new bucket are beyond it.
func (s *store) provision(ctx context.Context, replicas int, noProvision bool, after uint64) error {
	records := jetstream.StreamConfig{
		Name:                   s.cluster.RecordStream(),
		Description:            "catga: who is in cluster " + string(s.cluster),
		Subjects:               []string{s.cluster.RecordPrefix() + ">"},
		RePublish:              &jetstream.RePublish{Source: s.cluster.RecordPrefix() + ">", Destination: s.cluster.RegistryPrefix() + ">"},
		Retention:              jetstream.LimitsPolicy,
		Discard:                jetstream.DiscardNew,
		MaxMsgsPerSubject:      1,
		MaxConsumers:           maxConsumers,
		MaxMsgs:                -1,
		MaxBytes:               -1,
		AllowRollup:            true,
		AllowDirect:            true,
		AllowMsgTTL:            true,
		SubjectDeleteMarkerTTL: markerTTL,
		// Revisions must grow even when the store is lost and made again: an
		// incarnation is a revision, and a later life must have a greater one.
		// A store that begins at the milliseconds since 1970 begins beyond
		// every earlier one.
		FirstSeq: max(uint64(max(time.Now().UnixMilli(), 1)), after+1),
	}
	beats := records
	beats.Name = s.cluster.BeatStream()
	beats.Description = "catga: heartbeats of cluster " + string(s.cluster)
	beats.Subjects = []string{s.cluster.BeatPrefix() + ">"}
	beats.RePublish = nil
	beats.FirstSeq = 0
	for _, cfg := range []jetstream.StreamConfig{records, beats} {
		if _, err := provision.Ensure(ctx, s.js, provision.Stream{Config: cfg, Replicas: replicas, NoProvision: noProvision}); err != nil {
			return fmt.Errorf("kvregistry: %w", err)
		}
	}
	return nil
}

// identity is what tells one making of the record stream from the next.
type identity struct {
	created time.Time
	last    uint64
	// records is how many nodes have a record, the dead among them.
	records int
}

// identify asks the leader for the record stream.
func (s *store) identify(ctx context.Context) (identity, error) {
	ctx, cancel := s.bounded(ctx, putLimit)
	defer cancel()
	stream, err := s.js.Stream(ctx, s.cluster.RecordStream())
	if err != nil {
		return identity{}, err
	}
	info := stream.CachedInfo()
	s.replicas.Store(int32(min(info.Config.Replicas, 5)))
	return identity{created: info.Created, last: info.State.LastSeq, records: int(min(info.State.NumSubjects, maxConsumers))}, nil
}

// put stores a record if the last revision of its key is expected (0: there is
// none). ttl 0 keeps it for ever. It returns the new revision, errConflict, or
// an error after which the outcome is not known.
func (s *store) put(ctx context.Context, rec record, expected uint64, ttl time.Duration) (uint64, error) {
	data, err := rec.encode()
	if err != nil {
		return 0, err
	}
	ctx, cancel := s.bounded(ctx, putLimit)
	defer cancel()
	msg := nats.NewMsg(s.cluster.RecordSubject(rec.ID))
	msg.Data = data
	setTTL(msg, ttl)
	var ack *jetstream.PubAck
	err = provision.Guard(ctx, s.nc, msg.Subject, func(ctx context.Context) (err error) {
		ack, err = s.js.PublishMsg(ctx, msg, jetstream.WithExpectLastSequencePerSubject(expected), jetstream.WithExpectStream(s.cluster.RecordStream()))
		return err
	})
	if err != nil {
		if api, ok := errors.AsType[*jetstream.APIError](err); ok && isConflict(api.ErrorCode) {
			return 0, errConflict
		}
		return 0, err
	}
	return ack.Sequence, nil
}

// isConflict knows both codes: a replicated stream may use the second.
func isConflict(code jetstream.ErrorCode) bool {
	return code == jetstream.JSErrCodeStreamWrongLastSequence || code == jetstream.JSErrCodeStreamWrongLastSequenceConstant
}

// putBeat stores the heartbeat of a node.
func (s *store) putBeat(ctx context.Context, id string, b beat, ttl time.Duration) error {
	data, err := json.Marshal(b)
	if err != nil {
		return err
	}
	ctx, cancel := s.bounded(ctx, putLimit)
	defer cancel()
	msg := nats.NewMsg(s.cluster.BeatSubject(id))
	msg.Data = data
	setTTL(msg, ttl)
	_, err = s.js.PublishMsg(ctx, msg, jetstream.WithExpectStream(s.cluster.BeatStream()))
	return err
}

// dropBeat marks the heartbeat of a node as ended. Nothing rests on it: the
// beat would run out by itself.
func (s *store) dropBeat(id string) error {
	msg := nats.NewMsg(s.cluster.BeatSubject(id))
	msg.Header.Set("KV-Operation", "PURGE")
	msg.Header.Set(jetstream.MsgRollup, jetstream.MsgRollupSubject)
	setTTL(msg, time.Second)
	return s.nc.PublishMsg(msg)
}

func setTTL(msg *nats.Msg, ttl time.Duration) {
	if ttl > 0 {
		// The server counts whole seconds.
		seconds := max(int64((ttl+time.Second-1)/time.Second), 1)
		msg.Header.Set(wire.HeaderTTL, strconv.FormatInt(seconds, 10))
	}
}

// last reads the last message of a node's key from the leader; ok is false
// when there is none.
func (s *store) last(ctx context.Context, id string) (c change, ok bool, err error) {
	return s.leaderRead(ctx, map[string]any{"last_by_subj": s.cluster.RecordSubject(id)})
}

// nothingAfter asks the leader whether the record stream is empty after revision.
func (s *store) nothingAfter(ctx context.Context, revision uint64) (bool, error) {
	_, ok, err := s.leaderRead(ctx, map[string]any{"seq": revision + 1, "next_by_subj": s.cluster.RecordPrefix() + ">"})
	return !ok, err
}

func (s *store) leaderRead(ctx context.Context, what map[string]any) (c change, ok bool, err error) {
	request, err := json.Marshal(what)
	if err != nil {
		return c, false, err
	}
	ctx, cancel := s.bounded(ctx, putLimit)
	defer cancel()
	subject := "$JS.API.STREAM.MSG.GET." + s.cluster.RecordStream()
	var reply *nats.Msg
	err = provision.Guard(ctx, s.nc, subject, func(ctx context.Context) (err error) {
		reply, err = s.nc.RequestWithContext(ctx, subject, request)
		return err
	})
	if err != nil {
		return c, false, err
	}
	var body struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Subject string `json:"subject"`
			Seq     uint64 `json:"seq"`
			Header  []byte `json:"hdrs"`
			Data    []byte `json:"data"`
		} `json:"message"`
	}
	if err := json.Unmarshal(reply.Data, &body); err != nil {
		return c, false, fmt.Errorf("kvregistry: answer of the JetStream API: %w", err)
	}
	if body.Error != nil {
		if body.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound {
			return c, false, nil
		}
		return c, false, body.Error
	}
	header := nats.Header{}
	if len(body.Message.Header) > 0 {
		if header, err = nats.DecodeHeadersMsg(body.Message.Header); err != nil {
			return c, false, fmt.Errorf("kvregistry: answer of the JetStream API: %w", err)
		}
	}
	c.id, _ = s.cluster.NodeOfSubject(body.Message.Subject)
	c.revision, c.data, c.gone = body.Message.Seq, body.Message.Data, isMarker(header)
	return c, true, nil
}

// isMarker tells whether a message stands for a key that is not there.
func isMarker(h nats.Header) bool {
	switch h.Get("KV-Operation") {
	case "DEL", "PURGE":
		return true
	}
	return h.Get(jetstream.MarkerReasonHeader) != ""
}
