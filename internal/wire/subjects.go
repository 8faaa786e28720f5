package wire

import (
	"strconv"
	"strings"
)

// Cluster is the name of a cluster; its methods are all names that depend on
// it. Use it only with a name that CheckCluster accepts.
type Cluster string

const beatsSuffix = "_beats"

// Registry: two KV buckets and the streams that they are made as.

// RecordBucket is the KV bucket of the node records.
func (c Cluster) RecordBucket() string { return "catga_" + string(c) }

// BeatBucket is the KV bucket of the heartbeats.
func (c Cluster) BeatBucket() string { return c.RecordBucket() + beatsSuffix }

// RecordStream is the stream of the record bucket.
func (c Cluster) RecordStream() string { return "KV_" + c.RecordBucket() }

// BeatStream is the stream of the heartbeat bucket.
func (c Cluster) BeatStream() string { return "KV_" + c.BeatBucket() }

// RecordPrefix is the subject of a record up to its key.
func (c Cluster) RecordPrefix() string { return "$KV." + c.RecordBucket() + "." }

// BeatPrefix is the subject of a heartbeat up to its key.
func (c Cluster) BeatPrefix() string { return "$KV." + c.BeatBucket() + "." }

// RecordSubject is where the record of node id is stored.
func (c Cluster) RecordSubject(id string) string { return c.RecordPrefix() + "node." + id }

// BeatSubject is where the heartbeat of node id is stored.
func (c Cluster) BeatSubject(id string) string { return c.BeatPrefix() + "beat." + id }

// RegistryPrefix is what the server puts in place of RecordPrefix when it
// republishes a change of a record.
func (c Cluster) RegistryPrefix() string { return c.prefix() + "reg." }

// RegistrySubject is where changes of the record of node id arrive.
func (c Cluster) RegistrySubject(id string) string { return c.RegistryPrefix() + "node." + id }

// RegistryAll is where changes of every record arrive.
func (c Cluster) RegistryAll() string { return c.RegistryPrefix() + "node.*" }

// NodeOfSubject returns the node id of a record or registry subject.
func (c Cluster) NodeOfSubject(subject string) (id string, ok bool) {
	for _, prefix := range [...]string{c.RegistryPrefix() + "node.", c.RecordPrefix() + "node."} {
		if id, ok = strings.CutPrefix(subject, prefix); ok {
			return id, CheckNode(id) == nil
		}
	}
	return "", false
}

// NodeOfBeat returns the node id of a heartbeat subject.
func (c Cluster) NodeOfBeat(subject string) (id string, ok bool) {
	id, ok = strings.CutPrefix(subject, c.BeatPrefix()+"beat.")
	return id, ok && CheckNode(id) == nil
}

// Tripwire is the subject that a tripwire consumer is filtered on; nothing is
// ever published there.
func (c Cluster) Tripwire() string { return c.RecordPrefix() + "tripwire" }

// TripwireDeleted is the advisory that the server publishes when the tripwire
// consumer of that name is gone; "*" stands for any.
func (c Cluster) TripwireDeleted(consumer string) string {
	return "$JS.EVENT.ADVISORY.CONSUMER.DELETED." + c.RecordStream() + "." + consumer
}

// Liveness probes.

// Ping is where incarnation of node id answers probes.
func (c Cluster) Ping(id string, incarnation uint64) string {
	return c.prefix() + "ping." + id + "." + strconv.FormatUint(incarnation, 10)
}

// PingAny is where any incarnation of node id is probed.
func (c Cluster) PingAny(id string) string { return c.prefix() + "ping." + id + ".*" }

// Ask is where node id is asked for a second opinion on a suspect.
func (c Cluster) Ask(id string) string { return c.prefix() + "ask." + id }

// On is the queue group of the nodes connected to one NATS server.
func (c Cluster) On(serverID string) string { return c.prefix() + "on." + serverID }

// Messages: what is durable is visible in the name.

// WorkStream holds what any handler, or the owner of a key, is to do.
func (c Cluster) WorkStream() string { return "CATGA_" + string(c) + "_WORK" }

