package provision

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// attemptLimit bounds one request to the JetStream API, so that a request
	// that nobody answers (an election, a server that just died) is repeated.
	attemptLimit = 5 * time.Second
	// firstLimit bounds each request of the first attempt of Ensure, and twice
	// as much each next one, up to attemptLimit. A stream that is being made in a
	// cluster has no leader for a moment, and what is asked then is never
	// answered: of 40 streams that 20 nodes made at once on three servers 5 were.
	firstLimit = 300 * time.Millisecond
	// totalLimit bounds Ensure where ctx has no deadline.
	totalLimit = 15 * time.Second
	// firstWait is the pause before the first repeat, and twice as much before
	// each next one, up to retryWait: to make a stream takes milliseconds, an
	// election seconds.
	firstWait = 20 * time.Millisecond
	retryWait = 250 * time.Millisecond
)

// Error codes of the JetStream API that nats.go has no name for.
const (
	codeAccountResources      = 10002
	codeInsufficientResources = 10023
	codeMemoryResources       = 10028
	codeStorageResources      = 10047
	codeNoPeers               = 10005
	codeUnavailable           = 10008
	codeReplicasNotSupported  = 10074
	codeSubjectsOverlap       = 10065
)

// Stream is what Ensure makes or compares.
type Stream struct {
	// Config is the stream in its final shape. Config.Replicas is ignored.
	Config jetstream.StreamConfig
	// Replicas is the number of replicas; 0 means 3 on a clustered NATS, else 1.
	// It is used when the stream is made and never compared: an operator may scale.
	Replicas int
	// NoProvision means that an operator made the stream: one that does not
	// exist is then an error instead of being made.
	NoProvision bool
}

// Ensure returns the stream of s. It creates it when it does not exist and
// compares it when it does; see the package for what is compared. It repeats
// what a server that is electing a leader does not answer until ctx ends.
//
// Errors: ErrServerTooOld, ErrNoJetStream, ErrDenied, ErrMissing, ErrDiffers,
// or ctx's, each with what was found and what to do.
func Ensure(ctx context.Context, js jetstream.JetStream, s Stream) (jetstream.Stream, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, totalLimit)
		defer cancel()
	}
	nc := js.Conn()
	if err := CheckServer(nc); err != nil {
		return nil, err
	}
	for limit, wait := firstLimit, firstWait; ; limit, wait = min(2*limit, attemptLimit), min(2*wait, retryWait) {
		stream, err := maker{js, limit}.attempt(ctx, s)
		if err == nil || !temporary(err) {
			return stream, err
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, fmt.Errorf("stream %s: %w (%w)", s.Config.Name, err, context.Cause(ctx))
		case <-timer.C:
		}
	}
}

// errInMaking means that somebody else is making the stream: in a cluster its
// name is taken a moment before every server knows of it.
var errInMaking = errors.New("the stream is being made")

// maker is one attempt of Ensure.
type maker struct {
	js jetstream.JetStream
	// limit bounds each of its requests.
	limit time.Duration
}

func (m maker) attempt(ctx context.Context, s Stream) (jetstream.Stream, error) {
	name := s.Config.Name
	stream, err := m.lookUp(ctx, name)
	switch {
	case err == nil:
		return stream, compare(stream.CachedInfo().Config, s.Config)
	case !errors.Is(err, jetstream.ErrStreamNotFound):
		return nil, err
	case s.NoProvision:
		return nil, fmt.Errorf("%w: %s, and NoProvision forbids to make it: ask the operator of NATS to add it", ErrMissing, name)
	}
	cfg := s.Config
	cfg.Replicas = Replicas(m.js.Conn(), s.Replicas)
	if inMemory, err := m.memoryOnly(ctx); err != nil {
		return nil, err
	} else if inMemory {
		cfg.Storage = jetstream.MemoryStorage
	}
	err = m.request(ctx, "$JS.API.STREAM.CREATE."+name, func(ctx context.Context) error {
		stream, err = m.js.CreateStream(ctx, cfg)
		return err
	})
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		// Somebody else made it meanwhile, from another configuration.
		if stream, err = m.lookUp(ctx, name); err == nil {
			return stream, compare(stream.CachedInfo().Config, s.Config)
		}
	}
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, fmt.Errorf("%w: %s (%w)", errInMaking, name, err)
	}
	if err != nil {
		return nil, explainCreate(name, cfg, err)
	}
	return stream, nil
}

