// Package provision makes the streams that the other packages need, or says
// exactly why it cannot: which setting of an existing stream breaks a promise
// and the command that mends it, which server version was found and which is
// needed, which permission is missing.
//
// It never changes a stream that exists. It compares only what promises rest
// on (subjects, retention, discard, republish, per-message TTL, delete markers,
// history, direct get, and limits that must not be there); everything else is
// the operator's choice and is left alone.
//
// All functions are safe to call from many nodes at once: two nodes that create
// the same stream get the same stream.
package provision
