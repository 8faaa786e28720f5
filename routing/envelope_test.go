package routing

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/wire"
)

func TestHeaderSaysOnlyWhatIsNotSaidElsewhere(t *testing.T) {
	trace := withTrace(t.Context(), nats.Header{wire.HeaderTraceParent: {"00-1-2-01"}, wire.HeaderTraceState: {"a=b"}})
	for name, c := range map[string]struct {
		ctx  context.Context
		m    Raw
		own  nats.Header
		want nats.Header
	}{
		"plain":        {t.Context(), Raw{}, nil, nil},
		"json":         {t.Context(), Raw{ContentType: "application/json"}, nil, nil},
		"other codec":  {t.Context(), Raw{ContentType: "text/x"}, nil, nats.Header{"Content-Type": {"text/x"}}},
		"own":          {t.Context(), Raw{}, nats.Header{"A": {"1", "2"}}, nats.Header{"A": {"1", "2"}}},
		"trace of ctx": {trace, Raw{}, nil, nats.Header{"traceparent": {"00-1-2-01"}, "tracestate": {"a=b"}}},
		"own trace":    {trace, Raw{}, nats.Header{"traceparent": {"mine"}}, nats.Header{"traceparent": {"mine"}, "tracestate": {"a=b"}}},
	} {
		got, err := newHeader(c.ctx, c.m, c.own, 0)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %v, %v; want %v", name, got, err, c.want)
		}
	}
	for _, bad := range []string{"", "Nats-TTL", "nats-ttl", "CATGA-from", "a b", "a:b", "content-type", "X\n"} {
		if _, err := newHeader(t.Context(), Raw{}, nats.Header{bad: {"1"}}, 0); err == nil {
			t.Errorf("header %q is taken", bad)
		}
	}
}

func TestIDs(t *testing.T) {
	s := newIDSource("node_1-a")
	a, b := s.next(), s.next()
	if a == b || !strings.HasPrefix(a, "node_1-a.") || !strings.HasSuffix(b, "-2") || senderOfID(a) != "node_1-a" {
		t.Errorf("ids %q, %q", a, b)
	}
	if other := newIDSource("node_1-a").next(); other == a {
		t.Error("two routers make the same ids")
	}
	for name, c := range map[string]struct {
		h        nats.Header
		id, from string
	}{
		"nothing":       {nil, "", ""},
		"generated":     {nats.Header{"Nats-Msg-Id": {"n1.abc-7"}}, "n1.abc-7", "n1"},
		"caller's":      {nats.Header{"Nats-Msg-Id": {"work.k=x"}, "Catga-Id": {"x"}, "Catga-From": {"n2"}}, "x", "n2"},
		"replayed":      {nats.Header{"Nats-Msg-Id": {"n1.abc-7/d3"}, "Catga-Id": {"n1.abc-7"}, "Catga-From": {"n1"}}, "n1.abc-7", "n1"},
		"plain program": {nats.Header{"Nats-Msg-Id": {"my id"}}, "my id", ""},
		"no node":       {nats.Header{"Nats-Msg-Id": {"a b.c-d"}}, "a b.c-d", ""},
	} {
		if id, from := idOf(c.h); id != c.id || from != c.from {
			t.Errorf("%s: %q from %q", name, id, from)
		}
	}
	for _, bad := range []string{"a\r\nb", "a\x00", " a", "a ", strings.Repeat("x", 300)} {
		if checkCallerID(bad) == nil {
			t.Errorf("id %q is taken", bad)
		}
	}
}

