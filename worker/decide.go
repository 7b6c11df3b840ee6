package worker

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"hsmsweep/deletion"
)

// deniedFor is how long a missing right is taken for one that is still spreading.
const deniedFor = 15 * time.Minute

// suspectAfter is after how many deliveries that nobody settled a message is kept apart from others.
const suspectAfter = 2

// longestApart is the setback whose delay is the longest that such a message is kept apart for: half a minute.
const longestApart = 5

// longestPanics is after how many panics a request is taken for their cause.
const longestPanics = 3

// A Policy is what the operator set.
type Policy struct {
	AllowScopes       []deletion.Scope // none: everything
	RequireStatuses   []deletion.LinkStatus
	DryRun            bool
	DefaultRetryAfter time.Duration // where ARM names no time
	MaxRetryAfter     time.Duration // cap on the time that ARM names
	GiveUpAfter       time.Duration
	MaxDeliveries     int
	// Backoff is the delay after so many steps without progress (1 is the first), jitter included.
	Backoff func(setbacks int) time.Duration
	// Spread adds a little to a wait, so that what was parked together does not wake together.
	Spread func(time.Duration) time.Duration
}

// admit decides what can be decided without asking ARM. It is pure.
func admit(t task, now time.Time, p Policy) (Verdict, bool) {
	a := t.attempt
	switch {
	case a.End != nil:
		return end(a, *a.End), true
	case a.Failures+t.failures >= p.MaxDeliveries:
		return end(a, tooManyDeliveries(a.Failures+t.failures, now)), true
	case t.failures >= suspectAfter:
		// Back into the queue, to be tried at a time of its own: what kills the process takes others that are in hand along, and
		// they must not run out of deliveries with it.
		a.Failures += t.failures
		return park(a, later(a.Due, now.Add(p.Backoff(min(a.Failures, longestApart)))), WaitRedelivered), true
	case t.fault != nil:
		return end(a, End{Outcome: EndInvalid, At: now, Code: t.fault.code, Message: t.fault.message}), true
	case !inScope(t.request.Connection.Pool, p.AllowScopes):
		return end(a, End{Outcome: EndOutOfScope, At: now, Code: CodeOutOfScope,
			Message: fmt.Sprintf("%s is in none of the scopes that --allow-scope names", t.request.Connection)}), true
	case now.Before(a.Due) && now.Before(a.GiveUpAt):
		return park(a, a.Due, a.Why), true // it came early: a clock differs, or somebody moved it
	case !now.Before(a.GiveUpAt) && (a.Operation == nil || now.Before(a.Due)):
		return end(a, timedOut(a, now)), true
	}
	return Verdict{}, false
}

// decide says what an answer of ARM means for the request. It is pure.
func decide(t task, out deletion.Outcome, now time.Time, p Policy) Verdict {
	a := t.attempt
	a.Failures = 0 // whoever died of this message, this process did not
	if out.Kind != deletion.Denied {
		a.DeniedSince = time.Time{}
	}
	if out.Code != "" {
		a.LastError = out.Code + ": " + out.Message
	}
	switch out.Kind {
	case deletion.Deleted:
		return end(a, reached(EndDeleted, out, now))
	case deletion.Absent:
		if dryRun(t, p) {
			return end(a, wouldHave(reached(EndDryRun, out, now), "absent"))
		}
		return end(a, reached(EndAbsent, out, now))
	case deletion.Present:
		return end(a, examine(t, out, now, p)) // only what does not pass comes here, see step
	case deletion.Rejected:
		return end(a, reached(EndRejected, out, now))
	case deletion.Failed, deletion.Untrusted:
		return end(a, reached(EndFailed, out, now))
	case deletion.Accepted, deletion.Running:
		a.Operation, a.Setbacks = &out.Operation, 0
		return wait(a, asked(out, p, p.Spread(p.DefaultRetryAfter)), WaitOperation, now)
	case deletion.Expired:
		// Accepting reset the setbacks; the DELETEs sent keep count of how often this went round.
		a.Operation, a.Setbacks = nil, max(a.Setbacks, a.Deletes-1)
		return setback(a, out, WaitRestart, now, p)
	case deletion.Throttled:
		return setback(a, out, WaitThrottle, now, p)
	case deletion.Conflict:
		return setback(a, out, WaitConflict, now, p)
	case deletion.Denied:
		if a.DeniedSince.IsZero() {
			a.DeniedSince = now
		}
		if now.Sub(a.DeniedSince) >= deniedFor {
			return end(a, reached(EndRejected, out, now))
		}
		return setback(a, out, WaitDenied, now, p)
	case deletion.Unavailable:
		return setback(a, out, WaitUnavailable, now, p)
	}
	return panicked(t, fmt.Sprintf("no rule for the outcome %q", out.Kind), now, p)
}

