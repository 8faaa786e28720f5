package wire

import (
	"slices"
	"strings"
	"testing"
)

// within says whether a NATS server delivers subject to a subscription.
func within(subject, subscription string) bool {
	s, p := strings.Split(subject, "."), strings.Split(subscription, ".")
	for i, token := range p {
		switch {
		case token == ">":
			return i < len(s)
		case i >= len(s) || token != "*" && token != s[i]:
			return false
		}
	}
	return len(s) == len(p)
}

// TestEachSubjectHasOnePlace: a durable subject is in one stream, a core
// subject in none, and none is in the streams of another cluster.
func TestEachSubjectHasOnePlace(t *testing.T) {
	const kind = "order.place"
	streams := func(c Cluster) map[string][]string {
		return map[string][]string{
			c.RecordStream(): {c.RecordPrefix() + ">"},
			c.BeatStream():   {c.BeatPrefix() + ">"},
			c.WorkStream():   c.WorkSubjects(),
			c.MailStream():   c.MailSubjects(),
			c.FanoutStream(): c.FanoutSubjects(),
			c.DeadStream():   c.DeadSubjects(),
		}
	}
	c := Cluster("shop")
	for subject, want := range map[string]string{
		c.RecordSubject("n1"):           c.RecordStream(),
		c.Tripwire():                    c.RecordStream(),
		c.BeatSubject("n1"):             c.BeatStream(),
		c.NodeMail("n1", kind):          c.MailStream(),
		c.Work(kind):                    c.WorkStream(),
		c.Key(3, kind):                  c.WorkStream(),
		c.WorkSched("x", "y"):           c.WorkStream(),
		c.MailSched("x", "y"):           c.MailStream(),
		c.All(kind):                     c.FanoutStream(),
		c.Dead(kind):                    c.DeadStream(),
		c.RegistrySubject("n1"):         "",
		c.Ping("n1", 7):                 "",
		c.Ask("n1"):                     "",
		c.On("server"):                  "",
		c.CallNode("n1", kind):          "",
		c.CallAll(kind):                 "",
		c.CallAny(kind):                 "",
		c.Inbox("n1", 7, "t"):           "",
		c.Inbox("n1", 7, FarewellToken): "",
		c.Held(kind):                    "",
		c.TripwireDeleted("x-1-1"):      "",
	} {
		var in []string
		for stream, subjects := range streams(c) {
			if slices.ContainsFunc(subjects, func(s string) bool { return within(subject, s) }) {
				in = append(in, stream)
			}
		}
		if got := strings.Join(in, " and "); got != want {
			t.Errorf("%s is in %q, want %q", subject, got, want)
		}
		for _, other := range []Cluster{"shop2", "sho", "shop_", "shop-beats"} {
			for stream, subjects := range streams(other) {
				if slices.ContainsFunc(subjects, func(s string) bool { return within(subject, s) }) {
					t.Errorf("%s is in %s of another cluster", subject, stream)
				}
			}
		}
	}
	if !within(c.RegistrySubject("n1"), c.RegistryAll()) || !within(c.Ping("n1", 7), c.PingAny("n1")) {
		t.Error("a subscription misses its subject")
	}
}

// FuzzSubjects: the node that goes into a subject comes out of it, and nothing
// that is no subject of ours gives a node.
func FuzzSubjects(f *testing.F) {
	f.Add("n1", "order.place", uint64(1), "catga.shop.inbox.n1.7.abc")
	f.Add("a-b_c", "k", uint64(1)<<63, "$KV.catga_shop.node.n1")
	f.Add("", "", uint64(0), "catga.shop.reg.node.")
	f.Fuzz(func(t *testing.T, id, kind string, incarnation uint64, text string) {
		c := Cluster("shop")
		for what, parse := range map[string]func(string) (string, bool){
			"record": c.NodeOfSubject, "beat": c.NodeOfBeat, "mail": c.NodeOfMail, "inbox": c.CallerOfInbox, "caster": CasterOf,
		} {
			if got, ok := parse(text); ok && (CheckNode(got) != nil || !strings.Contains(text, got)) {
				t.Fatalf("%s %q gives %q", what, text, got)
			}
		}
		if CheckNode(id) != nil || CheckKind(kind) != nil {
			return
		}
		if got, ok := CasterOf(CastReply(id)); !ok || got != id {
			t.Fatalf("%q gives %q, %v, want %q", CastReply(id), got, ok, id)
		}
		if got, ok := CutBundleReply(BundleReply(id)); !ok || got != CastReply(id) {
			t.Fatalf("%q gives %q, %v, want %q", BundleReply(id), got, ok, CastReply(id))
		}
		if got, ok := CasterOf(BundleReply(id)); !ok || got != id {
			t.Fatalf("%q gives %q, %v, want %q", BundleReply(id), got, ok, id)
		}
		for _, reply := range []string{CastReply(id), c.Inbox(id, incarnation, "token"), ""} {
			if _, ok := CutBundleReply(reply); ok {
				t.Fatalf("%q is that of a bundle", reply)
			}
		}
		for subject, parse := range map[string]func(string) (string, bool){
			c.RecordSubject(id):               c.NodeOfSubject,
			c.RegistrySubject(id):             c.NodeOfSubject,
			c.BeatSubject(id):                 c.NodeOfBeat,
			c.NodeMail(id, kind):              c.NodeOfMail,
			c.Inbox(id, incarnation, "token"): c.CallerOfInbox,
		} {
			if got, ok := parse(subject); !ok || got != id {
				t.Fatalf("%q gives %q, %v, want %q", subject, got, ok, id)
			}
			if _, ok := parse(strings.Replace(subject, "shop", "shopping", 1)); ok {
				t.Fatalf("%q of another cluster gives a node", subject)
			}
		}
	})
}