// MailStream holds what one node is to do. It is not WorkStream, because of each
// message that is acknowledged the server looks at the filters of all consumers of
// the stream, and mailboxes have one for each kind of each node.
func (c Cluster) MailStream() string { return "CATGA_" + string(c) + "_MAIL" }

// FanoutStream holds what every node is to hear.
func (c Cluster) FanoutStream() string { return "CATGA_" + string(c) + "_FANOUT" }

// DeadStream holds the dead letters.
func (c Cluster) DeadStream() string { return "CATGA_" + string(c) + "_DEAD" }

// NodeMail is the durable subject of kind to node id.
func (c Cluster) NodeMail(id, kind string) string { return c.prefix() + "node." + id + "." + kind }

// NodeOfMail returns the node id in a durable subject to one node.
func (c Cluster) NodeOfMail(subject string) (id string, ok bool) {
	rest, ok := strings.CutPrefix(subject, c.prefix()+"node.")
	if !ok {
		return "", false
	}
	id, _, ok = strings.Cut(rest, ".")
	return id, ok && CheckNode(id) == nil
}

// AllMail is the durable subject of everything to node id; "*" stands for all
// nodes.
func (c Cluster) AllMail(id string) string { return c.prefix() + "node." + id + ".>" }

// MailOfSubject returns the node id and the kind in a durable subject to one
// node. They are what somebody published, and need not be valid.
func (c Cluster) MailOfSubject(subject string) (id, kind string, ok bool) {
	rest, ok := strings.CutPrefix(subject, c.prefix()+"node.")
	if !ok {
		return "", "", false
	}
	return strings.Cut(rest, ".")
}

// Work is the durable subject of kind to any of its handlers.
func (c Cluster) Work(kind string) string { return c.prefix() + "work." + kind }

// All is the durable subject of kind to every node.
func (c Cluster) All(kind string) string { return c.prefix() + "all." + kind }

// Key is the durable subject of kind to the owner of slot.
func (c Cluster) Key(slot int, kind string) string {
	return c.prefix() + "key." + strconv.Itoa(slot) + "." + kind
}

// WorkSched is the subject of delayed work: of a hash of its id, and one of what
// the id is scoped to. It is in the stream of its target: the server demands that.
func (c Cluster) WorkSched(id, scope string) string {
	return c.prefix() + "sched.work." + id + "." + scope
}

// MailSched is that of delayed mail.
func (c Cluster) MailSched(id, scope string) string {
	return c.prefix() + "sched.node." + id + "." + scope
}

// Dead is the subject of the dead letters of kind.
func (c Cluster) Dead(kind string) string { return c.prefix() + "dead." + kind }

// WorkSubjects are the subjects of WorkStream.
func (c Cluster) WorkSubjects() []string {
	return []string{c.prefix() + "work.>", c.prefix() + "key.>", c.prefix() + "sched.work.>"}
}

// MailSubjects are the subjects of MailStream.
func (c Cluster) MailSubjects() []string {
	return []string{c.prefix() + "node.>", c.prefix() + "sched.node.>"}
}

// FanoutSubjects are the subjects of FanoutStream.
func (c Cluster) FanoutSubjects() []string { return []string{c.prefix() + "all.>"} }

// DeadSubjects are the subjects of DeadStream.
func (c Cluster) DeadSubjects() []string { return []string{c.prefix() + "dead.>"} }

// Calls and at-most-once, all core NATS.

// CallNode is where node id answers calls of kind.
func (c Cluster) CallNode(id, kind string) string {
	return c.prefix() + "call.node." + id + "." + kind
}

// CallAll is where every handler of kind hears at-most-once messages and gathers.
func (c Cluster) CallAll(kind string) string { return c.CallAllPrefix() + kind }

// CallAllPrefix is CallAll up to the kind.
func (c Cluster) CallAllPrefix() string { return c.prefix() + "call.all." }

// CallQueue is the name of the queue group on CallAny.
const CallQueue = "catga"

// CallAny is the queue group of the handlers of kind, for clients without this library.
func (c Cluster) CallAny(kind string) string { return c.prefix() + "call.any." + kind }

