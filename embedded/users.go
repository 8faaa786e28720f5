package embedded

import (
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
)

// User is who may connect to Config.Addr, and what it may do there.
type User struct {
	// Name and Password log in by nats.UserInfo. Password may be a bcrypt hash,
	// as nats server passwd makes it. Empty where NKey is set.
	Name, Password string

	// NKey is the public key of a user who logs in by nats.Nkey: it starts with
	// U. Empty where Name is set.
	NKey string

	// Publish and Subscribe are the subjects that the user may use; wildcards
	// are allowed. docs/operations.md lists what a node needs. Nil: all.
	Publish, Subscribe []string

	// Responses is how many answers the user may give to one request in a
	// minute, whatever the subject. 0: only where Publish allows the subject.
	Responses int
}

// checkUsers reports what is wrong with the users.
func checkUsers(users []User, problem func(format string, args ...any)) {
	seen := map[string]bool{}
	for i, u := range users {
		id := u.Name + u.NKey
		switch {
		case (u.Name == "") == (u.NKey == ""):
			problem("Users[%d] needs either Name and Password or NKey", i)
		case u.Name != "" && u.Password == "":
			problem("Users[%d] %q has no Password", i, u.Name)
		case u.NKey != "" && !nkeys.IsValidPublicUserKey(u.NKey):
			problem("Users[%d] has the NKey %q, which is not the public key of a user", i, u.NKey)
		case seen[id]:
			problem("Users[%d] %q is there twice", i, id)
		case strings.HasPrefix(u.Name, ownPrefix):
			problem("Users[%d] %q begins with %s, which is for the server itself", i, u.Name, ownPrefix)
		}
		seen[id] = true
	}
}

// responseLife is how long an answer that User.Responses allows may take.
const responseLife = time.Minute

// ownPrefix begins the names of the users that a server makes for itself.
const ownPrefix = "catga."

// login is a name and a password.
type login struct{ user, password string }

// newLogin makes one that nobody outside this process knows.
func newLogin(name string) login { return login{ownPrefix + name, rand.Text()} }

// logins are those that a server makes for itself, new at each start.
type logins struct {
	all    login // of connections of Conn and Dial; empty where none is needed
	system login // of the account that rules the cluster; empty where none is needed
}

// userOptions puts the users into the options of nats-server. The login of the
// system account stays within the process.
func (s settings) userOptions(o *server.Options) (l logins) {
	for _, u := range s.Users {
		perms := u.permissions()
		if u.NKey != "" {
			o.Nkeys = append(o.Nkeys, &server.NkeyUser{Nkey: u.NKey, Permissions: perms})
			continue
		}
		o.Users = append(o.Users, &server.User{Username: u.Name, Password: u.Password, Permissions: perms})
	}
	if len(s.Users) > 0 {
		l.all = newLogin("own")
		o.Users = append(o.Users, &server.User{Username: l.all.user, Password: l.all.password})
	}
	if !s.Cluster.on() {
		return l
	}
	system := server.NewAccount(server.DEFAULT_SYSTEM_ACCOUNT)
	l.system = newLogin("system")
	o.Accounts, o.SystemAccount = []*server.Account{system}, system.Name
	o.Users = append(o.Users, &server.User{Username: l.system.user, Password: l.system.password, Account: system})
	if len(s.Users) > 0 || s.Token != "" {
		refuseOthers(o)
	} else {
		anyone := newLogin("anyone")
		o.Users = append(o.Users, &server.User{Username: anyone.user, Password: anyone.password})
		o.NoAuthUser = anyone.user
	}
	return l
}

// refuseOthers makes the server refuse who shows no login. Where there is only
// the system account beside the usual one, it would let him in: it makes a user
// for him unless its configuration has a section on logins.
func refuseOthers(o *server.Options) {
	token := o.Authorization
	if err := o.ProcessConfigString("authorization {}"); err != nil {
		panic(err) // the text is a constant
	}
	o.Authorization = token
}

func (u User) permissions() *server.Permissions {
	if u.Publish == nil && u.Subscribe == nil {
		return nil
	}
	p := &server.Permissions{}
	if u.Publish != nil {
		p.Publish = &server.SubjectPermission{Allow: slices.Clone(u.Publish)}
	}
	if u.Subscribe != nil {
		p.Subscribe = &server.SubjectPermission{Allow: slices.Clone(u.Subscribe)}
	}
	if u.Responses > 0 {
		p.Response = &server.ResponsePermission{MaxMsgs: u.Responses, Expires: responseLife}
	}
	return p
}

// String hides the password.
func (u User) String() string { return fmt.Sprintf("user %s%s", u.Name, u.NKey) }
