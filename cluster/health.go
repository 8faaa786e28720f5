package cluster

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// checkLimit bounds a check that is asked for by HTTP.
const checkLimit = 5 * time.Second

// Health answers the probes of an orchestrator and of people. It serves from
// the moment when New has returned:
//
//	GET /live    200 while the node lives or has not joined yet; 503 when it has ended for good
//	GET /ready   200 while Status.Ready is true, also through an outage of NATS; else 503
//	GET /check   200 when Check finds nothing wrong within 5 s, else 503
//
// Only an end that nothing but a new process mends makes /live fail. /check asks
// NATS: it is for people and monitoring. As a probe of an orchestrator it would
// take every node out of service in an outage. Mount it anywhere with
// [http.StripPrefix].
//
// The body is JSON:
//
//	{
//	  "ok": false,                          // false with every 503
//	  "reason": "leaving",                  // why; absent when ok
//	  "cluster": "shop", "node": "orders-1",
//	  "status": {"live": true, "ready": false, ...},  // the Status
//	  "parts": [                            // of /check only
//	    {"name": "connection", "ok": true},
//	    {"name": "registry", "ok": true},   // JetStream can be written, the record is there
//	    {"name": "inbox", "ok": false, "reason": "..."} // the consumers
//	  ]
//	}
//
// Where the node has not joined, the one part is "membership"; where it has no
// connection, the one part is "connection".
func (n *Node) Health() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /live", func(w http.ResponseWriter, _ *http.Request) {
		st := n.Status()
		n.answer(w, st, st.Live, st.Reason, nil)
	})
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		st := n.Status()
		n.answer(w, st, st.Ready, st.Reason, nil)
	})
	mux.HandleFunc("GET /check", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), checkLimit)
		defer cancel()
		var parts []checked
		reason := ""
		for _, p := range n.check(ctx) {
			c := checked{Name: p.name, OK: p.err == nil}
			if p.err != nil {
				c.Reason = p.err.Error()
				if reason == "" {
					reason = c.Reason
				}
			}
			parts = append(parts, c)
		}
		n.answer(w, n.Status(), reason == "", reason, parts)
	})
	return mux
}

// health is the body of an answer.
type health struct {
	OK      bool      `json:"ok"`
	Reason  string    `json:"reason,omitempty"`
	Cluster string    `json:"cluster"`
	Node    string    `json:"node"`
	Status  Status    `json:"status"`
	Parts   []checked `json:"parts,omitempty"`
}

// checked is a part and what was found of it.
type checked struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Reason string `json:"reason,omitempty"`
}

func (n *Node) answer(w http.ResponseWriter, st Status, ok bool, reason string, parts []checked) {
	h := health{OK: ok, Cluster: n.cfg.Cluster, Node: n.id, Status: st, Parts: parts}
	code := http.StatusOK
	if !ok {
		code, h.Reason = http.StatusServiceUnavailable, reason
	}
	body, err := json.Marshal(h)
	if err != nil { // a time out of its range
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = w.Write(append(body, '\n')) // who asked may be gone
}
