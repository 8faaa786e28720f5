// Package embedded runs nats-server with JetStream inside the process: nothing
// to install for development and tests, and a real server on a real directory
// for services that stand alone, or on three machines one replicated cluster. It
// is useful by itself: what it hands out are plain *nats.Conn.
//
// The smallest program:
//
//	srv, err := embedded.Start(ctx, embedded.Config{})
//	if err != nil {
//		log.Fatal(err)
//	}
//	defer srv.Close()
//	js, err := jetstream.New(srv.Conn())
//
// A service that embeds NATS on a developer's machine and is pointed at a NATS
// cluster in production changes nothing but an environment variable:
//
//	srv, err := embedded.DialOrStart(ctx, os.Getenv("NATS_URL"), embedded.Config{Dir: "data"})
//
// # Guarantees
//
//  1. Start returns a server whose JetStream can be written, or an error and
//     nothing behind: no goroutine, no listener, no lock.
//  2. On disk every write is synced before it is acknowledged, unless
//     Config.SyncEvery says otherwise. Without Dir everything is in memory and
//     ends with the server.
//  3. One server per directory, on this machine: a second one, in this process
//     or another, gets ErrDirLocked. The kernel releases the lock of a process
//     that is killed.
//  4. A directory keeps its server name, and the mode in which it was made: a
//     server that stands alone and one of a cluster keep different books, and
//     would delete each other's streams.
//  5. Servers with the same Config.Cluster keep streams with three replicas three
//     times. More than half of them must be there; Remove, Rescue and Replicate
//     are for machines that are lost or new. One more may be lost for ever when
//     Remove has returned, not before.
//  6. Close is graceful, may be called at any time, twice and by several
//     goroutines; when it returns, all goroutines and connections of the server
//     are gone and the directory is free.
//  7. The server traps no signal and never ends the process. Where it would, it
//     stops, Done is closed and Err says why.
//
// # Failures
//
// A process that is killed loses nothing that was acknowledged, and neither
// does a machine that loses power, unless SyncEvery is set. A full store
// (Config.MaxStore, Config.MaxMemory) refuses writes with an error to their
// senders, keeps what it has, and takes writes again when there is room. A disk
// that fails, or is full before MaxStore is reached, freezes the stream that was
// being written: its writes get no answer, reads go on, the log says why, and
// the program must be started again when there is room; what was acknowledged
// is there then. Leave MaxStore at its default where the disk is shared.
//
// A stream on disk that cannot be recovered stops Start with ErrNotReady, which
// names it: going on without it would look like an empty cluster.
//
// # Concurrency
//
// All methods of Server may be called by several goroutines.
//
// # Tests under fake time
//
// A server without Dir and without Addr works inside a testing/synctest bubble.
// The TestMain of such tests calls ats.Register, of nats-server's package
// server/ats, because the server's clock would otherwise be started inside the
// first bubble and stop with it.
package embedded
