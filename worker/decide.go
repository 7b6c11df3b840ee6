package worker

import (
	"fmt"
	"time"

	"hsmsweep/deletion"
)

// deniedFor is how long a missing right is taken for one that is still spreading.
const deniedFor = 15 * time.Minute

// suspectAfter is after how many deliveries that nobody settled a message is kept apart from others.
const suspectAfter = 2

// longestApart is the setback whose delay is the longest that such a message is kept apart for: half a minute.
const longestApart = 5

// verifyFor is how long a connection may be there after ARM said that it is gone.
const verifyFor = 15 * time.Minute

// longestPanics is after how many panics a request is taken for their cause.
const longestPanics = 3

// A Policy is what the operator set.
type Policy struct {
	AllowScopes         []deletion.Scope // none: everything
	SearchScopes        []deletion.Scope // where the connections of a private endpoint are looked for
	RequireStatuses     []deletion.LinkStatus
	ProtectLastApproved bool // of a pool without public access
	DryRun              bool
	Verify              bool          // read back what is gone
	DefaultRetryAfter   time.Duration // where ARM names no time
	MaxRetryAfter       time.Duration // cap on the time that ARM names
	GiveUpAfter         time.Duration
	MaxDeliveries       int
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
	case a.foreign():
		// For a worker that understands it, with all that it has. Not even the body is judged: it may be of a later release, too.
		a.Setbacks++
		return wait(a, later(a.Due, now.Add(p.Backoff(a.Setbacks))).Sub(now), WaitVersion, now), true
	case t.fault != nil:
		return end(a, End{Outcome: EndInvalid, At: now, Code: t.fault.code, Message: t.fault.message}), true
	case !inScope(t.request, p.AllowScopes):
		return end(a, End{Outcome: EndOutOfScope, At: now, Code: CodeOutOfScope, Expected: listed(p.AllowScopes), Found: target(t.request),
			Message: fmt.Sprintf("%s is in none of the scopes that --allow-scope names", target(t.request))}), true
	case searches(t) && t.request.Pool == nil && len(p.SearchScopes) == 0:
		return end(a, End{Outcome: EndInvalid, At: now, Code: CodeNoSearchScope,
			Message: "privateEndpointId: this worker looks for no endpoint's connections, since it runs without --search-scope; name the connection by connectionId, or have the operator name the subscriptions or pools to search"}), true
	case now.Before(a.Due) && now.Before(a.GiveUpAt):
		return park(a, a.Due, a.Why), true // it came early: a clock differs, or somebody moved it
	case len(t.events) > 0 || t.request.Selects() && a.Selection.done():
		return expand(t, now, p), true
	case !now.Before(a.GiveUpAt) && (a.Operation == nil || now.Before(a.Due)):
		return overdue(a, now), true
	}
	return Verdict{}, false
}

// decide says what an answer of ARM means for the request. It is pure.
func decide(t task, out deletion.Outcome, now time.Time, p Policy) Verdict {
	a := t.attempt
	a.Failures = 0 // whoever died of this message, this process did not
	a.Promised = false
	if out.Kind != deletion.Denied {
		a.DeniedSince = time.Time{}
	}
	if out.Code != "" {
		a.LastError = out.Code + ": " + out.Message
	}
	t.attempt = a
	switch out.Kind {
	case deletion.Deleted:
		return gone(a, reached(EndDeleted, out, now), now, p)
	case deletion.Absent:
		switch {
		case a.Verifying != nil:
			e := *a.Verifying
			e.Verified = true
			return end(a, e)
		case t.request.Selects():
			return selected(t, out, now) // the pool is not there, and has no connections
		case t.request.Reported:
			e := reached(EndAbsent, out, now)
			e.Verified, e.Code, e.Message = true, "", "" // not there is what was reported
			return end(a, e)
		case dryRun(t, p):
			return end(a, wouldHave(reached(EndDryRun, out, now), EndAbsent, "none"))
		}
		return gone(a, reached(EndAbsent, out, now), now, p)
	case deletion.Present:
		switch {
		case a.Verifying != nil:
			return stillThere(a, out, now, p)
		case t.request.Selects():
			return selected(t, out, now)
		}
		return end(a, examine(t, out, now, p)) // only what does not pass comes here, see step
	case deletion.Rejected:
		if a.Verifying != nil {
			return end(a, *a.Verifying) // gone, ARM said; that it cannot be read does not make that a failure
		}
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
		switch {
		case now.Sub(a.DeniedSince) < deniedFor:
		case a.Verifying != nil:
			return end(a, *a.Verifying)
		default:
			return end(a, reached(EndRejected, out, now))
		}
		return setback(a, out, WaitDenied, now, p)
	case deletion.Unavailable:
		return setback(a, out, WaitUnavailable, now, p)
	}
	return panicked(t, fmt.Sprintf("no rule for the outcome %q", out.Kind), now, p)
}

// gone ends a request whose connection is gone, ARM says; or has that looked at first, where the operator wants it.
func gone(a Attempt, e End, now time.Time, p Policy) Verdict {
	if !p.Verify || e.Verified {
		return end(a, e)
	}
	a.Verifying, a.Setbacks = &e, 0
	return setback(a, deletion.Outcome{}, WaitVerify, now, p)
}

// stillThere decides for a connection that ARM has said to be gone, and that is read all the same: again, for a while.
func stillThere(a Attempt, out deletion.Outcome, now time.Time, p Policy) Verdict {
	since := a.Verifying.At
	if now.Sub(since) < verifyFor {
		return setback(a, out, WaitVerify, now, p)
	}
	e := reached(EndFailed, out, now)
	e.Code, e.Message = CodeStillPresent, fmt.Sprintf("ARM said at %s that the connection is gone (%s), and it is there all the same, in state %s; see whether something creates it again",
		since.UTC().Format(time.RFC3339), a.Verifying.Outcome, orNone(out.Found.Status))
	return end(a, e)
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

// searches tells whether this step looks for what a selector means.
func searches(t task) bool {
	return t.request.Selects() && len(t.events) == 0 && !t.attempt.Selection.done()
}

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
		return overdue(a, now)
	}
	return park(a, now.Add(d), why)
}

// overdue ends what is not asked about any more.
func overdue(a Attempt, now time.Time) Verdict {
	if a.Verifying != nil {
		return end(a, *a.Verifying)
	}
	return end(a, timedOut(a, now))
}

func tooManyDeliveries(failures int, now time.Time) End {
	return End{Outcome: EndFailed, At: now, Code: CodeTooManyDeliveries, Message: fmt.Sprintf(
		"the message was delivered %d times and no worker survived or finished it; it was not tried again", failures)}
}

func timedOut(a Attempt, now time.Time) End {
	message := fmt.Sprintf("given up after %s", now.Sub(a.RequestedAt).Round(time.Second))
	if a.foreign() {
		message += fmt.Sprintf("; its state is of version %d, and no worker of that release took it further (this one knows %d): whether the connection is gone is not known", a.Version, attemptVersion)
	}
	if a.Operation != nil {
		message += "; ARM's operation was still running and may yet delete the connection"
	}
	if a.LastError != "" {
		message += "; the last refusal was " + a.LastError
	}
	return End{Outcome: EndTimedOut, At: now, Code: CodeTimedOut, Message: message}
}

func reached(outcome Reason, out deletion.Outcome, now time.Time) End {
	return End{Outcome: outcome, At: now, HTTPStatus: out.HTTPStatus, ARMRequestID: out.ARMRequestID, Verified: out.Verified, Code: out.Code, Message: out.Message}
}
