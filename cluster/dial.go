package cluster

import (
	"context"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/dial"
)

// Dial connects to NATS with what a long-lived node needs: it reconnects for
// ever, after 50 ms and up to 50 ms of jitter (with the stock 2 s a live node
// whose connection was dropped looks dead for 2 s), and buffers nothing while
// it is disconnected, so that an error means not sent. opts are applied last
// and win. An empty url is nats://127.0.0.1:4222; several are separated by
// commas.
//
// ctx bounds the wait for the first connection, 10 s if it has no deadline: a
// server that comes up meanwhile is found. The connection outlives ctx; the
// caller closes it, after the node.
func Dial(ctx context.Context, url string, opts ...nats.Option) (*nats.Conn, error) {
	return dial.Connect(ctx, url, opts...)
}
