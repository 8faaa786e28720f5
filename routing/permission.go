package routing

import (
	"context"
	"slices"

	"github.com/catga/catga-go/internal/provision"
	"github.com/catga/catga-go/internal/wire"
)

// permitted returns ErrDenied with everything that the handlers of this node
// need and its user may not do, as far as the server tells. What only senders
// need is named by the verbs that send: not every node may send everything.
func (r *Router) permitted(ctx context.Context) error {
	c := r.cluster
	need := provision.Needs{Subscribe: []string{c.Inbox(r.id, 0, "x")}}
	for _, stream := range []string{c.WorkStream(), c.MailStream(), c.FanoutStream(), c.DeadStream()} {
		need.Publish = append(need.Publish, "$JS.API.STREAM.INFO."+stream)
	}
	for _, p := range r.pullers() {
		need.Publish = append(need.Publish,
			"$JS.API.CONSUMER.CREATE."+p.stream+"."+p.consumer,
			"$JS.API.CONSUMER.INFO."+p.stream+"."+p.consumer, "$JS.API.CONSUMER.MSG.NEXT."+p.stream+"."+p.consumer,
			"$JS.ACK."+p.stream+"."+p.consumer+".>")
		if p.consumer == wire.NodeConsumer(r.id) {
			need.Publish = append(need.Publish, "$JS.API.CONSUMER.DELETE."+p.stream+"."+p.consumer)
		}
	}
	kinds := r.Kinds()
	if len(kinds) > 0 {
		need.Publish = append(need.Publish, c.Inbox("*", 0, "x"), "$JS.API.CONSUMER.NAMES."+c.MailStream())
		// Each node with handlers may be the one that settles the mail of the lost, and
		// the work that nobody handles.
		for _, stream := range []string{c.WorkStream(), c.MailStream()} {
			need.Publish = append(need.Publish,
				"$JS.API.CONSUMER.CREATE."+stream+".*", "$JS.API.CONSUMER.DELETE."+stream+".*", "$JS.API.CONSUMER.INFO."+stream+".*", "$JS.API.CONSUMER.MSG.NEXT."+stream+".*",
				"$JS.API.DIRECT.GET."+stream, "$JS.API.DIRECT.GET."+stream+".>")
		}
	}
	for _, kind := range kinds {
		need.Publish = append(need.Publish, c.Held(kind), c.Dead(kind))
		need.Subscribe = append(need.Subscribe, c.Held(kind), c.CallNode(r.id, kind), c.CallAll(kind), c.CallAny(kind))
	}
	slices.Sort(need.Publish)
	need.Publish = slices.Compact(need.Publish)
	granted, err := provision.AskPermissions(ctx, r.nc)
	if err != nil {
		return err
	}
	return granted.Lack(need)
}
