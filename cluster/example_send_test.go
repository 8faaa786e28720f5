package cluster_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/catga/catga-go/cluster"
)

// A batch costs one wait for the server instead of one for each message.
func ExampleNode_SendBatch() {
	d := newDemo()
	defer d.end()
	heard := make(chan string, 3)
	n := d.join("n1", greeter(heard))
	batch := []cluster.Message{greeting{"one"}, greeting{"two"}, greeting{"three"}}
	fmt.Println(n.SendBatch(d.ctx, cluster.Any(), batch, cluster.ID("import-7")))
	for range batch {
		fmt.Println(<-heard)
	}
	// Where it is unknown what was stored, repeat it: what is there is not stored again.
	err := n.SendBatch(d.ctx, cluster.Any(), batch, cluster.ID("import-7"))
	fmt.Println(errors.Is(err, cluster.ErrDuplicate))
	// Unordered output:
	// <nil>
	// n1 hears "one" from n1
	// n1 hears "two" from n1
	// n1 hears "three" from n1
	// true
}

// A reminder that is taken back before it is due.
func ExampleNode_Cancel() {
	d := newDemo()
	defer d.end()
	heard := make(chan string)
	n := d.join("n1", greeter(heard))
	if err := n.Send(d.ctx, cluster.Any(), greeting{"pay, please"}, cluster.After(24*time.Hour), cluster.ID("reminder-7")); err != nil {
		panic(err)
	}
	fmt.Println(n.Cancel(d.ctx, "reminder-7"))
	fmt.Println(errors.Is(n.Cancel(d.ctx, "reminder-7"), cluster.ErrNotDelayed))
	// Output:
	// <nil>
	// true
}

// What is delayed is stored at once, and survives its sender.
func ExampleAt() {
	d := newDemo()
	defer d.end()
	heard := make(chan string)
	n := d.join("n1", greeter(heard))
	at := time.Now().Add(time.Second)
	if err := n.Send(d.ctx, cluster.To("n1"), greeting{"later"}, cluster.At(at)); err != nil {
		panic(err)
	}
	fmt.Println(<-heard, time.Now().After(at))
	// Output: n1 hears "later" from n1 true
}
