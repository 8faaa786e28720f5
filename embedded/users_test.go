package embedded

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/catga/catga-go/internal/natstest"
)

// keyUser is a user with an NKey, and the option that logs in as it.
func keyUser(t testing.TB) (User, nats.Option) {
	t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return User{NKey: public}, nats.Nkey(public, pair.Sign)
}

// refused tells whether the server refuses a connection with these options.
func refused(url string, opts ...nats.Option) bool {
	nc, err := nats.Connect(url, append(opts, nats.MaxReconnects(0))...)
	if err == nil {
		nc.Close()
	}
	return errors.Is(err, nats.ErrAuthorization)
}

func TestUsersMayDoWhatTheyMay(t *testing.T) {
	const hash = "$2a$04$Ax8GoxrQecR2Q3WuEcqyL.5Y8gAtAgBVkzvKYxibozN65aT0hNrvC" // of "hidden", by bcrypt
	key, withKey := keyUser(t)
	key.Publish, key.Subscribe, key.Responses = []string{"ask.>"}, []string{"told.>", "_INBOX.>"}, 1
	s := start(t, Config{Addr: "127.0.0.1:0", Users: []User{
		{Name: "all", Password: "open"}, {Name: "hashed", Password: hash}, key,
	}})
	url := s.ClientURL()
	for name, opts := range map[string][]nats.Option{
		"nobody": nil, "wrong password": {nats.UserInfo("all", "x")}, "the hash as password": {nats.UserInfo("hashed", hash)},
		"unknown": {nats.UserInfo("x", "open")}, "a token": {nats.Token("open")},
	} {
		if !refused(url, opts...) {
			t.Errorf("%s was not refused", name)
		}
	}
	_, strange := keyUser(t)
	if !refused(url, strange) {
		t.Error("a strange key was not refused")
	}
	natstest.Dial(t, url, nats.UserInfo("hashed", "hidden"))
	all := natstest.Dial(t, url, nats.UserInfo("all", "open"))
	denied := make(chan error, 8)
	limited := natstest.Dial(t, url, withKey, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { denied <- err }))

	// The one with the key may ask and answer, and neither say nor hear anything else.
	heard, err := s.Conn().SubscribeSync(">")
	if err != nil {
		t.Fatal(err)
	}
	told, err := limited.SubscribeSync("told.me")
	if err != nil {
		t.Fatal(err)
	}
	for _, nc := range []*nats.Conn{s.Conn(), limited} {
		if err := nc.FlushWithContext(within(t, 10*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := limited.SubscribeSync("other"); err != nil {
		t.Fatal(err)
	}
	if err := limited.Publish("other", nil); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := <-denied; !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("err %v", err)
		}
	}
	if err := limited.Publish("ask.it", []byte("1")); err != nil {
		t.Fatal(err)
	}
	if m, err := heard.NextMsgWithContext(within(t, 10*time.Second)); err != nil || m.Subject != "ask.it" {
		t.Errorf("heard %+v, %v", m, err)
	}
	go func() {
		m, err := told.NextMsgWithContext(t.Context())
		if err == nil {
			err = m.Respond([]byte("answer"))
		}
		if err != nil {
			t.Error(err)
		}
	}()
	if m, err := all.RequestWithContext(within(t, 10*time.Second), "told.me", nil); err != nil || string(m.Data) != "answer" {
		t.Errorf("answer %+v, %v", m, err)
	}
}

func TestUsersOfAClusterAreUsersOfEachServer(t *testing.T) {
	cfgs := configs(t, 3)
	key, withKey := keyUser(t)
	for i := range cfgs {
		cfgs[i].Users = []User{{Name: "u", Password: "p"}, key}
	}
	servers := startAll(t, cfgs)
	js := replicated(t, servers[0].Conn())
	if err := put(within(t, 20*time.Second), js, "1"); err != nil {
		t.Fatal(err)
	}
	for _, s := range servers {
		if !refused(s.ClientURL()) || !refused(s.ClientURL(), nats.UserInfo("u", "x")) {
			t.Error("a stranger was not refused")
		}
		for _, login := range []nats.Option{nats.UserInfo("u", "p"), withKey} {
			if n := messages(t, natstest.Dial(t, s.ClientURL(), login)); n != 1 {
				t.Errorf("%d messages", n)
			}
		}
	}
	ruledByItselfOnly(t, servers, nats.UserInfo("u", "p"))
}

