package identity_test

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"hsmsweep/internal/emulator/identity"
)

const (
	arm = "https://management.core.windows.net/"
	bus = "https://servicebus.azure.net/"
)

// The credential caches tokens per audience and identity for the whole process, so each has a client id of its own.
func credential(t *testing.T, endpoint *identity.Endpoint) *azidentity.ManagedIdentityCredential {
	t.Helper()
	server := httptest.NewServer(endpoint)
	t.Cleanup(server.Close)
	t.Setenv("IDENTITY_ENDPOINT", server.URL)
	t.Setenv("IDENTITY_HEADER", endpoint.Header())
	cred, err := azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{
		ID: azidentity.ClientID(rand.Text()),
		ClientOptions: azcore.ClientOptions{
			Transport: server.Client(),
			Retry:     policy.RetryOptions{MaxRetries: -1},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return cred
}

func TestManagedIdentityCredential(t *testing.T) {
	endpoint := identity.New()
	cred := credential(t, endpoint)
	before := time.Now()
	token, err := cred.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{arm + "/.default"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := endpoint.Verify(token.Token, arm); err != nil {
		t.Errorf("Verify of the token the SDK got: %v", err)
	}
	if lived := token.ExpiresOn.Sub(before); lived < 24*time.Hour-time.Minute || lived > 24*time.Hour+time.Minute {
		t.Errorf("the SDK takes the token to live %v, want 24h", lived)
	}
	if err := endpoint.Verify(token.Token, "https://MANAGEMENT.core.windows.net"); err != nil {
		t.Errorf("Verify for the same audience in another spelling: %v", err)
	}
	if err := endpoint.Verify(token.Token, bus); err == nil {
		t.Error("a token for ARM was accepted for Service Bus")
	}
	other, err := cred.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{bus + "/.default"}})
	if err != nil {
		t.Fatal(err)
	}
	if other.Token == token.Token {
		t.Error("two audiences got the same token")
	}
	if got := endpoint.Requests(); got != 2 {
		t.Errorf("Requests() = %d, want 2", got)
	}
}

func TestFailNext(t *testing.T) {
	endpoint := identity.New()
	cred := credential(t, endpoint)
	endpoint.FailNext(2, http.StatusServiceUnavailable)
	ask := func() error {
		_, err := cred.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{arm + "/.default"}})
		return err
	}
	for try := range 2 {
		failed, ok := errors.AsType[*azidentity.AuthenticationFailedError](ask())
		if !ok || failed.RawResponse.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("try %d: %v, want a failed authentication with status 503", try+1, failed)
		}
	}
	if err := ask(); err != nil {
		t.Errorf("after the two failures: %v", err)
	}
	if got := endpoint.Requests(); got != 3 {
		t.Errorf("Requests() = %d, want 3, failures included", got)
	}
}

func TestAnswers(t *testing.T) {
	endpoint := identity.New()
	const good = "/?api-version=2019-08-01&resource=" + arm
	tests := []struct {
		name, method, target, header string
		status                       int
	}{
		{"good", http.MethodGet, good, endpoint.Header(), 200},
		{"no header", http.MethodGet, good, "", 401},
		{"wrong header", http.MethodGet, good, "guess", 401},
		{"no resource", http.MethodGet, "/?api-version=2019-08-01", endpoint.Header(), 400},
		{"no version", http.MethodGet, "/?resource=" + arm, endpoint.Header(), 400},
		{"old version", http.MethodGet, "/?api-version=2017-09-01&resource=" + arm, endpoint.Header(), 400},
		{"post", http.MethodPost, good, endpoint.Header(), 405},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			status, body := ask(t, endpoint, test.method, test.target, test.header)
			if status != test.status {
				t.Fatalf("status %d, want %d; body %v", status, test.status, body)
			}
			want := []string{"statusCode", "message"}
			if status == 200 {
				want = []string{"access_token", "expires_on", "resource", "token_type", "client_id"}
			}
			for _, field := range want {
				if body[field] == nil {
					t.Errorf("body %v has no %s", body, field)
				}
			}
		})
	}
	if got := endpoint.Requests(); got != len(tests) {
		t.Errorf("Requests() = %d, want %d, refused ones included", got, len(tests))
	}
}

func TestClientIDIsTold(t *testing.T) {
	endpoint := identity.New()
	_, body := ask(t, endpoint, http.MethodGet, "/?api-version=2019-08-01&client_id=mine&resource="+arm, endpoint.Header())
	if body["client_id"] != "mine" {
		t.Errorf("client_id %v, want mine", body["client_id"])
	}
}

func TestTokensExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		endpoint := identity.New()
		first := issue(t, endpoint)
		<-time.After(24*time.Hour - time.Second)
		if err := endpoint.Verify(first, arm); err != nil {
			t.Errorf("a second before its end: %v", err)
		}
		<-time.After(time.Second)
		if err := endpoint.Verify(first, arm); err == nil || !strings.Contains(err.Error(), "expired") {
			t.Errorf("at its end: error %v, want one that says expired", err)
		}
		second := issue(t, endpoint)
		if err := endpoint.Verify(first, arm); err == nil {
			t.Error("the expired token is good again after another was issued")
		}
		if err := endpoint.Verify(second, arm); err != nil {
			t.Errorf("the new token: %v", err)
		}
	})
}

func TestTokensAreBounded(t *testing.T) {
	endpoint := identity.New()
	first := issue(t, endpoint)
	for range 9_999 {
		issue(t, endpoint)
	}
	if err := endpoint.Verify(first, arm); err != nil {
		t.Errorf("with 10,000 tokens out: %v", err)
	}
	last := issue(t, endpoint)
	if err := endpoint.Verify(first, arm); err == nil {
		t.Error("the oldest of 10,001 tokens is still remembered")
	}
	if err := endpoint.Verify(last, arm); err != nil {
		t.Errorf("the newest token: %v", err)
	}
}

func TestVerifyUnknown(t *testing.T) {
	endpoint := identity.New()
	for _, token := range []string{"", "guess", issue(t, identity.New())} {
		if err := endpoint.Verify(token, arm); err == nil {
			t.Errorf("Verify(%q) accepts a token it never issued", token)
		}
	}
}

func issue(t *testing.T, endpoint *identity.Endpoint) string {
	t.Helper()
	_, body := ask(t, endpoint, http.MethodGet, "/?api-version=2019-08-01&resource="+arm, endpoint.Header())
	token, ok := body["access_token"].(string)
	if !ok {
		t.Fatalf("no token in %v", body)
	}
	return token
}

func ask(t *testing.T, endpoint *identity.Endpoint, method, target, header string) (int, map[string]any) {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), method, target, nil)
	request.Header.Set("X-IDENTITY-HEADER", header)
	recorder := httptest.NewRecorder()
	endpoint.ServeHTTP(recorder, request)
	var body map[string]any
	if err := json.Unmarshal(recorder.Body.Bytes(), &body); err != nil {
		t.Fatalf("body %q: %v", recorder.Body, err)
	}
	return recorder.Code, body
}
