package kvregistry

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"
)

// full is a record with every field that a member or its end has.
func full() record {
	at := time.Date(2026, 11, 25, 21, 0, 0, 123456789, time.UTC)
	return record{
		Version: 1, ID: "n1", Incarnation: 1764100000123, Token: "TOKEN", Endpoint: "http://10.0.0.7:80/x?y=z", Started: at,
		Metadata: map[string]string{"zone": "a", "empty": ""}, Kinds: []string{"orders.place", "x"}, State: Offline, Mail: MailKeep,
		Anonymous: true, Light: true, GraceMillis: 500, ForgetSeconds: 259200, Reason: ReasonCrashed, By: "n2", Seen: at,
	}
}

// What this package writes is read without encoding/json.
func TestOwnRecordsAreScanned(t *testing.T) {
	for name, rec := range map[string]record{
		"full": full(), "least": {Version: 1, ID: "a", State: Online}, "no metadata": {Version: 1, ID: "a", State: Online, Metadata: map[string]string{}},
	} {
		data, err := rec.encode()
		if err != nil {
			t.Fatal(err)
		}
		var want record
		if err := json.Unmarshal(data, &want); err != nil {
			t.Fatal(err)
		}
		if got, ok := scanRecord(data); !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: scanned %v %+v, want %+v", name, ok, got, want)
		}
	}
}

// What is not simple is left to encoding/json.
func TestOtherRecordsAreNotScanned(t *testing.T) {
	for _, text := range []string{
		``, `{`, `{}x`, `{"v":1`, `{"v":1,}`, `{"v" :1}`, `{"V":1}`, `{"v":01}`, `{"v":-1}`, `{"v":1.5}`, `{"v":1e3}`, `{"v":null}`, `{"v":4294967296}`,
		`{"id":"\u0061"}`, `{"id":"ä"}`, `{"id":null}`, `{"more":1}`, `{"kinds":["a"],"kinds":[]}`, `{"kinds":[`, `{"kinds":["a"`, `{"kinds":["a";`,
		`{"metadata":{"a":"1"},"metadata":{}}`, `{"metadata":{"a":1}}`, `{"light":1}`, `{"started":"today"}`, `{"inc":99999999999999999999}`,
	} {
		if rec, ok := scanRecord([]byte(text)); ok {
			t.Errorf("%s: scanned %+v", text, rec)
		}
	}
}

func FuzzScanRecord(f *testing.F) {
	data, _ := full().encode()
	f.Add(data)
	f.Add([]byte(`{"v":1,"id":"a","state":"online","kinds":[],"metadata":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, ok := scanRecord(data)
		if !ok {
			return
		}
		var want record
		if err := json.Unmarshal(data, &want); err != nil {
			t.Fatalf("scanned %q: %v", data, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%q: %+v, want %+v", data, got, want)
		}
	})
}

func BenchmarkReadRecord(b *testing.B) {
	rec := full()
	rec.Metadata, rec.State = nil, Online
	data, _ := rec.encode()
	b.Run("scanned", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, ok := scanRecord(data); !ok {
				b.Fatal("not scanned")
			}
		}
	})
	b.Run("json", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var rec record
			if err := json.Unmarshal(data, &rec); err != nil {
				b.Fatal(err)
			}
		}
	})
}
