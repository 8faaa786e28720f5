package routing

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/catga/catga-go/internal/wire"
)

// durable is the durable side of a router: a puller per consumer.
type durable struct {
	link    link
	missing chan struct{} // a consumer or stream was missed

	once  sync.Once // makes the pullers, when the kinds are settled
	all   []*puller
	work  map[string]*puller // by kind
	mail  *puller
	fan   *puller
	heard []*nats.Subscription // questions about what is in hand

	releases releases
	sweeps   sweeps
}

func (d *durable) init() {
	d.link.init()
	d.missing = make(chan struct{}, 1)
	d.releases.init()
	d.sweeps.init()
}

// pullers returns the pullers of all consumers, which it makes when the kinds
// are settled. A node without handlers has none.
func (r *Router) pullers() []*puller {
	d := &r.durable
	d.once.Do(func() {
		d.work = map[string]*puller{}
		var kinds []*kind
		for _, name := range r.Kinds() {
			kinds = append(kinds, r.kinds[name])
		}
		if len(kinds) == 0 {
			return
		}
		node := wire.NodeConsumer(r.id)
		d.mail = r.newPuller(r.cluster.MailStream(), node, r.cluster.NodeMail(r.id, ""), r.mailConsumer, kinds...)
		d.fan = r.newPuller(r.cluster.FanoutStream(), node, r.cluster.All(""), r.fanoutConsumer, kinds...)
		d.mail.mixed, d.fan.mixed = true, true
		d.all = append(d.all, d.mail, d.fan)
		for _, k := range kinds {
			p := r.newPuller(r.cluster.WorkStream(), wire.WorkConsumer(k.name), r.cluster.Work(""), func() jetstream.ConsumerConfig { return r.workConsumer(k.name) }, k)
			d.work[k.name] = p
			d.all = append(d.all, p)
		}
		for i, p := range d.all {
			p.place = i
		}
	})
	return d.all
}

// observes reports whether this router was started without Prepare: it has
// nothing of its own at the server.
func (r *Router) observes() bool { return r.observer.Load() }

// miss asks for a look at what is there.
func (r *Router) miss() {
	select {
	case r.durable.missing <- struct{}{}:
	default:
	}
}

// startDurable begins to consume.
func (r *Router) startDurable(context.Context) error {
	statuses := r.nc.StatusChanged(nats.CONNECTED, nats.RECONNECTING, nats.DISCONNECTED, nats.CLOSED)
	if r.nc.IsConnected() {
		r.durable.link.raise()
	}
	r.wg.Go(func() { r.watchLink(statuses) })
	if r.observes() {
		return nil
	}
	r.startSweeps()
	pullers := r.pullers()
	r.wg.Go(r.reportProgress)
	if len(pullers) == 0 {
		return nil
	}
	r.wg.Go(r.runReleases)
	for _, p := range pullers {
		r.wg.Go(func() {
			if p.mixed {
				// What an earlier life of this node left in hand comes first.
				r.releaseOwn(p)
			}
			p.run(r.ctx)
		})
	}
	r.releaseAtStart()
	return nil
}

// reportProgress tells the server every 5 s of everything in hand.
func (r *Router) reportProgress() {
	ticker := time.NewTicker(progressEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if r.durable.link.up.Load() {
				for _, p := range r.durable.all {
					p.progress()
				}
				for _, m := range r.durable.sweeps.atWork() {
					m.progress()
				}
			}
		case <-r.ctx.Done():
			return
		}
	}
}

// drainDurable hands back what has not begun, waits for the running handlers,
// and for the server to have all answers.
func (r *Router) drainDurable(ctx context.Context) error {
	if r.observes() {
		return nil
	}
	pullers := r.pullers()
	for _, p := range pullers {
		p.beginDrain()
	}
	busy := []<-chan struct{}{r.durable.sweeps.end()}
	for _, k := range r.kinds {
		busy = append(busy, k.lane.close())
	}
	for _, p := range pullers {
		busy = append(busy, p.done)
	}
	for _, done := range busy {
		select {
		case <-done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if err := flush(ctx, r.nc); err != nil {
		return err
	}
	r.awaitLeaders(ctx)
	r.left.Store(true)
	return r.deleteConsumers(ctx)
}

// awaitLeaders waits until the leaders of the consumers have processed all
// answers: what they still take for pending when the others hear the goodbye is
// handed back. A leader that cannot be heard is not waited for beyond leaderLimit.
func (r *Router) awaitLeaders(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, leaderLimit)
	defer cancel()
	var wg sync.WaitGroup
	for _, p := range r.pullers() {
		wg.Go(func() {
			for wait := newPause(); ; {
				err := r.roundTrip(ctx, p.source(), roundTripLimit)
				if err == nil || r.ctx.Err() != nil {
					return
				}
				if errors.Is(err, nats.ErrNoResponders) {
					if _, err := r.consumerInfo(ctx, p.stream, p.consumer); isNotFound(err) {
						return
					}
				}
				if !wait.wait(ctx) {
					r.log.Warn("a consumer does not say that it has the last answers; what was done may be done again", "stream", p.stream, "consumer", p.consumer, "err", err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// leaderLimit is how long a node that leaves waits for that.
const leaderLimit = 5 * time.Second

// deleteConsumers removes what a node that left has no use for: all of an
// anonymous node, which never comes back. A named node finds what it has not
// read in its mailbox and its fan-out when it is back; the server forgets a
// fan-out consumer by itself when nobody has used it for as long as messages live.
func (r *Router) deleteConsumers(ctx context.Context) error {
	if r.durable.fan == nil || !r.cfg.Anonymous {
		return nil
	}
	var errs []error
	for _, p := range []*puller{r.durable.fan, r.durable.mail} {
		err := r.api(ctx, "$JS.API.CONSUMER.DELETE."+p.stream+"."+p.consumer, func(ctx context.Context) error {
			return r.js.DeleteConsumer(ctx, p.stream, p.consumer)
		})
		if err != nil && !isNotFound(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// closeDurable ends what Close does not end by the router's ctx.
func (r *Router) closeDurable() {
	r.mu.Lock()
	kinds := make([]*kind, 0, len(r.kinds))
	for _, k := range r.kinds {
		kinds = append(kinds, k)
	}
	subs := slices.Clone(r.durable.heard)
	r.durable.heard = nil
	r.mu.Unlock()
	for _, k := range kinds {
		k.lane.close()
	}
	for _, sub := range subs {
		_ = sub.Unsubscribe() // the only errors are of a closed connection
	}
}
