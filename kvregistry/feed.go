package kvregistry

import (
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The feed is what the server republishes of the record stream: each put and
// each marker as a core message, in the order of the stream. It needs no
// consumer: KV watchers stop at 1,000, and are blind for 11 to 17 seconds after
// the server that had theirs is gone. It is at most once: the table sees holes,
// and catch-ups fill them.

// decodeFeed reads one message of the feed.
func (s *session) decodeFeed(msg *nats.Msg) (change, error) {
	id, ok := s.cluster.NodeOfSubject(msg.Subject)
	if !ok {
		return change{}, fmt.Errorf("feed: subject %q", msg.Subject)
	}
	revision, err := strconv.ParseUint(msg.Header.Get(jetstream.SequenceHeader), 10, 64)
	if err != nil || revision == 0 {
		return change{}, fmt.Errorf("feed: %s has no sequence", msg.Subject)
	}
	return change{id: id, revision: revision, gone: isMarker(msg.Header), data: msg.Data}, nil
}

// maxFeed is how many messages of the feed may wait for the loop. What is
// dropped beyond is noticed, and read from the store.
const maxFeed = 8192

func (s *session) onFeed(msg *nats.Msg) {
	c, err := s.decodeFeed(msg)
	if err != nil {
		s.log.Debug("a message of the feed that cannot be read", "err", err)
		return
	}
	s.delta(c)
}
