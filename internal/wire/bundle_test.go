package wire

import (
	"bytes"
	"slices"
	"testing"
)

// FuzzBundle: what goes into a bundle comes out of it, and each message that is
// cut off something else makes it shorter.
func FuzzBundle(f *testing.F) {
	f.Add([]byte("a"), []byte(""), []byte(nil))
	f.Add(bytes.Repeat([]byte("x"), 200), []byte("b"), []byte{0})
	f.Add([]byte{}, []byte{}, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0})
	f.Fuzz(func(t *testing.T, a, b, text []byte) {
		for rest := text; len(rest) > 0; {
			data, after, ok := CutBundled(rest)
			if !ok {
				break
			}
			if len(after)+len(data) >= len(rest) || !bytes.HasSuffix(rest, after) {
				t.Fatalf("%x of %x is no message", data, rest)
			}
			rest = after
		}
		want := [][]byte{a, b, a}
		var bundle []byte
		for _, data := range want {
			bundle = AppendBundled(bundle, data)
		}
		var got [][]byte
		for rest := bundle; len(rest) > 0; {
			data, after, ok := CutBundled(rest)
			if !ok {
				t.Fatalf("%x is no bundle", rest)
			}
			got, rest = append(got, bytes.Clone(data)), after
			_ = append(data, '!') // leaves the next one alone
		}
		if !slices.EqualFunc(got, want, bytes.Equal) {
			t.Fatalf("%q became %q", want, got)
		}
		if len(a) > 0 {
			if _, _, ok := CutBundled(AppendBundled(nil, a)[:len(a)]); ok {
				t.Fatal("a message that is cut off is taken")
			}
		}
	})
}
