package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/catga/catga-go/cluster"
)

// Everybody who knows a price is asked. Who does not answer is named.
func ExampleGather() {
	d := newDemo()
	defer d.end()
	a := d.join("a", nil)
	for id, cents := range map[string]int{"b": 250, "c": 199} {
		d.join(id, func(n *cluster.Node) {
			cluster.HandleCall(n, func(context.Context, *cluster.Msg[getPrice]) (price, error) {
				return price{Cents: cents}, nil
			})
		})
	}
	d.join("z", func(n *cluster.Node) {
		cluster.HandleCall(n, func(context.Context, *cluster.Msg[getPrice]) (price, error) {
			return price{}, &cluster.HandlerError{Code: 404, Message: "sold out"}
		})
	})
	sees(d.ctx, a, "b", "c", "z")

	for answer, err := range cluster.Gather(d.ctx, a, cluster.All(), getPrice{"tea"}) {
		fmt.Println(answer.Node, answer.Body.Cents, err)
	}
	// Unordered output:
	// b 250 <nil>
	// c 199 <nil>
	// z 0 routing: handler of price.get at node z: sold out (code 404)
}

// The first good answer is enough: the loop may be left at any time.
func ExampleGather_first() {
	d := newDemo()
	defer d.end()
	a := d.join("a", nil)
	d.join("b", pricer)
	d.join("c", pricer)
	sees(d.ctx, a, "b", "c")
	for answer, err := range cluster.Gather(d.ctx, a, cluster.All(), getPrice{"tea"}) {
		if err == nil {
			fmt.Println(answer.Body.Cents)
			break
		}
	}
	// Output: 300
}

// Nodes are asked by name; those who cannot be asked are named with the reason.
func ExampleNode_GatherRaw() {
	d := newDemo()
	defer d.end()
	a := d.join("a", nil)
	d.join("b", pricer)
	sees(d.ctx, a, "b")
	said := map[string]string{}
	request := cluster.Raw{Name: "price.get", Data: []byte(`{"SKU":"tea"}`)}
	for answer, err := range a.GatherRaw(d.ctx, cluster.Nodes("a", "b", "eve"), request) {
		switch {
		case errors.Is(err, cluster.ErrNoMember):
			said[answer.Node] = "is no member"
		case errors.Is(err, cluster.ErrNoHandler):
			said[answer.Node] = "does not handle it"
		default:
			said[answer.Node] = string(answer.Body.Data)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(said)) {
		fmt.Println(id, said[id])
	}
	// Output:
	// a does not handle it
	// b {"Cents":300}
	// eve is no member
}
