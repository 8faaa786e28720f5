// Package embedded measures NATS in the process, alone and as a cluster of
// three processes: how soon it can be used, and how long writes wait when one of
// the servers stops or is killed. There is no peer to compare with.
package embedded
