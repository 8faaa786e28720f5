// Package routing measures calls and messages of this library beside plain
// nats.go and nats.go/micro, in the same run and over the same server, and how
// fast work moves when a process is killed. docs/benchmarks.md says what each
// side of each case does.
package routing
