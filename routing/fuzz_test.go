package routing

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/catga/catga-go/internal/wire"
)

func FuzzAckSubject(f *testing.F) {
	f.Add("$JS.ACK.S.C.1.2.3.4.5")
	f.Add("$JS.ACK._.h.S.C.1.2.3.4.5.t")
	f.Add("$JS.ACK......")
	f.Add("$JS.ACK.S.C.18446744073709551615.2.3.9223372036854775808.5")
	f.Fuzz(func(t *testing.T, subject string) {
		a, err := parseAck(subject)
		if err != nil {
			return
		}
		if !strings.HasPrefix(subject, ackPrefix) {
			t.Fatalf("%q is taken for an ack subject", subject)
		}
		// What we build of it is read as the same delivery.
		b, err := parseAck(foreignAck(a.stream, a.consumer, a.seq, a.delivery))
		if err != nil || b.stream != a.stream || b.consumer != a.consumer || b.seq != a.seq || b.delivery != a.delivery {
			t.Fatalf("%+v became %+v, %v", a, b, err)
		}
	})
}

func FuzzEnvelope(f *testing.F) {
	f.Add("n1.abc-1", "", "", "1", "", "n1,n2", "application/json", "00-1")
	f.Add("work.k=x", "x", "n1", "9", "n2", "", "", "")
	f.Fuzz(func(t *testing.T, msgID, id, from, version, except, only, contentType, trace string) {
		h := nats.Header{}
		for name, v := range map[string]string{
			wire.HeaderMsgID: msgID, wire.HeaderID: id, wire.HeaderFrom: from, wire.HeaderVersion: version,
			wire.HeaderExcept: except, wire.HeaderOnly: only, wire.HeaderContentType: contentType, wire.HeaderTraceParent: trace,
		} {
			if v != "" {
				h[name] = []string{v}
			}
		}
		gotID, gotFrom := idOf(h)
		if gotFrom != "" && wire.CheckNode(gotFrom) != nil {
			t.Fatalf("%q is taken for a node", gotFrom)
		}
		if id != "" && gotID != id {
			t.Fatalf("id %q became %q", id, gotID)
		}
		if contentTypeOf(h) == "" {
			t.Fatal("no content type")
		}
		if checkVersion(h) == nil && version != "" && strings.TrimLeft(version, "+0") != "1" {
			t.Fatalf("version %q is taken", version)
		}
		if isFor(h, except, nil) && except != "" {
			t.Fatal("excepted and meant")
		}
		if got := traceOf(withTrace(t.Context(), h))[wire.HeaderTraceParent]; got != trace {
			t.Fatalf("trace %q became %q", trace, got)
		}
	})
}

func FuzzPubAck(f *testing.F) {
	f.Add([]byte(`{"stream":"S","seq":4,"duplicate":true}`))
	f.Add([]byte(`{"error":{"code":503,"err_code":10077,"description":"x"}}`))
	f.Add([]byte(`{"stream":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := parsePubAck(data)
		if err == nil && (a.Stream == "" || a.Seq == 0 || a.Error != nil) {
			t.Fatalf("%q is taken for stored: %+v", data, a)
		}
		if err != nil {
			_ = storableLater(err)
		}
	})
}

func FuzzHeld(f *testing.F) {
	f.Add([]byte(`{"node":"n1","seqs":[1,2]}`))
	f.Add([]byte(`{"node":"","seqs":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if a, err := parseHeld(data); err == nil && a.Node == "" {
			t.Fatal("an answer of nobody")
		}
	})
}

func FuzzFarewell(f *testing.F) {
	f.Add([]byte(`{"node":"b","incarnation":7,"last":0,"for":1,"got":["1"]}`))
	f.Add([]byte(`{"node":"b","incarnation":7,"stem":"abcdefgh","last":1,"for":9223372036854775807}`))
	f.Add([]byte(`{"node":"b","incarnation":7,"last":1,"for":-9223372036854775808}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		const base = "catga.c.inbox.a.1."
		r := newReplies(base)
		w, _ := r.awaitPeer(&peer{Peer: Peer{ID: "b", Incarnation: 7}}, time.Now())
		g := r.gather([]*peer{{Peer: Peer{ID: "b", Incarnation: 7}}, {Peer: Peer{ID: "z", Incarnation: 7}}}, false)
		r.deliver(&nats.Msg{Subject: base + wire.FarewellToken, Data: data})
		ended := r.take(w.number) == nil
		var said farewell
		if err := json.Unmarshal(data, &said); ended && (err != nil || said.Node != "b" || said.Incarnation != 7) {
			t.Fatalf("%q ends a call to another", data)
		}
		if g.heard[1] && said.Node != "z" {
			t.Fatalf("%q ends a request to another", data)
		}
	})
}

func FuzzLetter(f *testing.F) {
	f.Add("catga.c.dead.k", "3", "2026-01-02T03:04:05Z", `"a\nb"`, "reason")
	f.Add("x", "-", "yesterday", `"`, "")
	r := &Router{cluster: "c"}
	f.Fuzz(func(t *testing.T, subject, attempts, sent, stack, reason string) {
		l := r.parseLetter(&jetstream.RawStreamMsg{Subject: subject, Sequence: 1, Time: time.Now(), Header: nats.Header{
			wire.HeaderDeadAttempts: {attempts}, wire.HeaderDeadSent: {sent}, wire.HeaderDeadStack: {stack}, wire.HeaderDeadReason: {reason},
		}})
		if l.Reason != reason || l.Seq != 1 {
			t.Fatalf("%+v", l)
		}
		if line := oneLine(reason, 50); strings.ContainsAny(line, "\r\n") || line == "" || len(line) > 50 {
			t.Fatalf("one line: %q", line)
		}
	})
}
