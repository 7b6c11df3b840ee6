// Package arm simulates the part of Azure Resource Manager that the deletion of Managed HSM private endpoint
// connections needs: pools and connections to read, list and delete, and the long-running operations that a delete
// may start. Without a script a delete is answered at once; a [Script] makes one connection throttle, conflict, hang,
// or work for a number of polls, so that every answer a real service can give is at hand in a test or a demonstration.
// Bodies, headers and error codes follow the public specification of Microsoft.KeyVault and recorded traffic.
//
// A [Simulator] is an http.Handler without goroutines of its own. All its state lives in memory behind one mutex that
// is held for the decision on a request and never while an answer is written, so it runs in virtual time.
package arm

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// apiVersions are the versions of Microsoft.KeyVault that have the delete operation.
var apiVersions = []string{
	"2021-04-01-preview", "2021-10-01", "2022-07-01", "2022-11-01", "2023-02-01", "2023-07-01", "2024-11-01",
	"2025-05-01", "2026-02-01", "2026-03-01-preview", "2026-04-01-preview",
}

// permissionVersions are those of Microsoft.Authorization that list what a caller may do.
var permissionVersions = []string{"2015-07-01", "2018-01-01-preview", "2022-04-01"}

// Options are the choices for a Simulator; the zero value serves.
type Options struct {
	// Authorize checks a request's bearer token; nil accepts any token that is not empty.
	Authorize func(token string) error
	// BaseURL is the scheme and authority (without a slash at the end) of the links in answers; nil takes the
	// request's own.
	BaseURL func(r *http.Request) string
	// PageSize bounds the items of a list page; zero means 100.
	PageSize int
	// AutoCreate treats every connection that was never added as existing when it is first asked for.
	AutoCreate bool
	// Deletes and Reads throttle each subscription; the zero Rate does not. ARM's own figures are {200, 10} and
	// {250, 25}.
	Deletes, Reads Rate
}

// Simulator is the simulated Resource Manager; it is safe for concurrent use.
type Simulator struct {
	options Options

	mu         sync.Mutex
	pools      map[string]*pool      // by lower-case id
	scopes     map[string]bool       // lower-case ids of the subscriptions and groups that exist
	operations map[string]*operation // by the id in their URL; kept for ever
	throttles  map[string]*throttle  // by class and lower-case subscription
	record     record
	guids      uint64
}

// New returns a simulator without pools; Seed, AddPool and AddConnection fill it.
func New(options Options) *Simulator {
	return &Simulator{
		options:    options,
		pools:      map[string]*pool{},
		scopes:     map[string]bool{},
		operations: map[string]*operation{},
		throttles:  map[string]*throttle{},
		record:     newRecord(),
	}
}

// ServeHTTP answers one request.
func (s *Simulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.exchange(r).send(w, r)
}

// Refuse answers with an error of this status, and does and decides nothing; the exchange is recorded like any other.
func (s *Simulator) Refuse(w http.ResponseWriter, r *http.Request, status int) {
	q := request{Request: r, target: parseRoute(r.URL.EscapedPath()), query: r.URL.Query(), base: s.baseURL(r), now: time.Now()}
	s.mu.Lock()
	answer := refuse(status, codeOf(status), "The service was told to refuse this request.")
	s.stamp(answer, q)
	s.record.add(q, answer)
	s.mu.Unlock()
	answer.send(w, r)
}

// request is what the decision on an answer may depend on.
type request struct {
	*http.Request
	target route
	query  url.Values
	base   string // scheme and authority for links
	now    time.Time
}

// exchange executes one request: whatever effect it has is done, and recorded, when exchange returns; the answer is
// sent afterwards. Every request passes here and nowhere else.
func (s *Simulator) exchange(r *http.Request) *reply {
	q := request{Request: r, target: parseRoute(r.URL.EscapedPath()), query: r.URL.Query(), base: s.baseURL(r)}
	denied := s.authorize(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	q.now = time.Now()
	answer := denied
	if answer == nil {
		answer = s.answer(q)
	}
	s.stamp(answer, q)
	s.record.add(q, answer)
	return answer
}

func (s *Simulator) baseURL(r *http.Request) string {
	switch {
	case s.options.BaseURL != nil:
		return s.options.BaseURL(r)
	case r.TLS != nil:
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

func (s *Simulator) authorize(r *http.Request) *reply {
	authorization := r.Header.Get("Authorization")
	if authorization == "" {
		return refuse(http.StatusUnauthorized, "AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing.")
	}
	scheme, token, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return refuse(http.StatusUnauthorized, "InvalidAuthenticationToken", "The 'Authorization' header carries no bearer token.")
	}
	if s.options.Authorize == nil {
		return nil
	}
	if err := s.options.Authorize(token); err != nil {
		return refuse(http.StatusUnauthorized, "InvalidAuthenticationToken", "The access token is invalid: %v", err)
	}
	return nil
}

// answer decides in ARM's order: its own checks first, then the resource provider. That order is unverified.
func (s *Simulator) answer(q request) *reply {
	if refused := s.check(q); refused != nil {
		return refused
	}
	if refused := s.deny(q); refused != nil {
		return refused
	}
	if q.Method == http.MethodDelete {
		return s.deleteConnection(q)
	}
	switch q.target.kind {
	case subscriptionPools, groupPools:
		return s.listPools(q)
	case poolItself:
		return s.getPool(q)
	case poolConnections:
		return s.listConnections(q)
	case poolPermissions:
		return s.listPermissions(q)
	case operationResult:
		return s.pollStatus(q)
	}
	if id := q.query.Get(operationQuery); id != "" {
		return s.pollLocation(q, id)
	}
	return s.getConnection(q)
}

// check makes the checks of ARM itself. The status of InvalidResourceType and MethodNotAllowed is unverified.
func (s *Simulator) check(q request) *reply {
	version, versions := q.query.Get("api-version"), apiVersions
	if q.target.kind == poolPermissions {
		versions = permissionVersions
	}
	switch {
	case q.target.kind == unknown:
		return refuse(http.StatusNotFound, "InvalidResourceType", "The path '%s' names nothing that is simulated here.", q.URL.Path)
	case !subscriptionID.MatchString(q.target.subscription):
		return refuse(http.StatusBadRequest, "InvalidSubscriptionId", "The provided subscription identifier '%s' is malformed or invalid.", q.target.subscription)
	case version == "":
		return refuse(http.StatusBadRequest, "MissingApiVersionParameter", "The api-version query parameter (?api-version=) is required for all requests.")
	case !slices.Contains(versions, strings.ToLower(version)):
		return refuse(http.StatusBadRequest, "InvalidApiVersionParameter", "The api-version '%s' is invalid. The supported versions are '%s'.", version, strings.Join(versions, ","))
	case q.Method != http.MethodGet && (q.Method != http.MethodDelete || q.target.kind != connectionItself):
		return refuse(http.StatusMethodNotAllowed, "MethodNotAllowed", "The method %s is not supported for this resource.", q.Method)
	case q.Method == http.MethodDelete && q.ContentLength != 0:
		return refuse(http.StatusBadRequest, "InvalidRequestContent", "A DELETE must not carry a body.")
	}
	return s.limit(q)
}

// guid counts instead of drawing lots, so that two runs of one test print the same.
func (s *Simulator) guid() string {
	s.guids++
	const zero = "00000000-0000-4000-8000-000000000000"
	digits := strconv.FormatUint(s.guids, 16)
	return zero[:len(zero)-len(digits)] + digits
}
