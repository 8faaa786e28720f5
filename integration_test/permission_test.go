package integration_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/cluster"
	"github.com/catga/catga-go/internal/natstest"
)

// permission is one entry of the list in docs/operations.md.
type permission struct{ verb, subject string }

// permissionsOfTheDocument are those of the node orders-1, without the one that
// only names the others.
func permissionsOfTheDocument(t *testing.T) (list []permission) {
	t.Helper()
	verb := ""
	for line := range strings.Lines(operations(t, "text")[0]) {
		if m := regexp.MustCompile(`^\s*(publish|subscribe): \[`).FindStringSubmatch(line); m != nil {
			verb = m[1]
		}
		for _, m := range regexp.MustCompile(`"([^"]+)"`).FindAllStringSubmatch(line, -1) {
			if strings.Contains(line, "allow_responses") {
				continue
			}
			list = append(list, permission{verb, m[1]})
		}
	}
	if len(list) < 30 {
		t.Fatalf("only %d permissions are found in the document", len(list))
	}
	return list
}

// without is the configuration of a user who has all permissions but one.
func without(user string, list []permission, but permission) string {
	var text strings.Builder
	fmt.Fprintf(&text, "{user: %q, password: pw, permissions: {", user)
	for _, verb := range []string{"publish", "subscribe"} {
		text.WriteString(verb + ": [\n")
		for _, p := range list {
			if p.verb == verb && p != but {
				fmt.Fprintf(&text, "%q\n", p.subject)
			}
		}
		text.WriteString("]\n")
	}
	return text.String() + "\n" + `allow_responses: {max: 10, expires: "1m"}` + "\n}}\n"
}

