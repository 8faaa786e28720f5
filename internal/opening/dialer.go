package opening

import (
	"net"
	"time"
)

// Dialer is a nats.CustomDialer that does not wait long for a server that stands
// still where it knows another one.
type Dialer struct {
	// Timeout is the longest limit of an attempt.
	Timeout time.Duration

	limits Limits
}

// Dial connects to addr.
func (d *Dialer) Dial(network, addr string) (net.Conn, error) {
	begin, limit := time.Now(), d.limits.Of(addr, d.Timeout)
	c, err := net.DialTimeout(network, addr, limit)
	if err != nil {
		return nil, err
	}
	return d.limits.Guard(c, begin, limit), nil
}

// AttemptLimit tells for how long a server that stands still holds up a client
// that can go to another one.
func (*Dialer) AttemptLimit() time.Duration { return Shortest }