// ruledByItselfOnly shows that a client cannot change who is in the cluster.
func ruledByItselfOnly(t *testing.T, servers []*Server, login ...nats.Option) {
	t.Helper()
	nc := natstest.Dial(t, servers[0].ClientURL(), login...)
	request, err := json.Marshal(map[string]string{"peer": servers[2].Name()})
	if err != nil {
		t.Fatal(err)
	}
	if err := ask(within(t, time.Second), nc, subjectRemove, json.RawMessage(request), nil); err == nil {
		t.Error("a client has removed a server")
	}
	if all := names(t, servers[0]); len(all) != 3 {
		t.Errorf("peers %v", all)
	}
	// The server itself can.
	if err := servers[0].Remove(within(t, 10*time.Second), "x"); !errors.Is(err, ErrPeer) || !strings.Contains(err.Error(), "is not in the cluster") {
		t.Errorf("err %v", err)
	}
}

func TestTokenOfAClusterIsTheTokenOfEachServer(t *testing.T) {
	cfgs := configs(t, 3)
	for i := range cfgs {
		cfgs[i].Token = "open"
	}
	servers := startAll(t, cfgs)
	js := replicated(t, servers[0].Conn())
	if err := put(within(t, 20*time.Second), js, "1"); err != nil {
		t.Fatal(err)
	}
	for _, s := range servers {
		if !refused(s.ClientURL()) || !refused(s.ClientURL(), nats.Token("x")) || !refused(s.ClientURL(), nats.UserInfo("u", "p")) {
			t.Error("a stranger was not refused")
		}
		if n := messages(t, natstest.Dial(t, s.ClientURL(), nats.Token("open"))); n != 1 {
			t.Errorf("%d messages", n)
		}
	}
	ruledByItselfOnly(t, servers, nats.Token("open"))
}

func TestClusterWithoutLoginsIsOpen(t *testing.T) {
	servers := startAll(t, configs(t, 3))
	if _, err := natstest.Dial(t, servers[0].ClientURL()).RTT(); err != nil {
		t.Error(err)
	}
	if !refused(servers[0].ClientURL(), nats.UserInfo("catga.system", "")) {
		t.Error("the system's login was not refused")
	}
	ruledByItselfOnly(t, servers)
}

func TestUsersThatCannotWork(t *testing.T) {
	key, _ := keyUser(t)
	for want, users := range map[string][]User{
		"needs either Name and Password or NKey":      {{}},
		"Users[0] needs either":                       {{Name: "a", Password: "b", NKey: key.NKey}},
		`"a" has no Password`:                         {{Name: "a"}},
		"which is not the public key of a user":       {{NKey: "SUACSSL3"}},
		`Users[1] "a" is there twice`:                 {{Name: "a", Password: "b"}, {Name: "a", Password: "c"}},
		"begins with catga., which is for the server": {{Name: "catga.system", Password: "b"}},
	} {
		_, err := Start(t.Context(), Config{Addr: "127.0.0.1:0", Users: users})
		if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: want %q", err, want)
		}
	}
	for want, cfg := range map[string]Config{
		"Users is set and Addr is not": {Users: []User{key}},
		"choose one":                   {Addr: "127.0.0.1:0", Users: []User{key}, Token: "x"},
	} {
		if _, err := Start(t.Context(), cfg); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: want %q", err, want)
		}
	}
	if text := (User{Name: "a", Password: "geheim"}).String(); strings.Contains(text, "geheim") || !strings.Contains(text, "a") {
		t.Errorf("a user prints as %s", text)
	}
	// The caller's slices stay the caller's.
	users := []User{{Name: "a", Password: "b"}}
	s := start(t, Config{Dir: filepath.Join(t.TempDir(), "d"), Addr: "127.0.0.1:0", Users: users})
	users[0].Password = "c"
	natstest.Dial(t, s.ClientURL(), nats.UserInfo("a", "b"))
}
