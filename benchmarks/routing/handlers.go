package routing

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	natsmicro "github.com/nats-io/nats.go/micro"

	"github.com/catga/catga-go/cluster"
)

// The kinds. What is compared with has the same name after "raw." or "micro.".
const (
	kindEcho  = "echo"  // answers with what it got
	kindSlow  = "slow"  // the same after slowTime
	kindMixed = "mixed" // the same, one of mixedOf after mixedTime
	kindJSON  = "json"  // a request and an answer in JSON
	kindCast  = "cast"  // counts
	kindLoad  = "load"  // of the nodes that answer to many

	kindSink = "sink" // is stored and never handled
	kindJob  = "job"  // is handled in orders of jobBatch
	kindTask = "task" // is handled in orders of taskBatch

	slowTime  = 5 * time.Millisecond
	mixedTime = 20 * time.Millisecond
	mixedOf   = 200
	jobBatch  = 256
	taskBatch = 16 // what the library does where nobody says otherwise
)

// storedKinds are those of stored messages.
var storedKinds = []string{kindSink, kindJob, kindTask}

func rawCall(kind string) string   { return "raw." + kind }
func microCall(kind string) string { return "micro." + kind }

// quote and price are what travels as JSON, about as large as the raw body.
type quote struct {
	SKU      string `json:"sku"`
	Quantity int    `json:"quantity"`
	Customer string `json:"customer"`
	Currency string `json:"currency"`
	Note     string `json:"note"`
}

type price struct {
	Cents    int64  `json:"cents"`
	Currency string `json:"currency"`
	Note     string `json:"note"`
}

// Kind implements cluster.Message.
func (quote) Kind() string { return kindJSON }

// Returns ties the types together.
func (quote) Returns(price) {}

func aQuote() quote {
	return quote{SKU: "A-4711", Quantity: 3, Customer: "customer-000042", Currency: "EUR", Note: "as soon as possible"}
}

func (q quote) price() price {
	return price{Cents: int64(q.Quantity) * 995, Currency: q.Currency, Note: q.Note}
}

// localCallee answers in every way from this process.
type localCallee struct {
	dial dialer
	node *cluster.Node
	own  *nats.Conn // of the node
	nc   *nats.Conn // of the others
	js   jetstream.JetStream
	ends []func()

	casts map[string]*castCounter // by side
	jobs  map[string]*jobCounter  // by kind, ours
}

func newLocalCallee(ctx context.Context, dial dialer) (c *localCallee, err error) {
	c = &localCallee{dial: dial, casts: map[string]*castCounter{}, jobs: map[string]*jobCounter{}}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if c.nc, err = c.conn(ctx); err != nil {
		return c, err
	}
	if c.js, err = jetstream.New(c.nc); err != nil {
		return c, err
	}
	control, err := c.conn(ctx)
	if err != nil {
		return c, err
	}
	for _, side := range castSides {
		c.casts[side] = &castCounter{nc: control, subject: castControl(side)}
	}
	if err := c.subscribeRaw(); err != nil {
		return c, err
	}
	if err := c.addService(ctx); err != nil {
		return c, err
	}
	c.node, c.own, err = join(ctx, dial, "callee", &c.ends, c.register)
	if err != nil {
		return c, err
	}
	return c, c.nc.Flush()
}

// conn makes a connection that ends with the callee.
func (c *localCallee) conn(ctx context.Context) (*nats.Conn, error) {
	nc, err := c.dial(ctx)
	if err == nil {
		c.ends = append(c.ends, nc.Close)
	}
	return nc, err
}

func (c *localCallee) close() {
	for _, end := range slices.Backward(c.ends) {
		end()
	}
	c.ends = nil
}

// slowWork takes its time, as a request to a database would.
func slowWork() { <-time.After(slowTime) }

// mixedWork takes its time in one of mixedOf calls; each side has its own.
func mixedWork() func() {
	var n atomic.Int64
	return func() {
		if n.Add(1)%mixedOf == 0 {
			<-time.After(mixedTime)
		}
	}
}

