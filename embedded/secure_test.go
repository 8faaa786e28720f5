package embedded

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/catga/catga-go/internal/natstest"
)

// authority issues certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a := &authority{key: newKey(t), pool: x509.NewCertPool()}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pool.AddCert(a.cert)
	return a
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// issue returns a certificate of this machine, for both ends of a link.
func (a *authority) issue(t testing.TB) tls.Certificate {
	t.Helper()
	key := newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// both is a configuration for both ends of a link: who trusts a alone.
func (a *authority) both(t testing.TB) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{a.issue(t)}, RootCAs: a.pool, ClientCAs: a.pool, MinVersion: tls.VersionTLS12,
	}
}

func TestClusterOverTLS(t *testing.T) {
	cfgs := configs(t, 3)
	trusted := newAuthority(t)
	for i := range cfgs {
		cfgs[i].Cluster.TLS, cfgs[i].Cluster.Secret = trusted.both(t), "between-us"
		cfgs[i].TLS, cfgs[i].Token = trusted.both(t), "open"
	}
	servers := startAll(t, cfgs)
	js := replicated(t, servers[0].Conn())
	if err := put(within(t, 20*time.Second), js, "1"); err != nil {
		t.Fatal(err)
	}
	for _, s := range servers {
		nc := natstest.Dial(t, s.ClientURL(), nats.Token("open"), nats.Secure(&tls.Config{RootCAs: trusted.pool, MinVersion: tls.VersionTLS12}))
		if n := messages(t, nc); n != 1 {
			t.Errorf("%d messages", n)
		}
	}
	// The links are what it says they are, and want a certificate.
	addr := cfgs[0].Cluster.Addr
	for name, c := range map[string]struct {
		show []tls.Certificate
		ok   bool
	}{"none": {nil, false}, "a stranger's": {[]tls.Certificate{newAuthority(t).issue(t)}, false}, "one of theirs": {[]tls.Certificate{trusted.issue(t)}, true}} {
		if err := greet(t, addr, &tls.Config{Certificates: c.show, RootCAs: trusted.pool, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12}); (err == nil) != c.ok {
			t.Errorf("certificate: %s: %v", name, err)
		}
	}
	if cfgs[0].Cluster.TLS.ClientAuth != tls.NoClientCert {
		t.Error("the configuration of the caller was changed")
	}
}

// greet makes a TLS link to a server's address for servers, and waits for the
// first thing that it says.
func greet(t *testing.T, addr string, cfg *tls.Config) error {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	secure := tls.Client(conn, cfg)
	if err := secure.HandshakeContext(t.Context()); err != nil {
		return err
	}
	// With TLS 1.3 a refused certificate shows after the handshake, as an alert.
	_, err = secure.Read(make([]byte, 1)) // the server begins with its INFO
	return err
}

func TestServerWithACertificateOfAnother(t *testing.T) {
	cfgs := configs(t, 3)
	trusted, strange := newAuthority(t), newAuthority(t)
	for i := range cfgs {
		cfgs[i].Cluster.TLS = trusted.both(t)
	}
	cfgs[2].Cluster.TLS = strange.both(t)
	err := startFails(t, cfgs)[0]
	if !errors.Is(err, ErrNotReady) || !strings.Contains(err.Error(), "compare Cluster.Name, Secret and TLS") || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("err %v", err)
	}
}
