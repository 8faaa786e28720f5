// Package microsrv is the discovery protocol of NATS services: the subjects
// under $SRV and the JSON of the answers, as in nats.go/micro and ADR-32, so
// that nodes show up in "nats micro ls", "info", "stats" and "ping".
//
// It is a codec: no connection, no clock. It is our own rather than
// nats.go/micro because there the id of an instance is always made up, the
// handlers of an endpoint run one at a time, and a service takes over the
// connection's callbacks, which are the user's.
package microsrv