// register is our side.
func (c *localCallee) register(n *cluster.Node) {
	echo := func(work func()) cluster.Handler {
		return func(_ context.Context, m *cluster.Msg[cluster.Raw]) (cluster.Raw, error) {
			work()
			return cluster.Raw{Data: m.Body.Data}, nil
		}
	}
	n.HandleRaw(kindEcho, echo(func() {}))
	n.HandleRaw(kindSlow, echo(slowWork))
	n.HandleRaw(kindMixed, echo(mixedWork()))
	cluster.HandleCall(n, func(_ context.Context, m *cluster.Msg[quote]) (price, error) { return m.Body.price(), nil })
	n.HandleRaw(kindCast, func(context.Context, *cluster.Msg[cluster.Raw]) (cluster.Raw, error) {
		c.casts[ours].count()
		return cluster.Raw{}, nil
	})
	for _, kind := range storedKinds {
		batch := taskBatch
		if kind == kindJob {
			batch = jobBatch
		}
		job := &jobCounter{}
		c.jobs[kind] = job
		n.HandleRaw(kind, func(context.Context, *cluster.Msg[cluster.Raw]) (cluster.Raw, error) {
			job.count()
			return cluster.Raw{}, nil
		}, cluster.Concurrency(batch))
		_ = n.Pause(kind) // it is one of its kinds
	}
}

// subscribeRaw is the side of plain nats.go.
func (c *localCallee) subscribeRaw() error {
	echo := func(work func()) nats.MsgHandler {
		return func(m *nats.Msg) {
			work()
			_ = m.Respond(m.Data) // the caller would wait and say so
		}
	}
	for subject, handler := range map[string]nats.MsgHandler{
		rawCall(kindEcho):  echo(func() {}),
		rawCall(kindSlow):  echo(slowWork),
		rawCall(kindMixed): echo(mixedWork()),
		rawCall(kindCast):  func(*nats.Msg) { c.casts[raw].count() },
		namedCast:          func(*nats.Msg) { c.casts[named].count() },
	} {
		if _, err := c.nc.Subscribe(subject, handler); err != nil {
			return err
		}
	}
	return nil
}

// addService is the side of nats.go/micro.
func (c *localCallee) addService(ctx context.Context) error {
	nc, err := c.conn(ctx)
	if err != nil {
		return err
	}
	svc, err := natsmicro.AddService(nc, natsmicro.Config{Name: "bench", Version: "1.0.0"})
	if err != nil {
		return err
	}
	c.ends = append(c.ends, func() { _ = svc.Stop() })
	echo := func(work func()) natsmicro.HandlerFunc {
		return func(r natsmicro.Request) {
			work()
			_ = r.Respond(r.Data())
		}
	}
	for kind, handler := range map[string]natsmicro.HandlerFunc{
		kindEcho:  echo(func() {}),
		kindSlow:  echo(slowWork),
		kindMixed: echo(mixedWork()),
		kindJSON: func(r natsmicro.Request) {
			var q quote
			if err := json.Unmarshal(r.Data(), &q); err != nil {
				_ = r.Error("400", err.Error(), nil)
				return
			}
			_ = r.RespondJSON(q.price())
		},
	} {
		if err := svc.AddEndpoint(kind, handler, natsmicro.WithEndpointSubject(microCall(kind))); err != nil {
			return err
		}
	}
	return nc.Flush()
}

func (c *localCallee) do(ctx context.Context, o order) (answer, error) {
	switch o.Do {
	case doMallocs:
		return answer{Mallocs: mallocs()}, nil
	case doHandle:
		took, err := c.handle(ctx, o)
		return answer{Nanos: took.Nanoseconds()}, err
	case doGather:
		return answer{}, c.startMany(ctx, o.N)
	}
	return answer{}, fmt.Errorf("no order %q", o.Do)
}