// Inbox is the reply subject of one call of incarnation of node id.
func (c Cluster) Inbox(id string, incarnation uint64, token string) string {
	return c.InboxPrefix(id, incarnation) + token
}

// InboxPrefix is Inbox up to its token.
func (c Cluster) InboxPrefix(id string, incarnation uint64) string {
	return c.prefix() + "inbox." + id + "." + strconv.FormatUint(incarnation, 10) + "."
}

// AnswerMark ends the reply subject of a node's request to many. An answer to it
// has the CastReply of who answers as its own reply subject.
const AnswerMark = '='

// FarewellToken is the token in a node's inbox at which another that leaves tells
// it which of its requests have arrived. Those of its own are longer.
const FarewellToken = "bye"

// InboxRoot is the subject of every reply inbox up to the node's id.
func (c Cluster) InboxRoot() string { return c.prefix() + "inbox." }

// CallerOfInbox returns the node id in a reply subject of this cluster.
func (c Cluster) CallerOfInbox(reply string) (id string, ok bool) {
	return CallerUnder(c.InboxRoot(), reply)
}

// CallerUnder is CallerOfInbox for those who have the InboxRoot at hand and
// read many.
func CallerUnder(root, reply string) (id string, ok bool) {
	rest, ok := strings.CutPrefix(reply, root)
	if !ok {
		return "", false
	}
	id, _, ok = strings.Cut(rest, ".")
	return id, ok && CheckNode(id) == nil
}

// CastReply is the reply subject of an at-most-once message of node id. Nobody
// answers it: it only tells who sent, and is short because each of them has it. An
// answer to a request to many has it, too.
func CastReply(id string) string { return castRoot + id }

// BundleReply is the reply subject of a bundle of them.
func BundleReply(id string) string { return castRoot + id + bundleMark }

// CasterOf returns the node id in a CastReply or a BundleReply.
func CasterOf(reply string) (id string, ok bool) {
	id, ok = strings.CutPrefix(reply, castRoot)
	id = strings.TrimSuffix(id, bundleMark)
	if !ok || CheckNode(id) != nil {
		return "", false
	}
	return id, true
}

// IsCastReply reports whether reply is for nobody to answer, whoever sent it.
func IsCastReply(reply string) bool { return strings.HasPrefix(reply, castRoot) }

// CutBundleReply returns the CastReply of each message of a bundle, and whether
// reply is that of one.
func CutBundleReply(reply string) (each string, ok bool) {
	if !IsCastReply(reply) {
		return reply, false
	}
	return strings.CutSuffix(reply, bundleMark)
}

const (
	castRoot   = "_."
	bundleMark = "+"
)

// Held is where the handlers of kind are asked which unacked messages they hold;
// in place of the kind, NodeConsumer asks a node of its mailbox, MoverConsumer
// those who move the mail of one.
func (c Cluster) Held(kind string) string { return c.prefix() + "held." + kind }

func (c Cluster) prefix() string { return "catga." + string(c) + "." }

// NodeConsumer is the consumer of node id: its mailbox in MailStream, its
// fan-out in FanoutStream.
func NodeConsumer(id string) string { return "n:" + id }

// MoverConsumer is the consumer of mail of node id that none of the node's own
// brings: it is there only while the mail is moved.
func MoverConsumer(id string) string { return "m:" + id }

// MoverLock is the consumer that says that somebody moves mail of node id; see
// MoverLockFilter.
func MoverLock(id string) string { return "l:" + id }

// MoverLockFilter is what it is filtered on; nothing is ever published there.
func (c Cluster) MoverLockFilter(id string) string { return c.NodeMail(id, "-") }

// WorkConsumer is the consumer that the handlers of kind share.
func WorkConsumer(kind string) string { return "w:" + strings.ReplaceAll(kind, ".", ":") }

// SlotConsumer is the consumer that is the lease of a key slot.
func SlotConsumer(slot int, epoch uint64, owner string) string {
	return "s:" + strconv.Itoa(slot) + ":" + strconv.FormatUint(epoch, 10) + ":" + owner
}
