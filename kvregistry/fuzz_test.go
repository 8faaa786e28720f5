package kvregistry

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/wire"
)

func FuzzDecodeRecord(f *testing.F) {
	f.Add([]byte(`{"v":1,"id":"a","state":"online","grace_ms":500,"kinds":["x"],"metadata":{"k":"v"}}`))
	f.Add([]byte(`{"v":2,"id":"a","state":"hibernating","inc":7}`))
	f.Add([]byte(`{"v":1,"id":"a","state":"offline","grace_ms":-9223372036854775808,"forget_s":9223372036854775807}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		rec, err := decodeRecord("a", 5, data)
		if err != nil {
			return
		}
		if rec.ID != "a" || rec.Incarnation == 0 || rec.Version < 1 {
			t.Fatalf("accepted %+v", rec)
		}
		if g := rec.grace(); g < minGrace || g > maxGrace {
			t.Fatalf("grace %v", g)
		}
		if d := rec.forget(); d < time.Second || d > maxForget {
			t.Fatalf("forget %v", d)
		}
		switch rec.State {
		case Online, Draining, Offline:
		default:
			t.Fatalf("state %q", rec.State)
		}
		// What was read can be written and read again.
		again, err := rec.encode()
		if err != nil {
			return // grown over the limit by escaping
		}
		back, err := decodeRecord("a", 9, again)
		if err != nil {
			t.Fatalf("%v: %s", err, again)
		}
		if !back.sameToUsers(rec) || back.Incarnation != rec.Incarnation {
			t.Fatalf("%+v became %+v", rec, back)
		}
	})
}

func FuzzDecodePing(f *testing.F) {
	f.Add([]byte(`{"v":1,"from":"a","rev":7}`))
	f.Add([]byte(``))
	f.Fuzz(func(t *testing.T, data []byte) {
		if p, err := decodePing(data); err == nil && p.Version < 1 {
			t.Fatalf("accepted %+v", p)
		}
	})
}

func FuzzDecodePong(f *testing.F) {
	f.Add([]byte(`{"v":1,"id":"a","inc":7,"rev":9,"server":"X","tripwire":"a-7-1"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if p, err := decodePong(data); err == nil && (p.Version < 1 || wire.CheckNode(p.ID) != nil) {
			t.Fatalf("accepted %+v", p)
		}
	})
}

func FuzzDecodeQuestion(f *testing.F) {
	f.Add([]byte(`{"v":1,"id":"a","inc":7}`))
	f.Add([]byte(`{"v":1,"alive":true}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if q, err := decodeQuestion(data); err == nil && (q.Version < 1 || wire.CheckNode(q.ID) != nil) {
			t.Fatalf("accepted %+v", q)
		}
		if r, err := decodeReply(data); err == nil && r.Version < 1 {
			t.Fatalf("accepted %+v", r)
		}
	})
}

func FuzzDecodeGreeting(f *testing.F) {
	f.Add("INFO {\"server_id\":\"NAXYZ\"}\r\n")
	f.Add("HTTP/1.1 400 Bad Request")
	f.Fuzz(func(t *testing.T, line string) {
		if id, err := decodeGreeting(line); err != nil && id != "" {
			t.Fatalf("%q gives %q and %v", line, id, err)
		}
	})
}

func FuzzDecodeBeat(f *testing.F) {
	f.Add([]byte(`{"v":1,"inc":7}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if b, err := decodeBeat(data); err == nil && b.Version < 1 {
			t.Fatalf("accepted %+v", b)
		}
	})
}

func FuzzLifeOfTripwire(f *testing.F) {
	f.Add("a-7-1")
	f.Add("orders-1-1795423698495-12")
	f.Add("-7-1")
	f.Fuzz(func(t *testing.T, name string) {
		l, n, ok := lifeOfTripwire(name)
		if !ok {
			return
		}
		if wire.CheckNode(l.id) != nil {
			t.Fatalf("%q gives %+v", name, l)
		}
		if back, m, ok := lifeOfTripwire(tripwireName(l, n)); !ok || back != l || m != n {
			t.Fatalf("%+v became %+v", l, back)
		}
	})
}

func FuzzDecodeFeed(f *testing.F) {
	f.Add("catga.c.reg.node.a", "7", "", []byte(`{}`))
	f.Add("catga.c.reg.node.a", "-1", "DEL", []byte(nil))
	f.Add("catga.c.reg.node.", "1", "", []byte(nil))
	f.Fuzz(func(t *testing.T, subject, seq, op string, data []byte) {
		s := &session{cluster: "c"}
		msg := nats.NewMsg(subject)
		msg.Header.Set("Nats-Sequence", seq)
		msg.Header.Set("KV-Operation", op)
		msg.Data = data
		c, err := s.decodeFeed(msg)
		if err == nil && (c.revision == 0 || wire.CheckNode(c.id) != nil) {
			t.Fatalf("accepted %+v", c)
		}
		if m, err := decodeStored(msg); err == nil && m.seq == 0 {
			t.Fatalf("accepted %+v", m)
		}
		newTable().catchUp([]change{c}, c.revision)
	})
}