// Of the permissions in the document, one after the other is taken away. Join
// names it at once, or the verb that needs it does, or the log says what is
// missing without it.
func TestEachMissingPermissionIsNamed(t *testing.T) {
	list := permissionsOfTheDocument(t)
	const ask = "$SYS.REQ.USER.INFO"
	// byVerb are named by those who use them: not every node sends, or looks at
	// dead letters.
	send := func(to cluster.Target) func(context.Context, *cluster.Node) error {
		return func(ctx context.Context, n *cluster.Node) error { return n.Send(ctx, to, note{}) }
	}
	cancel := func(ctx context.Context, n *cluster.Node) error { return n.Cancel(ctx, "nobody-knows-it") }
	byVerb := map[permission]func(context.Context, *cluster.Node) error{
		{"publish", "catga.shop.node.>"}: send(cluster.To("orders-1")),
		{"publish", "catga.shop.work.>"}: send(cluster.Any()),
		{"publish", "catga.shop.all.>"}:  send(cluster.All()),
		{"publish", "catga.shop.call.>"}: func(ctx context.Context, n *cluster.Node) error {
			_, err := cluster.Call(ctx, n, cluster.To("orders-1"), echo{})
			return err
		},
		{"publish", "catga.shop.sched.>"}: func(ctx context.Context, n *cluster.Node) error {
			return n.Send(ctx, cluster.Any(), note{}, cluster.After(time.Hour))
		},
		{"publish", "$JS.API.STREAM.PURGE.CATGA_shop_WORK"}: cancel,
		{"publish", "$JS.API.STREAM.PURGE.CATGA_shop_MAIL"}: cancel,
		{"publish", "$JS.API.DIRECT.GET.CATGA_shop_DEAD"}: func(ctx context.Context, n *cluster.Node) error {
			for _, err := range n.DeadLetters().List(ctx, "test.note") {
				return err
			}
			return nil
		},
		{"publish", "$JS.API.STREAM.MSG.DELETE.CATGA_shop_DEAD"}: func(ctx context.Context, n *cluster.Node) error {
			return n.DeadLetters().Drop(ctx, 1)
		},
	}
	// inLog are done without, and the log says so.
	inLog := map[string]bool{
		"$JS.API.CONSUMER.CREATE.KV_catga_shop.*.$KV.catga_shop.tripwire": true,
		"$JS.API.CONSUMER.INFO.KV_catga_shop.*":                           true,
		"$JS.EVENT.ADVISORY.CONSUMER.DELETED.KV_catga_shop.*":             true,
	}
	// mute are those that are not named at once where the node may not ask: Join
	// does not use them.
	mute := func(p permission) bool {
		for _, prefix := range []string{
			"$JS.API.DIRECT.GET.KV_catga_shop.>", "$JS.API.DIRECT.GET.KV_catga_shop_beats", "catga.shop.ask.", "catga.shop.on.", "catga.shop.held.", "catga.shop.inbox.",
			"catga.shop.dead.", "catga.shop.call.", "$JS.API.CONSUMER.CREATE.CATGA", "$JS.API.CONSUMER.MSG.NEXT.", "$JS.API.CONSUMER.DELETE.", "$JS.ACK.",
			"$JS.API.CONSUMER.INFO.CATGA", "$JS.API.CONSUMER.NAMES.CATGA", "$JS.API.DIRECT.GET.CATGA_shop_WORK", "$JS.API.DIRECT.GET.CATGA_shop_MAIL", "$JS.API.CONSUMER.CREATE.KV_catga_shop",
		} {
			if strings.HasPrefix(p.subject, prefix) {
				return true
			}
		}
		return false
	}
	var users strings.Builder
	users.WriteString("{user: operator, password: pw}\n")
	silent := slices.DeleteFunc(slices.Clone(list), func(p permission) bool { return p.subject == ask })
	for i, p := range list {
		users.WriteString(without(fmt.Sprintf("told-%d", i), list, p))
		users.WriteString(without(fmt.Sprintf("mute-%d", i), silent, p))
	}
	users.WriteString(strings.ReplaceAll(without("unanswered", silent, permission{}), "allow_responses", "#allow_responses"))
	srv := natstest.Start(t, natstest.ConfigText("authorization { users: [\n"+users.String()+"] }"))
	operator := natstest.Dial(t, srv.URL(), nats.UserInfo("operator", "pw"))
	addStreams(t, operator)

	// fails joins as a user, which must be denied what is named.
	fails := func(t *testing.T, user, named string) {
		t.Helper()
		n, nc := shopNode(t, srv, user, nil)
		// The connection's own inbox, and its goroutine.
		warm, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		_, _ = nc.RequestWithContext(warm, "catga.shop.ping.nobody.1", nil)
		cancel()
		check := goroutines()
		begin := time.Now()
		err := n.Join(bounded(t))
		t.Logf("%s after %v: %v", user, time.Since(begin).Round(time.Millisecond), err)
		if !errors.Is(err, cluster.ErrDenied) || !strings.Contains(err.Error(), named) {
			t.Errorf("%s: %v, want a denial of %s", user, err, named)
		}
		nothingIsLeft(t, srv, operator, nc, "shop", "orders-1")
		if !strings.HasPrefix(named, "_INBOX") { // the connection makes its own inbox anew
			check(t)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
	// joins is a member as a user, for as long as do.
	joins := func(t *testing.T, user string, log *slog.Logger, do func(*cluster.Node)) {
		t.Helper()
		n, _ := shopNode(t, srv, user, log)
		if err := n.Join(bounded(t)); err != nil {
			t.Fatalf("%s: %v", user, err)
		}
		do(n)
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
	for i, p := range list {
		t.Run(p.verb+" "+p.subject, func(t *testing.T) {
			told, muted := fmt.Sprintf("told-%d", i), fmt.Sprintf("mute-%d", i)
			named := strings.TrimRight(p.subject, "*>")
			switch {
			case p.subject == ask, strings.HasPrefix(p.subject, "$SRV."): // done without
				joins(t, told, nil, func(*cluster.Node) {})
			case inLog[p.subject]:
				log, text := logTo()
				joins(t, told, log, func(*cluster.Node) {})
				if !strings.Contains(text(), "level=WARN") || !strings.Contains(text(), p.subject) {
					t.Errorf("the log does not name it:\n%s", text())
				}
			case byVerb[p] != nil:
				joins(t, muted, nil, func(n *cluster.Node) {
					limited, cancel := context.WithTimeout(t.Context(), 10*time.Second)
					defer cancel()
					if err := byVerb[p](limited, n); !errors.Is(err, cluster.ErrDenied) || !strings.Contains(err.Error(), named) {
						t.Errorf("the verb does not say what is missing: %v", err)
					}
				})
			default:
				fails(t, told, named)
				if !mute(p) {
					fails(t, muted, named)
				}
			}
		})
	}
	t.Run("answers", func(t *testing.T) { fails(t, "unanswered", "allow_responses") })
}
