package routing

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"reflect"
)

// Codec turns a message into bytes and back. It must be safe for concurrent use.
type Codec interface {
	// ContentType is what the body is announced as and how the receiver finds
	// the codec, such as "application/json". It never changes.
	ContentType() string
	Marshal(v any) ([]byte, error)
	Unmarshal(data []byte, v any) error
}

const (
	jsonType  = "application/json"
	bytesType = "application/octet-stream"
)

// JSON is the default codec, encoding/json. A body without a Content-Type is JSON.
var JSON Codec = jsonCodec{}

// Bytes is the raw codec: the body is the message. It takes []byte (or a
// pointer to one, or a type made of one), and otherwise whatever implements
// encoding.BinaryMarshaler and encoding.BinaryUnmarshaler.
var Bytes Codec = bytesCodec{}

// ErrBody is wrapped by the error of Decode when a body is not what its kind
// says. Trying again cannot help.
var ErrBody = errors.New("routing: broken body")

// ErrContentType is wrapped by the error of Decode when this node has no codec
// for the Content-Type of a body. Trying again on this node cannot help.
var ErrContentType = errors.New("routing: unknown content type")

// Encode makes the message kind of v with the codec of this router's Config.
func (r *Router) Encode(kind string, v any) (Raw, error) { return encode(r.cfg.Codec, kind, v) }

// Decode reads a message into the pointer v with the codec that its ContentType
// names: JSON, Bytes or the one of Config, whatever the default of this router.
//
// Errors: ErrBody, ErrContentType; both are Permanent, so a handler may return
// them as they are.
func (r *Router) Decode(m Raw, v any) error { return decode(r.cfg.Codec, m, v) }

func encode(own Codec, kind string, v any) (Raw, error) {
	if own == nil {
		own = JSON
	}
	data, err := own.Marshal(v)
	if err != nil {
		return Raw{}, fmt.Errorf("routing: %s cannot be encoded as %s: %w", kind, own.ContentType(), err)
	}
	return Raw{Name: kind, ContentType: own.ContentType(), Data: data}, nil
}

func decode(own Codec, m Raw, v any) error {
	c, err := codecOf(own, m.ContentType)
	if err != nil {
		return Permanent(fmt.Errorf("%w: %s: %w", ErrContentType, m.Name, err))
	}
	if err := c.Unmarshal(m.Data, v); err != nil {
		return Permanent(fmt.Errorf("%w: %s is not the %s of a %T: %w", ErrBody, m.Name, c.ContentType(), v, err))
	}
	return nil
}

// codecOf finds the codec of a Content-Type; parameters such as a charset are
// ignored. The codec of Config is asked first, so that it may replace one of ours.
func codecOf(own Codec, contentType string) (Codec, error) {
	if contentType == "" {
		contentType = jsonType
	}
	if c := codecNamed(own, contentType); c != nil {
		return c, nil
	}
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return nil, fmt.Errorf("content type %.100q: %w", contentType, err)
	}
	if c := codecNamed(own, media); c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("no codec for content type %.100q: this node reads %s", contentType, known(own))
}

func codecNamed(own Codec, media string) Codec {
	switch {
	case own != nil && own.ContentType() == media:
		return own
	case media == jsonType:
		return JSON
	case media == bytesType:
		return Bytes
	}
	return nil
}

func known(own Codec) string {
	s := jsonType + ", " + bytesType
	if own != nil && own.ContentType() != jsonType && own.ContentType() != bytesType {
		s += ", " + own.ContentType()
	}
	return s
}

type jsonCodec struct{}

func (jsonCodec) ContentType() string                { return jsonType }
func (jsonCodec) Marshal(v any) ([]byte, error)      { return json.Marshal(v) }
func (jsonCodec) Unmarshal(data []byte, v any) error { return json.Unmarshal(data, v) }

type bytesCodec struct{}

func (bytesCodec) ContentType() string { return bytesType }

func (bytesCodec) Marshal(v any) ([]byte, error) {
	switch v := v.(type) {
	case []byte:
		return v, nil
	case *[]byte:
		return *v, nil
	case encoding.BinaryMarshaler:
		return v.MarshalBinary()
	}
	if b, ok := bytesOf(v); ok {
		return b, nil
	}
	return nil, fmt.Errorf("%T is neither made of []byte nor an encoding.BinaryMarshaler", v)
}

func (bytesCodec) Unmarshal(data []byte, v any) error {
	switch v := v.(type) {
	case *[]byte:
		*v = append((*v)[:0:0], data...)
		return nil
	case encoding.BinaryUnmarshaler:
		return v.UnmarshalBinary(data)
	}
	if setBytes(v, data) {
		return nil
	}
	return fmt.Errorf("%T is neither a pointer to a type made of []byte nor an encoding.BinaryUnmarshaler", v)
}

// bytesOf returns the bytes of a type made of []byte, such as "type Frame []byte".
func bytesOf(v any) ([]byte, bool) {
	rv := reflect.Indirect(reflect.ValueOf(v))
	if !rv.IsValid() || rv.Kind() != reflect.Slice || rv.Type().Elem().Kind() != reflect.Uint8 {
		return nil, false
	}
	return rv.Bytes(), true
}

func setBytes(v any, data []byte) bool {
	rv := reflect.ValueOf(v)
	if rv.Kind() != reflect.Pointer || rv.IsNil() {
		return false
	}
	rv = rv.Elem()
	if rv.Kind() != reflect.Slice || rv.Type().Elem().Kind() != reflect.Uint8 {
		return false
	}
	rv.SetBytes(append([]byte(nil), data...))
	return true
}
