package routing

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/catga/catga-go/internal/provision"
	"github.com/catga/catga-go/internal/wire"
)

const (
	// ackWait is when the server gives up on a node that says nothing more of a
	// message: longer than an election, in which nobody can say anything. It is
	// the back-up of the release of a lost node's work.
	ackWait = 20 * time.Second
	// progressEvery is how often a node says that it still has a message; three
	// of them may get lost.
	progressEvery = 5 * time.Second
	// maxAckPending is how much of a consumer can be in hand, waiting retries
	// included, at all nodes together.
	maxAckPending = 10_000
	// maxWaiting is how many orders can wait at a consumer. The server's 512
	// are reached by some 170 nodes that handle the same kind.
	maxWaiting = 16_384
	// anonymousMail is how long the mailbox of a node that made up its name
	// outlives it; it must be longer than a partition that it may survive.
	anonymousMail = 10 * time.Minute
	// parallelCreates bounds the consumers that are made side by side.
	parallelCreates = 8
)

// workConsumer is shared by the handlers of kind. Every node makes the same.
func (r *Router) workConsumer(kind string) jetstream.ConsumerConfig {
	cfg := baseConsumer(wire.WorkConsumer(kind))
	cfg.FilterSubjects = []string{r.cluster.Work(kind)}
	return cfg
}

// mailConsumer is this node's mailbox. Filters are exact: the server refuses a
// wildcard beside the exact filter of another consumer of a work queue, and a
// kind that the node does not handle stays where others can get at it.
func (r *Router) mailConsumer() jetstream.ConsumerConfig {
	cfg := baseConsumer(wire.NodeConsumer(r.id))
	for _, kind := range r.Kinds() {
		cfg.FilterSubjects = append(cfg.FilterSubjects, r.cluster.NodeMail(r.id, kind))
	}
	if r.cfg.Anonymous {
		cfg.InactiveThreshold = anonymousMail
	}
	return cfg
}

// fanoutConsumer is what this node hears of the messages to many. It exists
// from before the node is seen until it leaves.
func (r *Router) fanoutConsumer() jetstream.ConsumerConfig {
	cfg := baseConsumer(wire.NodeConsumer(r.id))
	for _, kind := range r.Kinds() {
		cfg.FilterSubjects = append(cfg.FilterSubjects, r.cluster.All(kind))
	}
	cfg.DeliverPolicy = jetstream.DeliverNewPolicy
	if from := r.durable.fan.resumeFrom(); from > 0 {
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, from
	}
	cfg.InactiveThreshold = r.cfg.FanoutAge
	return cfg
}

// baseConsumer is what all consumers have in common. It has no BackOff, because
// that distorts delayed naks (300 became 802 ms, measured), and no MaxDeliver,
// because with it the server drops a message where we want a dead letter.
func baseConsumer(name string) jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable:       name,
		AckPolicy:     jetstream.AckExplicitPolicy,
		DeliverPolicy: jetstream.DeliverAllPolicy,
		AckWait:       ackWait,
		MaxDeliver:    -1,
		MaxAckPending: maxAckPending,
		MaxWaiting:    maxWaiting,
	}
}

