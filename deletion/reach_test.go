package deletion

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

type tokens func() (azcore.AccessToken, error)

func (f tokens) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return f()
}

// TestReach has ARM's host there, away, with a certificate that nobody knows, and behind a proxy. It is never sent a request.
func TestReach(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("%s %s was sent", r.Method, r.URL)
	}))
	defer server.Close()
	proxy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	token := func() (azcore.AccessToken, error) { return azcore.AccessToken{Token: "secret"}, nil }
	known := server.Client().Transport.(*http.Transport)
	for _, tt := range []struct {
		name      string
		token     tokens
		endpoint  string
		transport *http.Transport
		want      string // in the error; empty: none
	}{
		{"there", token, server.URL, known, ""},
		{"away", token, "https://127.0.0.1:1", known, "127.0.0.1:1 cannot be reached"},
		{"an unknown certificate", token, server.URL, &http.Transport{}, "certificate"},
		{"no token", func() (azcore.AccessToken, error) { return azcore.AccessToken{}, errors.New("no identity") }, server.URL, known, "no token for ARM: no identity"},
		{"behind a proxy", token, "https://arm.invalid", &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: proxy.Addr().String()})}, ""},
		{"a proxy that is away", token, "https://arm.invalid", &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: "127.0.0.1:1"})}, "the proxy"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := NewClient(Options{Credential: tt.token, Transport: tt.transport, APIVersion: "2021-10-01", Cloud: cloud.Configuration{
				Services: map[cloud.ServiceName]cloud.ServiceConfiguration{cloud.ResourceManager: {Endpoint: tt.endpoint, Audience: "https://management.core.windows.net/"}}}})
			if err != nil {
				t.Fatal(err)
			}
			err = c.Reach(t.Context())
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}
