package routing

import (
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"testing"
)

type frame []byte

type upper struct{}

func (upper) ContentType() string { return "text/x-upper" }
func (upper) Marshal(v any) ([]byte, error) {
	return []byte(strings.ToUpper(fmt.Sprint(v))), nil
}

func (upper) Unmarshal(data []byte, v any) error {
	*v.(*string) = strings.ToLower(string(data))
	return nil
}

func TestCodecsRoundTrip(t *testing.T) {
	type order struct{ ID int }
	text := "abc"
	u := &url.URL{Scheme: "nats", Host: "example"}
	for _, c := range []struct {
		name     string
		own      Codec
		in, want any
		wire     string
		typ      string
	}{
		{"json is the default", nil, order{7}, order{7}, `{"ID":7}`, "application/json"},
		{"bytes", Bytes, []byte("x"), []byte("x"), "x", "application/octet-stream"},
		{"pointer to bytes", Bytes, &[]byte{'x'}, []byte("x"), "x", "application/octet-stream"},
		{"a type made of bytes", Bytes, frame("x"), frame("x"), "x", "application/octet-stream"},
		{"binary marshaler", Bytes, u, *u, "nats://example", "application/octet-stream"},
		{"codec of the config", upper{}, text, text, "ABC", "text/x-upper"},
	} {
		t.Run(c.name, func(t *testing.T) {
			raw, err := encode(c.own, "k", c.in)
			if err != nil {
				t.Fatal(err)
			}
			if string(raw.Data) != c.wire || raw.ContentType != c.typ || raw.Name != "k" {
				t.Fatalf("encoded as %+v", raw)
			}
			out := reflect.New(reflect.TypeOf(c.want))
			if err := decode(c.own, raw, out.Interface()); err != nil {
				t.Fatal(err)
			}
			if got := out.Elem().Interface(); !reflect.DeepEqual(got, c.want) {
				t.Fatalf("decoded %v, want %v", got, c.want)
			}
		})
	}
}

func TestCodecIsChosenByTheContentType(t *testing.T) {
	var s string
	for _, typ := range []string{"", "application/json", "application/json; charset=utf-8", "Application/JSON"} {
		if err := decode(Bytes, Raw{Name: "k", ContentType: typ, Data: []byte(`"x"`)}, &s); err != nil || s != "x" {
			t.Errorf("%q: %q, %v", typ, s, err)
		}
	}
	var b []byte
	if err := decode(nil, Raw{Name: "k", ContentType: "application/octet-stream", Data: []byte("raw")}, &b); err != nil || string(b) != "raw" {
		t.Error(string(b), err)
	}
}

func TestBrokenBodiesAreClearAndPermanent(t *testing.T) {
	var v struct{ N int }
	for _, c := range []struct {
		raw  Raw
		into any
		is   error
		says string
	}{
		{Raw{Name: "order.place", Data: []byte(`{"N":`)}, &v, ErrBody, "order.place is not the application/json of a *struct { N int }: unexpected end of JSON input"},
		{Raw{Name: "k", Data: []byte(`{"N":"x"}`)}, &v, ErrBody, "cannot unmarshal string"},
		{Raw{Name: "k"}, &v, ErrBody, "unexpected end"},
		{Raw{Name: "k", ContentType: "application/protobuf"}, &v, ErrContentType, `no codec for content type "application/protobuf": this node reads application/json, application/octet-stream`},
		{Raw{Name: "k", ContentType: ";;"}, &v, ErrContentType, "content type"},
		{Raw{Name: "k", ContentType: bytesType}, &v, ErrBody, "neither a pointer to a type made of []byte"},
	} {
		err := decode(nil, c.raw, c.into)
		if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v", c.raw, err)
		}
		if !isPermanent(err) {
			t.Errorf("%+v: trying again cannot help, but the error is not permanent", c.raw)
		}
	}
	if _, err := encode(nil, "k", make(chan int)); err == nil || !strings.Contains(err.Error(), "k cannot be encoded as application/json") {
		t.Error(err)
	}
	if _, err := encode(Bytes, "k", 7); err == nil {
		t.Error("Bytes encoded an int")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("", []byte(`{"A":1}`))
	f.Add("application/json; charset", []byte(`[`))
	f.Add("application/octet-stream", []byte("x"))
	f.Add("a/b; c=\"", []byte(nil))
	f.Fuzz(func(t *testing.T, typ string, data []byte) {
		raw := Raw{Name: "k", ContentType: typ, Data: data}
		for _, into := range []any{new(map[string]any), new([]byte), new(url.URL)} {
			err := decode(upper{}, raw, into)
			if typ == "text/x-upper" {
				return // that codec takes only strings
			}
			if err != nil && !errors.Is(err, ErrBody) && !errors.Is(err, ErrContentType) {
				t.Errorf("%q: %v", typ, err)
			}
		}
	})
}
