// Package membership measures how fast the members of a cluster agree on who
// is there: ours over NATS, and hashicorp/memberlist in the same run with the
// same faults.
//
// The members that watch are many in one process, each with a connection of
// its own. Whoever is killed or stopped is a process of its own, so SIGKILL and
// SIGSTOP are what they are in life. All times are from the moment of the cause
// until the last of the watchers shows its effect in its view.
package membership