func TestFanoutSelection(t *testing.T) {
	for name, c := range map[string]struct {
		h        nats.Header
		metadata map[string]string
		want     bool
	}{
		"all":     {nil, nil, true},
		"others":  {nats.Header{wire.HeaderExcept: {"n2"}}, nil, true},
		"me":      {nats.Header{wire.HeaderExcept: {"n1"}}, nil, false},
		"with":    {nats.Header{wire.HeaderOnly: {"n0,n1,n2"}}, nil, true},
		"without": {nats.Header{wire.HeaderOnly: {"n0,n11"}}, nil, false},
		"nobody":  {nats.Header{wire.HeaderOnly: {""}}, nil, false},

		"selected":             {nats.Header{wire.HeaderSelect: {"zone in (a,b)"}}, map[string]string{"zone": "b"}, true},
		"not selected":         {nats.Header{wire.HeaderSelect: {"zone in (a,b)"}}, map[string]string{"zone": "c"}, false},
		"no metadata":          {nats.Header{wire.HeaderSelect: {"zone"}}, nil, false},
		"selected, me":         {nats.Header{wire.HeaderSelect: {"zone"}, wire.HeaderExcept: {"n1"}}, map[string]string{"zone": ""}, false},
		"two selectors":        {nats.Header{wire.HeaderSelect: {"zone", "!canary"}}, map[string]string{"zone": "", "canary": ""}, false},
		"a selector of no use": {nats.Header{wire.HeaderSelect: {"zone in a"}}, nil, true}, // refused where it would run
	} {
		if got := isFor(c.h, "n1", c.metadata); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestParseAck(t *testing.T) {
	want := ackInfo{"CATGA_c_WORK", "n:n1", 3, 7, 9, time.Unix(0, 1234567890123456789), 5}
	for _, subject := range []string{
		"$JS.ACK.CATGA_c_WORK.n:n1.3.7.9.1234567890123456789.5",
		"$JS.ACK._.hash.CATGA_c_WORK.n:n1.3.7.9.1234567890123456789.5",
		"$JS.ACK.hub.hash.CATGA_c_WORK.n:n1.3.7.9.1234567890123456789.5.token",
	} {
		if got, err := parseAck(subject); err != nil || got != want {
			t.Errorf("%s: %+v, %v", subject, got, err)
		}
	}
	for _, subject := range []string{"", "$JS.ACK.", "$JS.ACK.a.b.1.2.3.4", "$JS.ACK.a.b.c.2.3.4.5", "$JS.ACK.a.b.-1.2.3.4.5", "x.$JS.ACK.a.b.1.2.3.4.5"} {
		if got, err := parseAck(subject); err == nil {
			t.Errorf("%s: %+v", subject, got)
		}
	}
}

func TestRetryDecisions(t *testing.T) {
	p := RetryPolicy{}.withDefaults()
	fail := errors.New("fail")
	for name, c := range map[string]struct {
		policy  RetryPolicy
		attempt int
		err     error
		jitter  float64
		want    verdict
	}{
		"first":             {p, 1, fail, 0.5, verdict{after: time.Second}},
		"first, early":      {p, 1, fail, 0, verdict{after: 750 * time.Millisecond}},
		"second":            {p, 2, fail, 0.5, verdict{after: 2 * time.Second}},
		"third":             {p, 3, fail, 0.5, verdict{after: 4 * time.Second}},
		"fourth":            {p, 4, fail, 0.5, verdict{dead: true, reason: "fail"}},
		"crashed before":    {p, 7, fail, 0.5, verdict{dead: true, reason: "fail"}},
		"permanent":         {p, 1, Permanent(fail), 0.5, verdict{dead: true, reason: "permanent: fail"}},
		"permanent, theirs": {p, 1, backoff.Permanent(fail), 0.5, verdict{dead: true, reason: "permanent: fail"}},
		"asked for":         {p, 1, RetryAfter(time.Hour, fail), 0.5, verdict{after: time.Hour}},
		"asked for at once": {p, 1, RetryAfter(-1, fail), 0.5, verdict{}},
		"asked for too far": {p, 1, RetryAfter(1e18, fail), 0.5, verdict{after: maxRetryPause}},
		"asked too often":   {p, 4, RetryAfter(time.Hour, fail), 0.5, verdict{dead: true, reason: "fail"}},
		"none":              {RetryPolicy{Retries: -1}.withDefaults(), 1, fail, 0.5, verdict{dead: true, reason: "fail"}},
		"capped":            {RetryPolicy{Retries: 100}.withDefaults(), 99, fail, 0.5, verdict{after: time.Minute}},
	} {
		if got := c.policy.decide(c.attempt, c.err, c.jitter); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
	if p.maxAttempt() != MaxAttempts || (RetryPolicy{Retries: 20}).withDefaults().maxAttempt() != 21 {
		t.Error("the last attempt")
	}
	if Permanent(nil) != nil || RetryAfter(time.Second, nil) != nil {
		t.Error("nil is made an error")
	}
}

func TestErrorsKeepApart(t *testing.T) {
	err := notDelivered(fmt.Errorf("%w: x", ErrNoMember))
	if !errors.Is(err, ErrNotDelivered) || !errors.Is(err, ErrNoMember) || errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
	if again := unknown(err); errors.Is(again, ErrUnknown) {
		t.Errorf("an outcome became %v", again)
	}
	if got := notDelivered(ErrDuplicate); errors.Is(got, ErrNotDelivered) {
		t.Errorf("duplicate became %v", got)
	}
}

func TestConfigIsChecked(t *testing.T) {
	_, err := Config{Cluster: "a.b", Node: "x y", Replicas: 9, Mail: "burn", Forget: -1}.checked()
	for _, part := range []string{"cluster name", "node id", "replicas 9", "burn", "forget"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not speak of %s", err, part)
		}
	}
	c, err := Config{Cluster: "c", Node: "n", DeadAge: -1}.checked()
	if err != nil || c.Forget != 72*time.Hour || c.DedupWindow != 2*time.Minute || c.FanoutAge != 24*time.Hour || c.DeadAge != 0 || c.Log == nil || c.Codec == nil {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestPeersSnapshot(t *testing.T) {
	s, ended := newPeers().with([]Change{up("b", 1, "k"), up("a", 2, "k", "j")})
	if len(ended) != 0 || len(s.handlers["k"]) != 2 || s.handlers["k"][0].ID != "a" || len(s.online) != 2 {
		t.Fatalf("%+v", s)
	}
	a := s.byID["a"]
	changed, ended := s.with([]Change{{Kind: Up, Peer: Peer{ID: "a", Incarnation: 2, Kinds: []string{"k"}, Draining: true}}})
	if len(ended) != 0 || changed.byID["a"].gone != a.gone || len(changed.handlers["j"]) != 0 || len(changed.callable["k"]) != 1 {
		t.Error("a changed peer is another one")
	}
	reborn, ended := changed.with([]Change{up("a", 3, "k")})
	if len(ended) != 1 || ended[0].Incarnation != 2 || reborn.byID["a"].gone == a.gone {
		t.Error("a new incarnation did not end the old one")
	}
	if late, ended := reborn.with([]Change{lost(up("a", 2))}); len(ended) != 0 || late.byID["a"].lost {
		t.Error("late news of an old incarnation")
	}
	gone, ended := reborn.with([]Change{lost(up("a", 3, "k")), left(up("b", 1))})
	if len(ended) != 2 || !gone.byID["a"].lost || gone.byID["b"] != nil || len(gone.handlers["k"]) != 0 {
		t.Errorf("%+v, ended %v", gone, ended)
	}
	if len(s.handlers["k"]) != 2 {
		t.Error("an old snapshot has changed")
	}
	if _, ended := gone.with([]Change{left(up("a", 3))}); len(ended) != 0 {
		t.Error("a lost peer ended twice")
	}
}
