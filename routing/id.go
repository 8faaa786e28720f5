package routing

import (
	"crypto/rand"
	"errors"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/catga/catga-go/internal/wire"
)

// idSource makes message ids: "<sender>.<random>-<n>", so that one header
// carries the id and the sender. The random part is drawn once per router; a
// counter does the rest, because an id generator per message shows in profiles.
type idSource struct {
	prefix string
	n      *atomic.Uint64
}

func newIDSource(sender string) idSource {
	return idSource{prefix: sender + "." + strings.ToLower(rand.Text()[:10]) + "-", n: new(atomic.Uint64)}
}

func (s idSource) next() string {
	return s.prefix + strconv.FormatUint(s.n.Add(1), 10)
}

// senderOfID returns the node in an id that idSource made.
func senderOfID(id string) string {
	sender, rest, ok := strings.Cut(id, ".")
	if !ok || strings.IndexByte(rest, '-') < 0 || wire.CheckNode(sender) != nil {
		return ""
	}
	return sender
}

// maxCallerID is the longest id that a caller may give, in bytes.
const maxCallerID = 256

// checkCallerID reports why id cannot be the id of a message.
func checkCallerID(id string) error {
	if len(id) > maxCallerID {
		return errors.New("the message id has " + strconv.Itoa(len(id)) + " bytes, " + strconv.Itoa(maxCallerID) + " at most")
	}
	for _, r := range id {
		if r < ' ' || r == 0x7f {
			return errors.New("the message id " + strconv.Quote(id) + " has a control character")
		}
	}
	if strings.TrimSpace(id) != id {
		return errors.New("the message id " + strconv.Quote(id) + " begins or ends with a space")
	}
	return nil
}

// scopedID is what the server tells repeats of a caller's id by. It is scoped
// to kind and target and not to the sender: a handler that was redelivered to
// another node repeats its sends under the same ids, and they are stored once.
func scopedID(scope, kind, id string) string { return scope + "." + kind + "=" + id }
