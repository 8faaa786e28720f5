package cluster

import (
	"maps"
	"strconv"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/microsrv"
	"github.com/catga/catga-go/internal/wire"
)

// discovery answers as a NATS service, so that the node and its kinds show up in
// "nats micro ls", "info", "stats" and "ping". It has three subscriptions and
// one goroutine.
type discovery struct {
	n        *Node
	requests chan *nats.Msg
	subs     []*nats.Subscription
	once     sync.Once
	quit     chan struct{}
	wg       sync.WaitGroup
}

// requestBuffer is how many requests wait; nats.go drops one beyond it.
const requestBuffer = 64

// What the node says of itself beside its metadata.
const (
	keyVersion     = "version" // the user's, if he states one
	keyEndpoint    = "catga.endpoint"
	keyIncarnation = "catga.incarnation"
	keyState       = "catga.state"
	keyKind        = "kind"
	keyNodeSubject = "node_subject"
	keyWorkSubject = "work_subject"
)

// startDiscovery begins to answer. Without it a node works as well, so what goes
// wrong is logged; a permission that is missing is told to the connection's
// ErrorHandler.
func (n *Node) startDiscovery() {
	d := &discovery{n: n, requests: make(chan *nats.Msg, requestBuffer), quit: make(chan struct{})}
	for _, subject := range microsrv.Subjects(n.cfg.Cluster, n.id) {
		sub, err := n.nc.ChanSubscribe(subject, d.requests)
		if err != nil {
			n.cfg.Log.Warn("the node does not show up among the NATS services", "cluster", n.cfg.Cluster, "node", n.id, "subject", subject, "err", err)
			continue
		}
		d.subs = append(d.subs, sub)
	}
	d.wg.Go(d.run)
	n.discovery = d
}

// stop ends it. It may be called twice, and on nil.
func (d *discovery) stop() {
	if d == nil {
		return
	}
	d.once.Do(func() {
		for _, sub := range d.subs {
			_ = sub.Unsubscribe() // the connection may be closed
		}
		close(d.quit)
		d.wg.Wait()
	})
}

func (d *discovery) run() {
	for {
		select {
		case m := <-d.requests:
			d.answer(m)
		case <-d.quit:
			return
		}
	}
}

// answer answers a request if the node is a member, by its own view: one that
// was evicted is silent until it is back.
func (d *discovery) answer(m *nats.Msg) {
	verb, ok := microsrv.VerbOf(m.Subject)
	self, known := d.n.View().Member(d.n.id)
	if !ok || m.Reply == "" || !known || self.State == Offline {
		return
	}
	body, err := d.n.instance(self).Answer(verb)
	if err == nil {
		err = d.n.nc.Publish(m.Reply, body)
	}
	if err != nil {
		d.n.cfg.Log.Warn("cannot answer as a NATS service", "cluster", d.n.cfg.Cluster, "node", d.n.id, "subject", m.Subject, "bytes", len(body), "err", err)
	}
}

// instance is the node as a NATS service: the cluster is the service, the node
// an instance of it, each kind an endpoint.
func (n *Node) instance(self Member) microsrv.Instance {
	i := microsrv.Instance{
		Name: n.cfg.Cluster, ID: n.id,
		Version:     microsrv.Version(self.Metadata[keyVersion]),
		Description: "node of the Catga cluster " + n.cfg.Cluster,
		Metadata:    serviceMetadata(self),
		Started:     self.Started,
	}
	c := wire.Cluster(n.cfg.Cluster)
	for _, s := range n.Stats() {
		i.Endpoints = append(i.Endpoints, microsrv.Endpoint{
			Name: wire.Dashed(s.Kind), Subject: c.CallAny(s.Kind), QueueGroup: wire.CallQueue,
			Metadata: map[string]string{keyKind: s.Kind, keyNodeSubject: c.CallNode(n.id, s.Kind), keyWorkSubject: c.Work(s.Kind)},
			Requests: s.Received + s.Calls, Errors: s.Failed, LastError: s.LastError, Total: s.Total, Mean: s.Mean,
			Data: kindData{
				Received: s.Received, Calls: s.Calls, Failed: s.Failed, Retried: s.Retried,
				Dead: s.Dead, InFlight: s.InFlight, Paused: s.Paused,
			},
		})
	}
	return i
}

// kindData is what KindStats has beyond the services API.
type kindData struct {
	Received uint64 `json:"received"`
	Calls    uint64 `json:"calls"`
	Failed   uint64 `json:"failed"`
	Retried  uint64 `json:"retried"`
	Dead     uint64 `json:"dead"`
	InFlight int    `json:"in_flight"`
	Paused   bool   `json:"paused"`
}

// serviceMetadata is the metadata of a member and what else its record says.
func serviceMetadata(m Member) map[string]string {
	md := make(map[string]string, len(m.Metadata)+3)
	maps.Copy(md, m.Metadata)
	md[keyIncarnation] = strconv.FormatUint(m.Incarnation, 10)
	md[keyState] = string(m.State)
	if m.Endpoint != "" {
		md[keyEndpoint] = m.Endpoint
	}
	return md
}