// panicked decides for a step that panicked: once more later, perhaps elsewhere, and in the end not any more.
func panicked(t task, what string, now time.Time, p Policy) Verdict {
	a := t.attempt
	a.Panics++
	if a.Panics >= longestPanics {
		return end(a, End{Outcome: EndFailed, At: now, Code: CodeInternalError,
			Message: fmt.Sprintf("hsmsweep panicked %d times on this request, at last with: %s", a.Panics, what)})
	}
	return setback(a, deletion.Outcome{}, WaitPanic, now, p)
}

// passes tells whether a connection, as it was read, may be deleted now.
func passes(t task, out deletion.Outcome, p Policy) bool {
	return out.Kind == deletion.Present && examine(t, out, time.Time{}, p).Outcome == ""
}

// examine holds a connection, as it was read, against the request's and the operator's guards. The zero End lets it pass.
func examine(t task, out deletion.Outcome, now time.Time, p Policy) End {
	found := out.Found
	for _, allowed := range [][]deletion.LinkStatus{t.request.Statuses, p.RequireStatuses} {
		if len(allowed) > 0 && !slices.ContainsFunc(allowed, func(s deletion.LinkStatus) bool { return strings.EqualFold(string(s), found.Status) }) {
			e := reached(EndStatusMismatch, out, now)
			e.Expected, e.Found = listed(allowed), orNone(found.Status)
			return e
		}
	}
	for _, endpoint := range wantedEndpoints(t) {
		if !deletion.SameID(endpoint, found.Endpoint) {
			e := reached(EndEndpointMismatch, out, now)
			e.Expected, e.Found = endpoint, orNone(found.Endpoint)
			return e
		}
	}
	if dryRun(t, p) {
		return wouldHave(reached(EndDryRun, out, now), found.Status)
	}
	return End{}
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
	return dryRun(t, p) || len(t.request.Statuses) > 0 || len(p.RequireStatuses) > 0 || t.request.Endpoint != nil
}

func dryRun(t task, p Policy) bool { return p.DryRun || t.request.DryRun }

// setback waits longer each time, unless ARM names a time.
func setback(a Attempt, out deletion.Outcome, why Reason, now time.Time, p Policy) Verdict {
	a.Setbacks++
	return wait(a, asked(out, p, p.Backoff(a.Setbacks)), why, now)
}

// asked is how long ARM asks to wait, a little spread and capped, or what is done where it asks for nothing.
func asked(out deletion.Outcome, p Policy, otherwise time.Duration) time.Duration {
	if out.RetryAfter <= 0 {
		return otherwise
	}
	return min(p.Spread(min(out.RetryAfter, p.MaxRetryAfter)), p.MaxRetryAfter)
}

func wait(a Attempt, d time.Duration, why Reason, now time.Time) Verdict {
	if !now.Before(a.GiveUpAt) {
		return end(a, timedOut(a, now))
	}
	return park(a, now.Add(d), why)
}

func tooManyDeliveries(failures int, now time.Time) End {
	return End{Outcome: EndFailed, At: now, Code: CodeTooManyDeliveries, Message: fmt.Sprintf(
		"the message was delivered %d times and no worker survived or finished it; it was not tried again", failures)}
}

func timedOut(a Attempt, now time.Time) End {
	message := fmt.Sprintf("given up after %s", now.Sub(a.RequestedAt).Round(time.Second))
	if a.Operation != nil {
		message += "; ARM's operation was still running and may yet delete the connection"
	}
	if a.LastError != "" {
		message += "; the last refusal was " + a.LastError
	}
	return End{Outcome: EndTimedOut, At: now, Code: CodeTimedOut, Message: message}
}

func reached(outcome Reason, out deletion.Outcome, now time.Time) End {
	return End{Outcome: outcome, At: now, HTTPStatus: out.HTTPStatus, ARMRequestID: out.ARMRequestID, Code: out.Code, Message: out.Message}
}

// wouldHave says what a dry run saw. A refusal's code is not the dry run's.
func wouldHave(e End, found string) End {
	e.Found, e.Code, e.Message = orNone(found), "", ""
	return e
}

func inScope(pool deletion.PoolID, scopes []deletion.Scope) bool {
	return len(scopes) == 0 || slices.ContainsFunc(scopes, func(s deletion.Scope) bool { return s.Contains(pool) })
}

func listed(statuses []deletion.LinkStatus) string {
	words := make([]string, len(statuses))
	for i, s := range statuses {
		words[i] = string(s)
	}
	return strings.Join(words, ", ")
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
