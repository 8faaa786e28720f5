// Package dial connects to NATS with the settings of a long-lived node: a
// service that outlives restarts of its servers and must notice at start when
// there is none.
//
// Guarantees of Connect:
//
//  1. It returns a live connection or an error, and its ctx bounds the wait.
//     Without a deadline the wait is DefaultWait. After an error nothing is
//     left: no socket, no goroutine.
//  2. A server that is not there yet is waited for: refused connections,
//     unknown hosts and silent addresses are tried again every 50 to 100 ms.
//  3. What waiting cannot mend is reported at once: a wrong url, a refused
//     login, a certificate that is not trusted, options that contradict each
//     other.
//  4. Errors never show a password or token of the url.
//
// The connection then reconnects for ever, see Connect.
//
// The package does not import nats-server.
package dial