// request makes one request on subject within the limit of the attempt.
func (m maker) request(ctx context.Context, subject string, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, m.limit)
	defer cancel()
	return Guard(ctx, m.js.Conn(), subject, do)
}

func (m maker) lookUp(ctx context.Context, name string) (stream jetstream.Stream, err error) {
	err = m.request(ctx, "$JS.API.STREAM.INFO."+name, func(ctx context.Context) error {
		stream, err = m.js.Stream(ctx, name)
		return err
	})
	if err != nil {
		return nil, explain(err)
	}
	return stream, nil
}

// Replicas returns the number of replicas for a stream made over nc: n, or for
// 0 three on a clustered NATS and one elsewhere.
func Replicas(nc *nats.Conn, n int) int {
	switch {
	case n > 0:
		return n
	case nc.ConnectedClusterName() != "":
		return 3
	}
	return 1
}

// memoryOnly tells whether the account may store nothing in files, as on an
// embedded server without a directory: its streams are then made in memory.
// Who may not ask is taken to have files; err means that the answer is yet to come.
func (m maker) memoryOnly(ctx context.Context) (yes bool, err error) {
	var info *jetstream.AccountInfo
	err = m.request(ctx, "$JS.API.INFO", func(ctx context.Context) (err error) {
		info, err = m.js.AccountInfo(ctx)
		return err
	})
	switch {
	case err == nil:
		return len(info.Tiers) == 0 && info.Limits.MaxStore == 0, nil
	case temporary(err):
		return false, fmt.Errorf("limits of the account: %w", err)
	}
	return false, nil
}

// temporary tells whether repeating may help.
func temporary(err error) bool {
	if errors.Is(err, ErrDenied) || errors.Is(err, ErrNoJetStream) || errors.Is(err, ErrDiffers) || errors.Is(err, ErrMissing) {
		return false
	}
	if errors.Is(err, errInMaking) {
		return true
	}
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		// No peers: the servers of a cluster that is starting are not all known yet.
		return api.ErrorCode == codeUnavailable || api.ErrorCode == codeNoPeers && !NoRoom(err)
	}
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) ||
		errors.Is(err, nats.ErrDisconnected) || errors.Is(err, nats.ErrReconnectBufExceeded)
}

func explain(err error) error {
	switch {
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("%w on this NATS server: start it with -js or a jetstream block (%w)", ErrNoJetStream, err)
	case errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return fmt.Errorf("%w for this account: enable it with \"jetstream: enabled\" (%w)", ErrNoJetStream, err)
	}
	return err
}

func explainCreate(name string, cfg jetstream.StreamConfig, err error) error {
	if NoRoom(err) {
		return fmt.Errorf("stream %s: the JetStream limits of the servers or the account leave no room: free some, or raise them: %w", name, err)
	}
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		switch api.ErrorCode {
		case codeNoPeers, codeReplicasNotSupported:
			return fmt.Errorf("stream %s: cannot be kept on %d servers, set Replicas to what this NATS can do: %w", name, cfg.Replicas, err)
		case codeSubjectsOverlap:
			return fmt.Errorf("stream %s: another stream has its subjects %q; find it with `nats stream find --subject`: %w", name, cfg.Subjects, err)
		}
	}
	if err = explain(err); errors.Is(err, ErrNoJetStream) {
		return err
	}
	return fmt.Errorf("stream %s: cannot be made: %w", name, err)
}

// NoRoom tells whether err says that the servers have not the room that a
// stream reserves. A cluster says it as the reason why it found no servers.
func NoRoom(err error) bool {
	api, ok := errors.AsType[*jetstream.APIError](err)
	if !ok {
		return false
	}
	switch api.ErrorCode {
	case codeAccountResources, codeInsufficientResources, codeMemoryResources, codeStorageResources:
		return true
	case codeNoPeers:
		return strings.Contains(api.Description, "insufficient storage")
	}
	return false
}
