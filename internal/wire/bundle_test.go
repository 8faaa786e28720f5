package wire

import (
	"bytes"
	"slices"
	"testing"
)

// FuzzBundle: what goes into a bundle comes out of it, and what is no bundle is
// refused and takes no memory.
func FuzzBundle(f *testing.F) {
	f.Add([]byte("a"), []byte(""), []byte(nil))
	f.Add(bytes.Repeat([]byte("x"), 200), []byte("b"), []byte{0})
	f.Add([]byte{}, []byte{}, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0})
	f.Fuzz(func(t *testing.T, a, b, text []byte) {
		if n, ok := CountBundled(text); ok {
			rest := text
			for range n {
				_, after, ok := CutBundled(rest)
				if !ok || len(after) >= len(rest) {
					t.Fatalf("%x of %x is no message", rest, text)
				}
				rest = after
			}
			if len(rest) > 0 {
				t.Fatalf("%x has %d messages and %x", text, n, rest)
			}
		}
		want := [][]byte{a, b, a}
		var bundle []byte
		for _, data := range want {
			bundle = AppendBundled(bundle, data)
		}
		if n, ok := CountBundled(bundle); !ok || n != len(want) {
			t.Fatalf("%d messages, %v", n, ok)
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
		if _, ok := CountBundled(bundle[:len(bundle)-1]); ok && len(a) > 0 {
			t.Fatal("a bundle that is cut off is taken")
		}
	})
}

func TestBundleIsBounded(t *testing.T) {
	if n, ok := CountBundled(make([]byte, MostBundled)); !ok || n != MostBundled {
		t.Error(n, ok)
	}
	if _, ok := CountBundled(make([]byte, MostBundled+1)); ok {
		t.Error("one more is taken")
	}
}
