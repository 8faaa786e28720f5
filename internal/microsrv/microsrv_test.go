package microsrv

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"regexp"
	"testing"
	"time"

	"github.com/nats-io/nats.go/micro"
)

var sample = Instance{
	Name: "shop", ID: "orders-1", Version: "1.2.3", Description: "a node",
	Metadata: map[string]string{"zone": "a"},
	Started:  time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600)),
	Endpoints: []Endpoint{{
		Name: "order--place", Subject: "catga.shop.call.any.order.place", QueueGroup: "catga",
		Metadata: map[string]string{"kind": "order.place"},
		Requests: 7, Errors: 2, LastError: "no stock", Total: 14 * time.Second, Mean: 2 * time.Second,
		Data: map[string]any{"dead": 1},
	}},
}

// parse reads an answer into what nats.go/micro reads it into, which must know
// every field of it.
func parse[T any](t *testing.T, i Instance, verb Verb) (out T) {
	t.Helper()
	b, err := i.Answer(verb)
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&out); err != nil {
		t.Fatalf("%s: %v in %s", verb, err, b)
	}
	return out
}

func TestAnswersAreThoseOfTheServicesAPI(t *testing.T) {
	who := micro.ServiceIdentity{Name: "shop", ID: "orders-1", Version: "1.2.3", Metadata: map[string]string{"zone": "a"}}
	const subject, group = "catga.shop.call.any.order.place", "catga"
	if got, want := parse[micro.Ping](t, sample, Ping), (micro.Ping{ServiceIdentity: who, Type: micro.PingResponseType}); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got, want := parse[micro.Info](t, sample, Info), (micro.Info{
		ServiceIdentity: who, Type: micro.InfoResponseType, Description: "a node",
		Endpoints: []micro.EndpointInfo{{Name: "order--place", Subject: subject, QueueGroup: group, Metadata: map[string]string{"kind": "order.place"}}},
	}); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got, want := parse[micro.Stats](t, sample, Stats), (micro.Stats{
		ServiceIdentity: who, Type: micro.StatsResponseType, Started: sample.Started.UTC(),
		Endpoints: []*micro.EndpointStats{{
			Name: "order--place", Subject: subject, QueueGroup: group, NumRequests: 7, NumErrors: 2, LastError: "no stock",
			ProcessingTime: 14 * time.Second, AverageProcessingTime: 2 * time.Second, Data: json.RawMessage(`{"dead":1}`),
		}},
	}); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestAnswersWithoutEndpoints: the schemas want a list, where null is none.
func TestAnswersWithoutEndpoints(t *testing.T) {
	for _, verb := range []Verb{Info, Stats} {
		b, err := Instance{}.Answer(verb)
		if err != nil || !bytes.Contains(b, []byte(`"endpoints":[]`)) {
			t.Errorf("%s: %v, %s", verb, err, b)
		}
	}
	if _, err := (Instance{}).Answer("SCHEMA"); !errors.Is(err, errVerb) {
		t.Error(err)
	}
}

func TestSubjectsAreThoseOfTheServicesAPI(t *testing.T) {
	patterns := Subjects("shop", "orders-1")
	for verb, want := range map[micro.Verb]Verb{micro.PingVerb: Ping, micro.InfoVerb: Info, micro.StatsVerb: Stats} {
		for i, who := range [][2]string{{"", ""}, {"shop", ""}, {"shop", "orders-1"}} {
			subject, err := micro.ControlSubject(verb, who[0], who[1])
			if err != nil {
				t.Fatal(err)
			}
			if got, ok := VerbOf(subject); !ok || got != want {
				t.Errorf("%s: verb %q", subject, got)
			}
			star := regexp.MustCompile(`^\$SRV\.[A-Z]+`).ReplaceAllString(subject, "$$SRV.*")
			if patterns[i] != star {
				t.Errorf("%s is not heard on %s", subject, patterns[i])
			}
		}
	}
	for _, subject := range []string{"", "$SRV", "$SRV.", "$SRV.ping", "$SRV.SCHEMA.shop", "SRV.PING", "$SRVPING"} {
		if verb, ok := VerbOf(subject); ok {
			t.Errorf("%q is %q", subject, verb)
		}
	}
}

// TestVersion: against the pattern of the schemas.
func TestVersion(t *testing.T) {
	semver := regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?$`)
	for _, s := range []string{
		"1.2.3", "0.0.0", "10.20.30", "1.2.3-rc.1", "1.2.3-0", "1.2.3-0a", "1.2.3+007", "1.2.3-a-b.c+d-e.f", "1.2.3--", "1.2.3+a+b",
		"", "1", "1.2", "1.2.3.4", "01.2.3", "1.2.3-01", "1.2.3-", "1.2.3+", "1.2.3-a..b", "1.2.x", "-1.2.3", "1.2.3-ä", "1.2.3 ", "(devel)", "..",
	} {
		want := NoVersion
		if semver.MatchString(s) {
			want = s
		}
		if got := Version(s); got != want {
			t.Errorf("%q: %q, want %q", s, got, want)
		}
		if got := Version("v" + s); got != want {
			t.Errorf("%q: %q, want %q", "v"+s, got, want)
		}
	}
}
