package wire

import "encoding/binary"

// A bundle is several at-most-once messages of one kind to one node in one NATS
// message: of each its length as a uvarint, and its bytes. Its reply subject is
// BundleReply.

// AppendBundled appends a message to a bundle.
func AppendBundled(bundle, data []byte) []byte {
	return append(binary.AppendUvarint(bundle, uint64(len(data))), data...)
}

// CutBundled returns the first message of a bundle and what is behind it; false
// is no bundle. The message has no room behind it: to append to it leaves the
// next one alone.
func CutBundled(bundle []byte) (data, rest []byte, ok bool) {
	size, n := binary.Uvarint(bundle)
	if n <= 0 || size > uint64(len(bundle)-n) {
		return nil, nil, false
	}
	end := n + int(size)
	return bundle[n:end:end], bundle[end:], true
}
