// Package bench is what all suites share: results and how they are printed,
// medians, and processes of this program in other roles (a NATS server, a
// member, a peer).
package bench
