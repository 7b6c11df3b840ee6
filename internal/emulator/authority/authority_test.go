package authority_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hsmsweep/internal/emulator/authority"
)

func TestLeafIsTrustedForItsNamesOnly(t *testing.T) {
	ca, other := newAuthority(t, "management.test", "192.0.2.7", "localhost"), newAuthority(t)
	for _, name := range []string{"management.test", "192.0.2.7", "localhost", "127.0.0.1", "::1"} {
		if err := verify(ca, ca.Pool(), name, time.Now()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := verify(ca, ca.Pool(), "evil.example", time.Now()); err == nil {
		t.Error("a name that is not in the certificate is trusted")
	}
	if err := verify(ca, other.Pool(), "localhost", time.Now()); err == nil {
		t.Error("the certificate is trusted under another authority")
	}
}

func TestClientThatTrustsThePEM(t *testing.T) {
	ca := newAuthority(t)
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.TLS = ca.ServerConfig()
	server.StartTLS()
	defer server.Close()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca.PEM()) {
		t.Fatalf("PEM holds no certificate:\n%s", ca.PEM())
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
}

func TestVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newAuthority(t)
		tests := []struct {
			name string
			at   time.Time
			ok   bool
		}{
			{"61 minutes before", time.Now().Add(-61 * time.Minute), false},
			{"59 minutes before", time.Now().Add(-59 * time.Minute), true},
			{"now", time.Now(), true},
			{"in nine years", time.Now().AddDate(9, 0, 0), true},
			{"in eleven years", time.Now().AddDate(11, 0, 0), false},
		}
		for _, test := range tests {
			if err := verify(ca, ca.Pool(), "localhost", test.at); (err == nil) != test.ok {
				t.Errorf("%s: error %v, want trusted %v", test.name, err, test.ok)
			}
		}
	})
}

func TestUnusableName(t *testing.T) {
	for _, name := range []string{"", "localhost:8443", "https://localhost", "two names"} {
		if _, err := authority.New(name); err == nil || !strings.Contains(err.Error(), `"`+name+`"`) {
			t.Errorf("New(%q): error %v, want one that names it", name, err)
		}
	}
}

// verify is what a TLS client decides about the server's certificate at that time.
func verify(ca *authority.Authority, roots *x509.CertPool, name string, at time.Time) error {
	_, err := ca.ServerConfig().Certificates[0].Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: at})
	return err
}

func newAuthority(t *testing.T, names ...string) *authority.Authority {
	t.Helper()
	ca, err := authority.New(names...)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}
