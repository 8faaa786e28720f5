package cluster

import (
	"testing"

	"github.com/catga/catga-go/routing"
)

func TestCandidatesAreMembersAsTheViewHasThem(t *testing.T) {
	view := View{
		Members: []Member{{ID: "a", Incarnation: 7, Endpoint: "a:1", State: Online}},
		Offline: []Member{{ID: "b", Incarnation: 3, State: Offline}},
	}
	peer := func(id string, incarnation uint64, draining bool) routing.Peer {
		return routing.Peer{ID: id, Incarnation: incarnation, Kinds: []string{"k"}, Metadata: map[string]string{"zone": "1"}, Draining: draining, Mail: "keep"}
	}
	if m := member(view, peer("a", 7, false)); m.Endpoint != "a:1" {
		t.Errorf("%+v", m)
	}
	// The view is behind: another life of a, one of b that it has not seen yet, and c.
	for _, p := range []routing.Peer{peer("a", 8, false), peer("b", 3, true), peer("c", 1, false)} {
		m := member(view, p)
		state := Online
		if p.Draining {
			state = Draining
		}
		if m.ID != p.ID || m.Incarnation != p.Incarnation || m.State != state || !m.Handles("k") || m.Metadata["zone"] != "1" || m.Mail != MailKeep || m.Endpoint != "" {
			t.Errorf("%+v", m)
		}
	}
}
