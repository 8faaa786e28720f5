// Package wire holds every name that leaves the process: cluster names, node
// ids and kinds and what they may contain, subjects, streams, buckets,
// consumers, headers. docs/wire.md is the same in prose; a change here is a
// change of the protocol.
//
// The package is pure: it builds and takes apart strings and knows no
// connection.
package wire
