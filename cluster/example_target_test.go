package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/catga/catga-go/cluster"
)

// Where narrows a target by metadata, in the syntax of Kubernetes.
func ExampleWhere() {
	d := newDemo()
	defer d.end()
	heard := make(chan string)
	a := d.join("a", nil)
	for _, id := range []string{"b", "c", "canary"} {
		d.join(id, greeter(heard))
	}
	zones := map[string]map[string]string{
		"b": {"zone": "1"}, "c": {"zone": "2"}, "canary": {"zone": "1", "canary": "yes"},
	}
	d.describe(a, zones)

	if err := a.Send(d.ctx, cluster.All(cluster.Where("zone in (1,2), !canary")), greeting{"all of you"}); err != nil {
		panic(err)
	}
	fmt.Println(<-heard)
	fmt.Println(<-heard)
	if err := a.Send(d.ctx, cluster.Any(cluster.Where("canary")), greeting{"one of you"}); err != nil {
		panic(err)
	}
	fmt.Println(<-heard)

	err := a.Send(d.ctx, cluster.Any(cluster.Where("zone=3")), greeting{"anybody?"})
	fmt.Println(errors.Is(err, cluster.ErrNoMember))
	fmt.Println(a.Send(d.ctx, cluster.All(cluster.Where("zone in 1")), greeting{"oh"}))
	// Unordered output:
	// b hears "all of you" from a
	// c hears "all of you" from a
	// canary hears "one of you" from a
	// true
	// routing: not delivered: bad selector "zone in 1": at character 9: expected (, found "1"
}

// located answers getPrice with the length of its node's id, to tell who it was.
func located(n *cluster.Node) {
	cluster.HandleCall(n, func(context.Context, *cluster.Msg[getPrice]) (price, error) {
		return price{Cents: len(n.ID())}, nil
	})
}

// By default calls go to the others in turn; Pick chooses in another way.
func ExamplePick() {
	d := newDemo()
	defer d.end()
	a := d.join("a", located)
	d.join("bb", located)
	d.join("cccc", located)
	sees(d.ctx, a, "bb", "cccc")
	ask := func(opts ...cluster.CallOption) int {
		p, err := cluster.Call(d.ctx, a, cluster.Any(), getPrice{"pen"}, opts...)
		if err != nil {
			panic(err)
		}
		return p.Cents
	}
	fmt.Println("in turn:", ask()+ask())
	fmt.Println("local first:", ask(cluster.Pick(cluster.LocalFirst)))
	one := ask(cluster.Pick(cluster.LeastPending))
	fmt.Println("least pending, one of the others:", one == 2 || one == 4)
	// Output:
	// in turn: 6
	// local first: 1
	// least pending, one of the others: true
}

// The longest uptime is asked first.
func ExamplePickFunc() {
	d := newDemo()
	defer d.end()
	a := d.join("a", nil)
	d.join("bb", located)
	d.join("cccc", located)
	sees(d.ctx, a, "bb", "cccc")
	oldest := cluster.PickFunc(func(_ string, candidates []cluster.Member) string {
		return slices.MinFunc(candidates, func(x, y cluster.Member) int { return x.Started.Compare(y.Started) }).ID
	})
	for range 2 {
		p, err := cluster.Call(d.ctx, a, cluster.Any(), getPrice{"pen"}, cluster.Pick(oldest))
		fmt.Println(p.Cents, err)
	}
	// Output:
	// 2 <nil>
	// 2 <nil>
}
