package kvregistry

import (
	"math"
	"strconv"
	"time"
)

// A view of 10,000 members is made of 10,000 records. What this package writes
// itself is simple JSON: no space, no escape, no null, nothing but ASCII.
// scanRecord reads that in a fifth of the time that encoding/json takes, to which
// it leaves everything else.

// scanRecord reads a record of simple JSON. ok is false for everything that it
// does not know to mean the same to encoding/json.
func scanRecord(data []byte) (rec record, ok bool) {
	s := scanner{text: string(data)}
	ok = s.object(func(key string) bool {
		switch key {
		case "v":
			n := s.number()
			rec.Version = int(n)
			return n <= math.MaxInt32
		case "id":
			rec.ID = s.quoted()
		case "inc":
			rec.Incarnation = s.number()
		case "token":
			rec.Token = s.quoted()
		case "endpoint":
			rec.Endpoint = s.quoted()
		case "started":
			rec.Started = s.time()
		case "metadata":
			if rec.Metadata != nil {
				return false // encoding/json adds to it
			}
			rec.Metadata = map[string]string{}
			return s.object(func(key string) bool {
				rec.Metadata[key] = s.quoted()
				return true
			})
		case "kinds":
			if rec.Kinds != nil {
				return false
			}
			rec.Kinds = s.list()
		case "state":
			rec.State = State(s.quoted())
		case "mail":
			rec.Mail = MailPolicy(s.quoted())
		case "anonymous":
			rec.Anonymous = s.truth()
		case "light":
			rec.Light = s.truth()
		case "grace_ms":
			rec.GraceMillis = int64(s.number())
		case "forget_s":
			rec.ForgetSeconds = int64(s.number())
		case "reason":
			rec.Reason = Reason(s.quoted())
		case "by":
			rec.By = s.quoted()
		case "seen":
			rec.Seen = s.time()
		default:
			return false
		}
		return true
	})
	if !ok || s.bad || s.text != "" {
		return record{}, false
	}
	return rec, true
}

// scanner reads simple JSON from the front of text. When it meets something
// else it is bad, and whatever it returns is void.
type scanner struct {
	text string
	bad  bool
}

// next takes the character c.
func (s *scanner) next(c byte) bool {
	if s.text == "" || s.text[0] != c {
		s.bad = true
		return false
	}
	s.text = s.text[1:]
	return true
}

// object reads an object: value reads the value of each key, and says false for
// one that it does not know.
func (s *scanner) object(value func(key string) bool) bool {
	if !s.next('{') {
		return false
	}
	if s.text != "" && s.text[0] == '}' {
		return s.next('}')
	}
	for {
		key := s.quoted()
		if !s.next(':') || !value(key) || s.bad || s.text == "" {
			return false
		}
		if s.text[0] != ',' {
			return s.next('}')
		}
		s.next(',')
	}
}

// quoted reads a string.
func (s *scanner) quoted() string {
	if !s.next('"') {
		return ""
	}
	for i := range len(s.text) {
		switch c := s.text[i]; {
		case c == '"':
			found := s.text[:i]
			s.text = s.text[i+1:]
			return found
		case c == '\\' || c < ' ' || c > '~':
			s.bad = true
			return ""
		}
	}
	s.bad = true
	return ""
}

// list reads a list of strings.
func (s *scanner) list() []string {
	list := []string{}
	if !s.next('[') {
		return nil
	}
	if s.text != "" && s.text[0] == ']' {
		s.next(']')
		return list
	}
	for {
		list = append(list, s.quoted())
		if s.bad || s.text == "" {
			s.bad = true
			return nil
		}
		if s.text[0] != ',' {
			s.next(']')
			return list
		}
		s.next(',')
	}
}

// number reads a number without sign, point or exponent that fits every integer
// of a record.
func (s *scanner) number() uint64 {
	const most = 18 // digits
	n := 0
	for n < len(s.text) && s.text[n] >= '0' && s.text[n] <= '9' {
		n++
	}
	if n == 0 || n > most || n > 1 && s.text[0] == '0' {
		s.bad = true
		return 0
	}
	found, err := strconv.ParseUint(s.text[:n], 10, 64)
	s.bad = s.bad || err != nil
	s.text = s.text[n:]
	return found
}

// truth reads true or false.
func (s *scanner) truth() bool {
	for _, word := range []string{"true", "false"} {
		if len(s.text) >= len(word) && s.text[:len(word)] == word {
			s.text = s.text[len(word):]
			return word == "true"
		}
	}
	s.bad = true
	return false
}

// time reads a time.
func (s *scanner) time() (at time.Time) {
	text := s.quoted()
	if !s.bad && at.UnmarshalText([]byte(text)) != nil {
		s.bad = true
	}
	return at
}
