// A program that works with a cluster and knows nothing but docs/wire.md: it
// imports the NATS client and none of this module. It prints one JSON object
// for each thing that it did. Usage: plain <url> <cluster>
//
// The nodes a and b handle test.note and answer test.echo and test.refuse.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const limit = 30 * time.Second

type program struct {
	nc     *nats.Conn
	js     jetstream.JetStream
	prefix string // catga.<cluster>.
	name   string // of the cluster
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := run(ctx, os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, url, cluster string) error {
	nc, err := nats.Connect(url)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	p := program{nc, js, "catga." + cluster + ".", cluster}
	for _, step := range []func(context.Context) error{p.members, p.work, p.mail, p.all, p.calls, p.gather, p.deadLetters, p.service} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func say(what string, v any) {
	_ = json.NewEncoder(os.Stdout).Encode(map[string]any{"what": what, "is": v})
}

// members reads the records of the nodes.
func (p program) members(ctx context.Context) error {
	kv, err := p.js.KeyValue(ctx, "catga_"+p.name)
	if err != nil {
		return err
	}
	keys, err := kv.ListKeys(ctx)
	if err != nil {
		return err
	}
	handlers := map[string][]string{} // node -> kinds
	for key := range keys.Keys() {
		entry, err := kv.Get(ctx, key)
		if err != nil {
			return err
		}
		var record struct {
			ID    string   `json:"id"`
			State string   `json:"state"`
			Kinds []string `json:"kinds"`
		}
		if err := json.Unmarshal(entry.Value(), &record); err != nil {
			return err
		}
		if record.State == "online" {
			handlers[record.ID] = record.Kinds
		}
	}
	say("members", handlers)
	return nil
}

// publish stores a durable message and says whether it was a repeat.
func (p program) publish(ctx context.Context, subject, body string, headers ...string) error {
	m := &nats.Msg{Subject: p.prefix + subject, Data: []byte(body), Header: nats.Header{}}
	for i := 0; i < len(headers); i += 2 {
		m.Header.Set(headers[i], headers[i+1])
	}
	ack, err := p.js.PublishMsg(ctx, m)
	if err != nil {
		return fmt.Errorf("%s: %w", subject, err)
	}
	say("stored "+strings.TrimPrefix(body, `{"Text":`), map[string]any{"stream": strings.TrimPrefix(ack.Stream, "CATGA_"+p.name+"_"), "repeat": ack.Duplicate})
	return nil
}

// work is for any handler. Two messages with one id are one.
func (p program) work(ctx context.Context) error {
	if err := p.publish(ctx, "work.test.note", `{"Text":"work"}`); err != nil {
		return err
	}
	for range 2 {
		err := p.publish(ctx, "work.test.note", `{"Text":"once"}`, "Nats-Msg-Id", "plain.x-1", "colour", "red",
			"traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
		if err != nil {
			return err
		}
	}
	return p.publish(ctx, "work.test.note", `{"Text":"from"}`, "Catga-From", "outside", "Catga-Id", "order-7")
}

// mail is for one node.
func (p program) mail(ctx context.Context) error {
	return p.publish(ctx, "node.b.test.note", `{"Text":"mail"}`)
}

// all is for every node, or for some of them.
func (p program) all(ctx context.Context) error {
	if err := p.publish(ctx, "all.test.note", `{"Text":"all"}`); err != nil {
		return err
	}
	if err := p.publish(ctx, "all.test.note", `{"Text":"not a"}`, "Catga-Except", "a"); err != nil {
		return err
	}
	if err := p.publish(ctx, "all.test.note", `{"Text":"only a"}`, "Catga-Only", "a,nobody"); err != nil {
		return err
	}
	return p.publish(ctx, "all.test.note", `{"Text":"zone b"}`, "Catga-Select", "zone in (b,c),!canary")
}

// request makes a call and says what came.
func (p program) request(ctx context.Context, what, subject, body string, headers ...string) error {
	m := &nats.Msg{Subject: p.prefix + subject, Data: []byte(body), Header: nats.Header{}}
	for i := 0; i < len(headers); i += 2 {
		m.Header.Set(headers[i], headers[i+1])
	}
	answer, err := p.nc.RequestMsgWithContext(ctx, m)
	if err != nil {
		say(what, err.Error())
		return nil
	}
	say(what, outcome(answer))
	return nil
}

// outcome is the body of an answer, or why there is none.
func outcome(m *nats.Msg) any {
	text := m.Header.Get("Nats-Service-Error")
	if text == "" && len(m.Data) == 0 {
		return nil
	}
	if text == "" {
		return json.RawMessage(m.Data)
	}
	if len(m.Data) > 0 {
		text = string(m.Data)
	}
	return map[string]string{"error": text, "code": m.Header.Get("Nats-Service-Error-Code"), "refused": m.Header.Get("Catga-Refused")}
}

func (p program) calls(ctx context.Context) error {
	for _, call := range [][]string{
		{"call any", "call.any.test.echo", `{"Text":"hello"}`},
		{"call b", "call.node.b.test.echo", `{"Text":"hello"}`, "Catga-Timeout", "5s", "Content-Type", "application/json"},
		{"call of a durable kind", "call.node.a.test.note", `{"Text":"called"}`},
		{"call that fails", "call.any.test.refuse", `{"Code":422,"Text":"no"}`},
		{"call that fails at length", "call.any.test.refuse", `{"Code":409,"Text":"two\nlines"}`},
		{"call with a broken body", "call.any.test.echo", `{`},
		{"call with a broken timeout", "call.any.test.echo", `{}`, "Catga-Timeout", "soon"},
		{"call in another codec", "call.any.test.echo", `x`, "Content-Type", "application/x-unknown"},
		{"call of another version", "call.any.test.echo", `{}`, "Catga-Version", "9"},
		{"call of nobody", "call.any.test.none", `{}`},
	} {
		if err := p.request(ctx, call[0], call[1], call[2], call[3:]...); err != nil {
			return err
		}
	}
	// At most once: a call without a reply subject.
	return p.nc.Publish(p.prefix+"call.node.a.test.note", []byte(`{"Text":"at most once"}`))
}

// gather asks every handler and counts the answers by the members.
func (p program) gather(ctx context.Context) error {
	inbox := p.nc.NewInbox()
	sub, err := p.nc.SubscribeSync(inbox)
	if err != nil {
		return err
	}
	if err := p.nc.PublishRequest(p.prefix+"call.all.test.echo", inbox, []byte(`{"Text":"all"}`)); err != nil {
		return err
	}
	nodes := map[string]bool{}
	for len(nodes) < 2 {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return err
		}
		var answer struct{ Node string }
		if err := json.Unmarshal(m.Data, &answer); err != nil {
			return err
		}
		nodes[answer.Node] = true
	}
	say("gather", nodes)
	return sub.Unsubscribe()
}

// deadLetters reads a dead letter: of a message whose body is none.
func (p program) deadLetters(ctx context.Context) error {
	if err := p.publish(ctx, "work.test.note", `{`, "Nats-Msg-Id", "plain.x-2"); err != nil {
		return err
	}
	c, err := p.js.OrderedConsumer(ctx, "CATGA_"+p.name+"_DEAD", jetstream.OrderedConsumerConfig{FilterSubjects: []string{p.prefix + "dead.test.note"}})
	if err != nil {
		return err
	}
	m, err := c.Next(jetstream.FetchContext(ctx))
	if err != nil {
		return err
	}
	h := m.Headers()
	say("dead letter", map[string]any{
		"body": string(m.Data()), "stream": strings.TrimPrefix(h.Get("Catga-Dead-Stream"), "CATGA_"+p.name+"_"),
		"subject": strings.TrimPrefix(h.Get("Catga-Dead-Subject"), p.prefix), "attempts": h.Get("Catga-Dead-Attempts"),
		"reason": h.Get("Catga-Dead-Reason") != "", "id": h.Get("Catga-Id"),
	})
	return nil
}

// service is how nodes look to the tools of NATS.
func (p program) service(ctx context.Context) error {
	m, err := p.nc.RequestWithContext(ctx, "$SRV.INFO."+p.name+".a", nil)
	if err != nil {
		return err
	}
	var info struct {
		ID        string `json:"id"`
		Endpoints []struct {
			Name string `json:"name"`
		} `json:"endpoints"`
	}
	if err := json.Unmarshal(m.Data, &info); err != nil {
		return err
	}
	say("service", info)
	return nil
}
