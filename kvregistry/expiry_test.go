package kvregistry

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/catga/catga-go/internal/natstest"
)

// seed is a new key of a kind and its public half.
func seed(t *testing.T, create func() (nkeys.KeyPair, error)) (key nkeys.KeyPair, public string) {
	t.Helper()
	key, err := create()
	if err != nil {
		t.Fatal(err)
	}
	if public, err = key.PublicKey(); err != nil {
		t.Fatal(err)
	}
	return key, public
}

func signed(t *testing.T, claims jwt.Claims, by nkeys.KeyPair) string {
	t.Helper()
	token, err := claims.Encode(by)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// A user's credentials expire and are renewed: the server closes the connection,
// the next one comes with new ones, and nobody is Lost.
func TestRenewedCredentialsLoseNobody(t *testing.T) {
	operatorKey, operatorPublic := seed(t, nkeys.CreateOperator)
	accountKey, account := seed(t, nkeys.CreateAccount)
	_, system := seed(t, nkeys.CreateAccount)
	userKey, user := seed(t, nkeys.CreateUser)
	operator := jwt.NewOperatorClaims(operatorPublic)
	operator.SystemAccount = system
	app := jwt.NewAccountClaims(account)
	app.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: -1, DiskStorage: -1, Streams: -1, Consumer: -1}
	server := natstest.Start(t, natstest.ConfigText(fmt.Sprintf(`
operator: %s
system_account: %s
resolver: MEMORY
resolver_preload: { %s: %s, %s: %s }`,
		signed(t, operator, operatorKey), system,
		account, signed(t, app, operatorKey), system, signed(t, jwt.NewAccountClaims(system), operatorKey))))
	var issued atomic.Int64
	credentials := func(valid time.Duration) nats.Option {
		return nats.UserJWT(func() (string, error) {
			issued.Add(1)
			claims := jwt.NewUserClaims(user)
			claims.IssuerAccount = account
			claims.Expires = time.Now().Add(valid).Unix()
			return claims.Encode(accountKey)
		}, userKey.Sign)
	}
	a := join(t, natstest.Dial(t, server.URL(), credentials(3*time.Second)), Config{Node: "a"})
	b := join(t, natstest.Dial(t, server.URL(), credentials(time.Hour)), Config{Node: "b"})
	waitFor(t, b, "a", "b")
	check := unharmed(t, b, a)
	natstest.Eventually(t, "the credentials were renewed twice", func() bool {
		return a.nc.Stats().Reconnects >= 2 && a.nc.IsConnected()
	})
	if issued.Load() < 4 {
		t.Errorf("credentials were issued %d times", issued.Load())
	}
	check()
}