// provisionConsumers makes the consumers of all pullers that are not there. A
// node without handlers has none.
func (r *Router) provisionConsumers(ctx context.Context) error {
	var (
		wg    sync.WaitGroup
		slots = make(chan struct{}, parallelCreates)
		mu    sync.Mutex
		errs  []error
	)
	for _, p := range r.pullers() {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if err := r.ensureConsumer(ctx, p); err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// ensureConsumer makes the consumer of p, or takes the one that is there. Of an
// existing one only the filters of the node's own are brought up to date;
// everything else is the operator's.
func (r *Router) ensureConsumer(ctx context.Context, p *puller) error {
	var info *jetstream.ConsumerInfo
	if p.wasMade() {
		// A look is enough as a rule, and costs the servers no agreement: after a
		// restart every node of the cluster is here.
		err := r.api(ctx, "$JS.API.CONSUMER.INFO."+p.stream+"."+p.consumer, func(ctx context.Context) (err error) {
			info, err = r.consumerInfo(ctx, p.stream, p.consumer)
			return err
		})
		if err == nil {
			p.provisioned(info)
			return nil
		}
		if !isNotFound(err) {
			return fmt.Errorf("consumer %s of stream %s: %w", p.consumer, p.stream, err)
		}
	}
	cfg := p.config()
	info, err := r.makeConsumer(ctx, p, cfg)
	if isTaken(err) && p == r.durable.mail {
		// Somebody is just moving mail of kinds that this node did not handle.
		limited, cancel := context.WithTimeout(ctx, moverConsumerLife+restoreLimit)
		defer cancel()
		for wait := newPause(); isTaken(err) && wait.wait(limited); {
			info, err = r.makeConsumer(limited, p, cfg)
		}
	}
	if err != nil {
		return fmt.Errorf("consumer %s of stream %s: %w", p.consumer, p.stream, err)
	}
	p.provisioned(info)
	return nil
}

// isTaken reports a consumer that the server refuses because another one of the
// queue brings one of its subjects.
func isTaken(err error) bool {
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && api.ErrorCode == codeNotUnique
}

// codeNotUnique is the server's error code of it.
const codeNotUnique = 10100

// makeConsumer makes the consumer of p, or takes the one that is there and brings its filters up to date.
func (r *Router) makeConsumer(ctx context.Context, p *puller, cfg jetstream.ConsumerConfig) (info *jetstream.ConsumerInfo, err error) {
	err = r.api(ctx, "$JS.API.CONSUMER.CREATE."+p.stream+"."+p.consumer, func(ctx context.Context) error {
		c, err := r.js.CreateConsumer(ctx, p.stream, cfg)
		if err == nil {
			info = c.CachedInfo()
		}
		return err
	})
	if errors.Is(err, jetstream.ErrConsumerExists) {
		return r.adoptConsumer(ctx, p, cfg)
	}
	return info, err
}

// adoptConsumer takes an existing consumer whose settings differ from ours.
func (r *Router) adoptConsumer(ctx context.Context, p *puller, want jetstream.ConsumerConfig) (info *jetstream.ConsumerInfo, err error) {
	err = r.api(ctx, "$JS.API.CONSUMER.INFO."+p.stream+"."+p.consumer, func(ctx context.Context) error {
		info, err = r.consumerInfo(ctx, p.stream, p.consumer)
		return err
	})
	if err != nil {
		return nil, err
	}
	have := info.Config
	if have.AckPolicy != jetstream.AckExplicitPolicy {
		return nil, fmt.Errorf("exists with ack policy %v, must be explicit; mend it with: nats consumer rm %s %s", have.AckPolicy, p.stream, p.consumer)
	}
	filters := have.FilterSubjects
	if have.FilterSubject != "" {
		filters = []string{have.FilterSubject}
	}
	slices.Sort(filters)
	if slices.Equal(filters, slices.Sorted(slices.Values(want.FilterSubjects))) {
		return info, nil
	}
	have.FilterSubject, have.FilterSubjects = "", want.FilterSubjects
	err = r.api(ctx, "$JS.API.CONSUMER.CREATE."+p.stream+"."+p.consumer, func(ctx context.Context) error {
		c, err := r.js.UpdateConsumer(ctx, p.stream, have)
		if err == nil {
			info = c.CachedInfo()
		}
		return err
	})
	return info, err
}

// consumerInfo asks for the state of a consumer.
func (r *Router) consumerInfo(ctx context.Context, stream, consumer string) (*jetstream.ConsumerInfo, error) {
	c, err := r.js.Consumer(ctx, stream, consumer)
	if err != nil {
		return nil, err
	}
	return c.CachedInfo(), nil
}

// api makes a request of the JetStream API and repeats it while nobody answers
// it, as in an election, until ctx ends.
func (r *Router) api(ctx context.Context, subject string, do func(context.Context) error) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	pause := newPause()
	for {
		err := provision.Guard(ctx, r.nc, subject, do)
		if err == nil || !transient(err) {
			return err
		}
		if !pause.wait(ctx) {
			return fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		}
	}
}

// transient reports whether a request of the JetStream API may succeed later.
func transient(err error) bool {
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		return api.Code == 503 && api.ErrorCode != jetstream.JSErrCodeJetStreamNotEnabled &&
			api.ErrorCode != jetstream.JSErrCodeJetStreamNotEnabledForAccount
	}
	if errors.Is(err, provision.ErrDenied) {
		return false
	}
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) ||
		errors.Is(err, nats.ErrNoResponders) || errors.Is(err, nats.ErrDisconnected) ||
		errors.Is(err, nats.ErrReconnectBufExceeded)
}

// bounded gives ctx the time limit of a verb where it has none.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, sendTimeout, errDeadline)
}
