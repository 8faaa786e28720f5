// Package hosts runs clusters over several hosts that are network namespaces of
// one machine, each with its own address, processes and disk, joined by an
// Ethernet switch in the test process. What the switch does to a frame is the
// fault: it drops it (a cut cable, in both directions or in one), loses some, or
// holds them back. Sockets are never closed by a fault, as in a real network.
//
// The scenarios need Linux, root and /dev/net/tun, and have the build tag hosts:
//
//	make hosts
//
// The switch and the checker have none and are tested with everything else.
package hosts
