package worker

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"hsmsweep/deletion"
)

// passes tells whether a connection, as it was read, may be deleted now.
func passes(t task, out deletion.Outcome, p Policy) bool {
	return out.Kind == deletion.Present && examine(t, out, time.Time{}, p).Outcome == ""
}

// examine holds a connection, as it was read, against the request's and the operator's guards. The zero End lets it pass.
func examine(t task, out deletion.Outcome, now time.Time, p Policy) End {
	found := out.Found
	skip := func(outcome Reason, expected, found string) End {
		e := reached(outcome, out, now)
		e.Expected, e.Found = expected, orNone(found)
		return e
	}
	if t.request.Reported {
		return skip(EndStatusMismatch, "deleted, as reported", found.Status)
	}
	for _, allowed := range [][]deletion.LinkStatus{t.request.Statuses, p.RequireStatuses} {
		if len(allowed) > 0 && !among(allowed, found.Status) {
			return skip(EndStatusMismatch, listed(allowed), found.Status)
		}
	}
	for _, endpoint := range wantedEndpoints(t) {
		if !deletion.SameID(endpoint, found.Endpoint) {
			return skip(EndEndpointMismatch, endpoint, found.Endpoint)
		}
	}
	if out.Pool != nil && out.Pool.Lifeline(t.request.Connection) {
		return skip(EndProtected, "public network access, or another Approved connection that stays", "neither: this is the last way into the pool; force deletes it all the same")
	}
	if dryRun(t, p) {
		return wouldHave(reached(EndDryRun, out, now), EndDeleted, found.Status)
	}
	return End{}
}

// protectable tells whether the pool has to be asked before a connection, as it was read, is deleted: it may be the last way in.
func protectable(t task, out deletion.Outcome, p Policy) bool {
	return p.ProtectLastApproved && !t.request.Force && strings.EqualFold(out.Found.Status, "Approved") && !t.request.Reported
}

func among(allowed []deletion.LinkStatus, status string) bool {
	return slices.ContainsFunc(allowed, func(s deletion.LinkStatus) bool { return strings.EqualFold(string(s), status) })
}

// wantedEndpoints are the private endpoints that the connection must belong to: the one the request names, and the one it
// had when it was first read, for a namesake created since then is another connection.
func wantedEndpoints(t task) []string {
	var wanted []string
	if t.request.Endpoint != nil {
		wanted = append(wanted, t.request.Endpoint.String())
	}
	if t.attempt.Endpoint != "" {
		wanted = append(wanted, t.attempt.Endpoint)
	}
	return wanted
}

// mustRead tells whether the connection is read before its DELETE.
func mustRead(t task, p Policy) bool {
	return dryRun(t, p) || len(t.request.Statuses) > 0 || len(p.RequireStatuses) > 0 || t.request.Endpoint != nil ||
		t.request.Reported || p.ProtectLastApproved && !t.request.Force
}

func dryRun(t task, p Policy) bool { return p.DryRun || t.request.DryRun }

// wouldHave says what a dry run saw, and which end it would have come to. A refusal's code is not the dry run's.
func wouldHave(e End, outcome Reason, found string) End {
	e.Expected, e.Found, e.Code, e.Message = string(outcome), orNone(found), "", ""
	return e
}

// inScope tells whether the operator allows a request. One that names no pool becomes requests that do.
func inScope(r deletion.Request, scopes []deletion.Scope) bool {
	pool, ok := poolOf(r)
	return !ok || len(scopes) == 0 || slices.ContainsFunc(scopes, func(s deletion.Scope) bool { return s.Contains(pool) })
}

// target is what a request is for, as its author named it: the ARM id of a connection, a pool or a private endpoint.
func target(r deletion.Request) string {
	switch {
	case !r.Selects():
		return r.Connection.String()
	case r.Pool != nil:
		return r.Pool.String()
	case r.Endpoint != nil:
		return r.Endpoint.String()
	}
	return ""
}

// listed is what is allowed, in one line that fits into an event.
func listed[T any](allowed []T) string {
	words := make([]string, len(allowed))
	for i, a := range allowed {
		words[i] = fmt.Sprint(a)
	}
	return cut(strings.Join(words, ", "), longestMessage)
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
