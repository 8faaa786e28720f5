package kvregistry

import (
	"slices"
	"sync"

	"github.com/nats-io/nats.go"
)

// subscriptions are all those of a session, so that its end can wait for their
// handlers.
type subscriptions struct {
	mu     sync.Mutex
	closed bool
	live   []*nats.Subscription
	wg     sync.WaitGroup
}

func (ss *subscriptions) add(nc *nats.Conn, subject, queue string, handle nats.MsgHandler) (*nats.Subscription, error) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.closed {
		return nil, ErrClosed
	}
	sub, err := nc.QueueSubscribe(subject, queue, handle)
	if err != nil {
		return nil, err
	}
	ss.wg.Add(1)
	// Those of earlier tripwires and claims have ended.
	ss.live = slices.DeleteFunc(ss.live, func(old *nats.Subscription) bool { return !old.IsValid() })
	ss.live = append(ss.live, sub)
	ended := sync.OnceFunc(ss.wg.Done)
	sub.SetClosedHandler(func(string) { ended() })
	if !sub.IsValid() {
		// The connection was closed before the handler was set.
		ended()
	}
	return sub, nil
}

// addChan is add for messages that go to a channel. Who reads it ends by itself.
func (ss *subscriptions) addChan(nc *nats.Conn, subject string, to chan *nats.Msg) (*nats.Subscription, error) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.closed {
		return nil, ErrClosed
	}
	sub, err := nc.ChanSubscribe(subject, to)
	if err != nil {
		return nil, err
	}
	ss.live = append(ss.live, sub)
	return sub, nil
}

func (ss *subscriptions) close() {
	ss.mu.Lock()
	ss.closed = true
	live := ss.live
	ss.mu.Unlock()
	for _, sub := range live {
		_ = sub.Unsubscribe()
	}
	ss.wg.Wait()
}
