package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"strconv"

	"github.com/catga/catga-go/cluster"
)

// runWorker joins the cluster, counts what it is given, and ends when its
// standard input does: that happens also when the coordinator is killed.
func runWorker(ctx context.Context, url, clusterName, id string, stdin io.Reader) error {
	// Ctrl-C reaches every process of the terminal; the coordinator decides.
	signal.Ignore(os.Interrupt)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, stdin)
		cancel()
	}()

	nc, err := cluster.Dial(ctx, url)
	if err != nil {
		return err
	}
	defer nc.Close()
	node, err := cluster.New(nc, cluster.Config{Cluster: clusterName, Node: id})
	if err != nil {
		return err
	}
	cluster.Handle(node, func(ctx context.Context, m *cluster.Msg[countTask]) error {
		begun := taskBegun{File: m.Body.File, Attempt: m.Attempt}
		if m.Attempt == 1 {
			_ = node.Send(ctx, cluster.To(coordinatorID), begun, cluster.AtMostOnce())
		} else if err := node.Send(ctx, cluster.To(coordinatorID), begun); err != nil {
			return err
		}
		done := taskCounted{File: m.Body.File}
		var err error
		if done.Figures, err = countFile(m.Body.Path); err != nil {
			done.Err = err.Error()
		}
		// The same id from whoever counts the file: the result is stored once.
		err = node.Send(ctx, cluster.To(coordinatorID), done, cluster.ID(strconv.Itoa(m.Body.File)))
		if errors.Is(err, cluster.ErrDuplicate) {
			return nil
		}
		return err
	})
	if err := node.Join(ctx); err != nil {
		return err
	}
	defer node.Close()
	select {
	case <-ctx.Done():
		return nil
	case <-node.Done():
		return node.Err()
	}
}
