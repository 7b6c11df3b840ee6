package deletion

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/google/go-cmp/cmp"
)

// An armServer is a TLS server that gives prepared answers in their order and writes down what it was asked.
type armServer struct {
	*httptest.Server
	t       *testing.T
	mu      sync.Mutex
	answers []goldenAnswer
	asked   []string // method, a space, the request's target to the byte
	tokens  []string // the Authorization headers
}

// serve starts an armServer. In its answers {arm} stands for its own address.
func serve(t *testing.T, answers ...goldenAnswer) *armServer {
	a := &armServer{t: t, answers: answers}
	a.Server = httptest.NewTLSServer(a)
	t.Cleanup(a.Close)
	return a
}

func (a *armServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.asked = append(a.asked, r.Method+" "+r.RequestURI)
	a.tokens = append(a.tokens, r.Header.Get("Authorization"))
	next := goldenAnswer{status: http.StatusTeapot}
	if len(a.answers) > 0 {
		next, a.answers = a.answers[0], a.answers[1:]
	}
	a.mu.Unlock()

	maps.Copy(w.Header(), next.answer().header)
	for name, values := range w.Header() {
		w.Header().Set(name, strings.ReplaceAll(values[0], "{arm}", a.URL))
	}
	w.WriteHeader(next.status)
	if _, err := w.Write([]byte(strings.ReplaceAll(next.body, "{arm}", a.URL))); err != nil && next.body != "" {
		a.t.Errorf("answering %s: %v", r.RequestURI, err)
	}
}

// expect compares what was asked, and that each question carried the token.
func (a *armServer) expect(want ...string) {
	a.t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if diff := cmp.Diff(want, a.asked); diff != "" {
		a.t.Errorf("ARM was asked (-want +got):\n%s", diff)
	}
	for _, token := range a.tokens {
		if token != "Bearer the-token" {
			a.t.Errorf("a request was authorized by %q", token)
		}
	}
}

// client makes a client of this ARM, which trusts the test's certificate, for further hosts too.
func (a *armServer) client(pollHosts ...string) (*Client, *credential) {
	a.t.Helper()
	return newClient(a.t, a.URL, a.Client().Transport, pollHosts...)
}

func newClient(t *testing.T, endpoint string, transport http.RoundTripper, pollHosts ...string) (*Client, *credential) {
	t.Helper()
	cred := &credential{}
	c, err := NewClient(Options{
		Credential: cred,
		Cloud: cloud.Configuration{Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
			cloud.ResourceManager: {Endpoint: endpoint, Audience: "https://audience.example"},
		}},
		APIVersion: "2021-10-01",
		PollHosts:  pollHosts,
		Transport:  transport,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c, cred
}

// A credential stands in for Microsoft Entra ID and counts how often it is asked.
type credential struct {
	asked atomic.Int64
	err   error
}

func (c *credential) GetToken(_ context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	c.asked.Add(1)
	if want := "https://audience.example/.default"; len(o.Scopes) != 1 || o.Scopes[0] != want {
		return azcore.AccessToken{}, fmt.Errorf("scopes are %q, want %s alone", o.Scopes, want)
	}
	return azcore.AccessToken{Token: "the-token", ExpiresOn: time.Now().Add(time.Hour)}, c.err
}

// The three questions, on the sample connection, for tests of what is common to all of them.
var questions = []struct {
	name string
	ask  func(context.Context, *Client, ConnectionID, string) (Outcome, error)
}{
	{"Start", func(ctx context.Context, c *Client, id ConnectionID, _ string) (Outcome, error) {
		return c.Start(ctx, id)
	}},
	{"Poll", func(ctx context.Context, c *Client, id ConnectionID, base string) (Outcome, error) {
		return c.Poll(ctx, id, Operation{URL: base + "/op", Protocol: Location})
	}},
	{"Poll without a URL", func(ctx context.Context, c *Client, id ConnectionID, _ string) (Outcome, error) {
		return c.Poll(ctx, id, Operation{Protocol: ReadBack})
	}},
	{"Read", func(ctx context.Context, c *Client, id ConnectionID, _ string) (Outcome, error) {
		return c.Read(ctx, id)
	}},
}

const (
	sentDelete = "DELETE " + connection + "?api-version=2021-10-01"
	sentRead   = "GET " + connection + "?api-version=2021-10-01"
)
