// Package identity answers token requests as the managed identity endpoint of Azure Container Apps and App Service
// does, so that a program under test gets its tokens with the code it uses in Azure. The endpoint is an http.Handler;
// its URL goes into IDENTITY_ENDPOINT and its secret into IDENTITY_HEADER. The services of the emulator ask Verify
// whether a bearer token came from here, for them, and is still good.
package identity

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
)

const (
	apiVersion = "2019-08-01"
	// lifetime is what Azure's platform gives to managed identity tokens.
	lifetime = 24 * time.Hour
	// maxTokens bounds the memory of a long run; past it the oldest token stops working before its time.
	maxTokens = 10_000
	// systemAssigned is the client id told when a request names no user-assigned identity.
	systemAssigned = "5f1c6a3e-0000-4000-8000-000000000001"
)

// Endpoint is a managed identity endpoint; it is safe for concurrent use.
type Endpoint struct {
	header string

	mu       sync.Mutex
	tokens   map[string]grant
	order    []string // tokens, oldest first; all live equally long
	requests int
	failures int
	failWith int
}

type grant struct {
	audience string
	expires  time.Time
}

// New returns an endpoint with a random secret.
func New() *Endpoint {
	return &Endpoint{header: rand.Text(), tokens: map[string]grant{}}
}

// Header is the secret a request must carry in X-IDENTITY-HEADER, the value for IDENTITY_HEADER.
func (e *Endpoint) Header() string { return e.header }

// Requests counts the requests received, refused ones included.
func (e *Endpoint) Requests() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.requests
}

// FailNext makes the next n requests answer with this HTTP status.
func (e *Endpoint) FailNext(n, status int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.failures, e.failWith = n, status
}

// Verify tells whether the token was issued here for this audience and has not expired. Audiences compare without
// regard to case and to a slash at the end, with which SDKs and services are not consistent.
func (e *Endpoint) Verify(token, audience string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	granted, ok := e.tokens[token]
	switch {
	case !ok:
		return errors.New("identity: the token was not issued by this endpoint, or is long expired")
	case !time.Now().Before(granted.expires):
		return fmt.Errorf("identity: the token expired at %s; ask for a new one", granted.expires.UTC().Format(time.RFC3339))
	case !strings.EqualFold(strings.TrimSuffix(granted.audience, "/"), strings.TrimSuffix(audience, "/")):
		return fmt.Errorf("identity: the token is for audience %q, not %q", granted.audience, audience)
	}
	return nil
}

// ServeHTTP answers GET ?resource=<audience>&api-version=2019-08-01[&client_id=<id>].
func (e *Endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	status, body := e.answer(r)
	send(w, status, body)
}

func send(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	json.MarshalWrite(w, body)
}

// Refuse answers with an error of this status.
func (e *Endpoint) Refuse(w http.ResponseWriter, _ *http.Request, status int) {
	e.mu.Lock()
	e.requests++
	e.mu.Unlock()
	status, body := refuse(status, "The managed identity endpoint was told to fail.")
	send(w, status, body)
}

// tokenBody is the answer's documented shape: the expiry is seconds since 1970 in a string.
type tokenBody struct {
	AccessToken string `json:"access_token"`
	ExpiresOn   string `json:"expires_on"`
	Resource    string `json:"resource"`
	TokenType   string `json:"token_type"`
	ClientID    string `json:"client_id"`
}

// errorBody is the shape of App Service's errors; its wording for a wrong header is unverified.
type errorBody struct {
	StatusCode int    `json:"statusCode"`
	Message    string `json:"message"`
}

func (e *Endpoint) answer(r *http.Request) (int, any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.requests++
	if e.failures > 0 {
		e.failures--
		return refuse(e.failWith, "The managed identity endpoint was told to fail.")
	}
	query := r.URL.Query()
	resource := query.Get("resource")
	switch {
	case r.Method != http.MethodGet:
		return refuse(http.StatusMethodNotAllowed, "Use GET.")
	case subtle.ConstantTimeCompare([]byte(r.Header.Get("X-IDENTITY-HEADER")), []byte(e.header)) != 1:
		return refuse(http.StatusUnauthorized, "The X-IDENTITY-HEADER header is missing or wrong; send the value of IDENTITY_HEADER.")
	case query.Get("api-version") != apiVersion:
		return refuse(http.StatusBadRequest, "The api-version must be "+apiVersion+".")
	case resource == "":
		return refuse(http.StatusBadRequest, "The resource parameter is missing; name the audience of the token.")
	}
	clientID := query.Get("client_id")
	if clientID == "" {
		clientID = systemAssigned
	}
	token, expires := e.issue(resource)
	return http.StatusOK, tokenBody{
		AccessToken: token,
		ExpiresOn:   strconv.FormatInt(expires.Unix(), 10),
		Resource:    resource,
		TokenType:   "Bearer",
		ClientID:    clientID,
	}
}

func refuse(status int, message string) (int, any) {
	return status, errorBody{StatusCode: status, Message: message}
}

func (e *Endpoint) issue(audience string) (string, time.Time) {
	now := time.Now()
	for len(e.order) > 0 && (len(e.order) >= maxTokens || !now.Before(e.tokens[e.order[0]].expires)) {
		delete(e.tokens, e.order[0])
		e.order = e.order[1:]
	}
	token, expires := rand.Text()+rand.Text(), now.Add(lifetime)
	e.tokens[token] = grant{audience: audience, expires: expires}
	e.order = append(e.order, token)
	return token, expires
}
