package routing

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/natstest"
	"github.com/catga/catga-go/internal/wire"
)

const testInbox = "catga.c.inbox.n1.7."

func TestRepliesGoToTheCallThatWaits(t *testing.T) {
	r := newReplies(testInbox)
	a, subjectA := r.await()
	b, subjectB := r.await()
	r.deliver(&nats.Msg{Subject: subjectB, Data: []byte("b")})
	r.deliver(&nats.Msg{Subject: subjectA, Data: []byte("a")})
	if m := <-a.answer; string(m.Data) != "a" {
		t.Error(string(m.Data))
	}
	if m := <-b.answer; string(m.Data) != "b" {
		t.Error(string(m.Data))
	}
	r.release(a, true)
	r.release(b, true)
	if id, ok := wire.Cluster("c").CallerOfInbox(subjectA); !ok || id != "n1" {
		t.Error("the reply subject does not tell the caller:", subjectA)
	}
}

func TestLateAndSecondAnswersAreDropped(t *testing.T) {
	r := newReplies(testInbox)
	late, subject := r.await()
	r.release(late, false)
	r.deliver(&nats.Msg{Subject: subject}) // nobody waits
	next, again := r.await()               // may use the same channel
	if again == subject {
		t.Fatal("a token was used twice:", again)
	}
	r.deliver(&nats.Msg{Subject: again, Data: []byte("1")})
	r.deliver(&nats.Msg{Subject: again, Data: []byte("2")})
	if m := <-next.answer; string(m.Data) != "1" {
		t.Error(string(m.Data))
	}
	r.release(next, true)
	if len(next.answer) != 0 || r.waiting() != 0 {
		t.Error("something is left", len(next.answer), r.waiting())
	}
}

func TestRepliesIgnoreWhatIsNotTheirs(t *testing.T) {
	r := newReplies(testInbox)
	p, subject := r.await()
	for _, s := range []string{
		"", testInbox, r.prefix, r.prefix + "0", r.prefix + "01", r.prefix + "-1", r.prefix + "1_", r.prefix + "zzzzzzzzzzzzzzzz",
		wire.CastReply("n1"), newReplies(testInbox).prefix + "1", "_INBOX.x.1", subject + ".x",
	} {
		r.deliver(&nats.Msg{Subject: s})
	}
	select {
	case m := <-p.answer:
		t.Fatal(m.Subject)
	default:
	}
	r.release(p, false)
}

// TestRepliesUnderRace gives up on calls while their answers arrive, over and
// over on the same few channels.
func TestRepliesUnderRace(t *testing.T) {
	r := newReplies(testInbox)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 2000 {
				p, subject := r.await()
				var inner sync.WaitGroup
				inner.Go(func() { r.deliver(&nats.Msg{Subject: subject}) })
				if i%2 == 0 {
					m := <-p.answer
					if m.Subject != subject {
						t.Errorf("answer for %s came to %s", m.Subject, subject)
					}
					r.release(p, true)
				} else {
					r.release(p, false)
				}
				inner.Wait()
			}
		})
	}
	wg.Wait()
	if n := r.waiting(); n != 0 {
		t.Fatal(n, "calls are left in the table")
	}
}

func TestInboxAnswersOverNATSAndCloses(t *testing.T) {
	nc := natstest.Memory(t).Dial(t)
	r := newReplies(testInbox)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := r.subscribe(ctx, nc); err != nil {
		t.Fatal(err)
	}
	p, subject := r.await()
	if err := nc.Publish(subject, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if m := <-p.answer; string(m.Data) != "x" {
		t.Fatal(string(m.Data))
	}
	r.release(p, true)
	r.close()
	r.close()
	<-r.closed
	if r.sub.IsValid() {
		t.Fatal("still subscribed")
	}
}

func FuzzReplyToken(f *testing.F) {
	r := newReplies(testInbox)
	f.Add("1", uint64(1))
	f.Add("_", uint64(0))
	f.Add("1y2p0ij32e8e7", ^uint64(0))
	f.Fuzz(func(t *testing.T, token string, n uint64) {
		if got, ok := parseNumber(strings.TrimPrefix(r.subject(n), r.prefix)); n != 0 && (!ok || got != n) {
			t.Fatalf("%d came back as %d, %v", n, got, ok)
		}
		if wantsAnswer("") || wantsAnswer(wire.CastReply("n1")) || !wantsAnswer(r.subject(n)) {
			t.Fatal("who wants an answer")
		}
		g := r.gather([]*peer{{}, {}}, false)
		defer r.endGather(g)
		r.deliver(&nats.Msg{Subject: token})
		if len(g.answers) > 0 {
			t.Fatalf("%q is not under the prefix", token)
		}
		if strings.HasPrefix(r.prefix+token, g.subject+"-") || strings.HasPrefix(r.prefix+token, g.replyOfAll()) {
			return
		}
		r.deliver(&nats.Msg{Subject: r.prefix + token}) // must not panic
		for i := range g.nodes {
			for range 2 {
				r.deliver(&nats.Msg{Subject: g.reply(i)})
			}
			if a := <-g.answers; a.node != i || len(g.answers) > 0 {
				t.Fatalf("the answer of %d is that of %d, of which there are %d more", i, a.node, len(g.answers))
			}
		}
	})
}
