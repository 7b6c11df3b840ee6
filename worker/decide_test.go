package worker

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"hsmsweep/deletion"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var (
	noon      = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	sampleID  = mustConnection("/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/sample-group/providers/Microsoft.KeyVault/managedHSMs/sample-mhsm/privateEndpointConnections/sample-pec")
	sampleOp  = deletion.Operation{URL: "https://management.azure.com/operation", Protocol: deletion.Location}
	someone   = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/net/providers/Microsoft.Network/privateEndpoints/pe1"
	someoneID = mustEndpoint(someone)
)

func mustConnection(id string) deletion.ConnectionID {
	c, err := deletion.ParseConnectionID(id)
	if err != nil {
		panic(err)
	}
	return c
}

func mustEndpoint(id string) *deletion.EndpointID {
	e, err := deletion.ParseEndpointID(id)
	if err != nil {
		panic(err)
	}
	return &e
}

// testPolicy has no chance in it: the delay is the number of setbacks in seconds, and nothing is spread.
func testPolicy() Policy {
	return Policy{
		DefaultRetryAfter: 15 * time.Second, MaxRetryAfter: time.Hour, GiveUpAfter: 24 * time.Hour, MaxDeliveries: 8,
		Backoff: func(n int) time.Duration { return time.Duration(n) * time.Second },
		Spread:  func(d time.Duration) time.Duration { return d },
	}
}

func fresh() task {
	return task{
		deliveries: 1,
		request:    deletion.Request{Connection: sampleID},
		attempt:    newAttempt("ticket-7", 42, noon.Add(-time.Minute), noon, 24*time.Hour),
	}
}

func polling() task {
	t := fresh()
	t.attempt.Hop, t.attempt.Deletes, t.attempt.StartedAt, t.attempt.Operation = 3, 1, noon.Add(-time.Minute), &sampleOp
	return t
}

func with(t task, change func(*task)) task {
	change(&t)
	return t
}

// verifying is for a deletion that is read back, so long after ARM told of it.
func verifying(since time.Duration) func(*task) {
	return func(t *task) { t.attempt.Verifying = &End{Outcome: EndDeleted, At: noon.Add(-since)} }
}

// selecting makes a selector of a request, that has come so far.
func selecting(so *Selection) func(*task) {
	return func(t *task) {
		t.request.Connection, t.request.Endpoint, t.attempt.Selection = deletion.ConnectionID{}, someoneID, so
	}
}

// TestDecisions prints what becomes of every stage with every answer. The golden file is meant to be read.
func TestDecisions(t *testing.T) {
	stages := []struct {
		name string
		task task
	}{
		{"DELETE sent", with(fresh(), func(t *task) { t.attempt.Deletes, t.attempt.StartedAt = 1, noon })},
		{"DELETE sent, third setback", with(fresh(), func(t *task) { t.attempt.Deletes, t.attempt.Hop, t.attempt.Setbacks = 3, 2, 2 })},
		{"operation polled", polling()},
		{"operation polled, of the third DELETE", with(polling(), func(t *task) { t.attempt.Deletes = 3 })},
		{"operation polled, a second before giving up", with(polling(), func(t *task) { t.attempt.GiveUpAt = noon.Add(time.Second) })},
		{"operation polled, past giving up", with(polling(), func(t *task) { t.attempt.GiveUpAt = noon.Add(-time.Second) })},
		{"denied for 15 minutes", with(fresh(), func(t *task) { t.attempt.DeniedSince = noon.Add(-deniedFor) })},
		{"read: wants Disconnected", with(fresh(), func(t *task) { t.request.Statuses = []deletion.LinkStatus{"Disconnected"} })},
		{"read: wants another endpoint", with(fresh(), func(t *task) { t.request.Endpoint = someoneID })},
		{"read: had another endpoint before", with(fresh(), func(t *task) {
			t.attempt.Endpoint = someone
			t.request.Statuses = []deletion.LinkStatus{"Approved"}
		})},
		{"read: dry run", with(fresh(), func(t *task) { t.request.DryRun = true })},
		{"read: reported as deleted", with(fresh(), func(t *task) { t.request.Reported = true })},
		{"read: gone, ARM said a minute ago", with(polling(), verifying(time.Minute))},
		{"read: gone, ARM said a quarter of an hour ago", with(polling(), verifying(verifyFor))},
		{"verify: the right to read is missing", with(polling(), func(t *task) { verifying(time.Hour)(t); t.attempt.DeniedSince = noon.Add(-deniedFor) })},
		{"verify: past giving up", with(polling(), func(t *task) { verifying(time.Hour)(t); t.attempt.GiveUpAt = noon.Add(-time.Second) })},
		{"search", with(fresh(), selecting(nil))},
		{"search: behind what was found before", with(fresh(), selecting(&Selection{After: strings.ToLower(sampleID.String()), Made: 3}))},
	}
	var out bytes.Buffer
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	for _, s := range stages {
		fmt.Fprintf(w, "%s\n", s.name)
		for _, kind := range deletion.Kinds {
			if !slices.Contains(answersTo(s.name), kind) {
				continue
			}
			for _, retryAfter := range []time.Duration{0, 7 * time.Second, 100 * 24 * time.Hour} {
				answer := answerOf(kind, retryAfter)
				if answer.RetryAfter != retryAfter {
					continue
				}
				fmt.Fprintf(w, "  %s\t%s\t%s\n", answer.Kind, orDash(retryAfter), describe(s.task, decide(s.task, answer, noon, testPolicy())))
			}
		}
	}
	w.Flush()
	golden(t, "testdata/decisions.golden", out.Bytes())
}

// answersTo are the kinds of answers that a stage can get.
func answersTo(stage string) []deletion.Kind {
	switch word, _, _ := strings.Cut(stage, ":"); word {
	case "read":
		return []deletion.Kind{deletion.Absent, deletion.Present}
	case "search", "verify":
		return []deletion.Kind{deletion.Absent, deletion.Present, deletion.Throttled, deletion.Denied, deletion.Rejected, deletion.Unavailable, deletion.Untrusted}
	}
	return slices.DeleteFunc(slices.Clone(deletion.Kinds), func(k deletion.Kind) bool { return k == deletion.Present })
}

// answerOf is a typical answer of a kind. Only those that mean "later" carry a Retry-After.
func answerOf(kind deletion.Kind, retryAfter time.Duration) deletion.Outcome {
	out := deletion.Outcome{Kind: kind, HTTPStatus: 200}
	switch kind {
	case deletion.Accepted, deletion.Running:
		out.HTTPStatus, out.Operation, out.RetryAfter = 202, sampleOp, retryAfter
	case deletion.Throttled:
		out.HTTPStatus, out.Code, out.RetryAfter = 429, "SubscriptionRequestsThrottled", retryAfter
	case deletion.Conflict:
		out.HTTPStatus, out.Code, out.RetryAfter = 409, "ConflictError", retryAfter
	case deletion.Unavailable:
		out.HTTPStatus, out.Code, out.RetryAfter = 503, "ServiceUnavailable", retryAfter
	case deletion.Denied:
		out.HTTPStatus, out.Code = 403, "AuthorizationFailed"
	case deletion.Rejected:
		out.HTTPStatus, out.Code = 409, "ScopeLocked"
	case deletion.Failed:
		out.Code = "OperationFailed"
	case deletion.Untrusted:
		out.HTTPStatus, out.Code = 202, deletion.CodeUntrusted
	case deletion.Present:
		out.Found = deletion.Connection{Status: "Approved", Endpoint: strings.Replace(someone, "pe1", "pe2", 1)}
		out.Listed = []deletion.Connection{{ID: sampleID}}
	}
	return out
}

func TestAdmit(t *testing.T) {
	outside, err := deletion.ParseScope("/subscriptions/11111111-1111-1111-1111-111111111111")
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name   string
		task   task
		policy func(*Policy)
	}{
		{"a new request", fresh(), nil},
		{"a message nobody could finish", with(fresh(), func(t *task) { t.deliveries, t.failures = 9, 8 }), nil},
		{"its last delivery", with(fresh(), func(t *task) { t.attempt.Failures, t.deliveries, t.failures = 6, 2, 1 }), nil},
		{"one delivery too many", with(fresh(), func(t *task) { t.attempt.Failures, t.deliveries, t.failures = 6, 3, 2 }), nil},
		{"two processes died of it, or near it", with(fresh(), func(t *task) { t.deliveries, t.failures = 3, 2 }), nil},
		{"the same, of a poll that is not due", with(polling(), func(t *task) { t.failures, t.attempt.Due = 2, noon.Add(time.Hour) }), nil},
		{"a state of another version", with(polling(), func(t *task) { t.attempt.Version, t.fault = 2, &fault{CodeInvalidRequest, "of another release"} }), nil},
		{"the same, and ARM asked to wait longer", with(polling(), func(t *task) { t.attempt.Version, t.attempt.Due = 2, noon.Add(time.Hour) }), nil},
		{"the same, and too old", with(polling(), func(t *task) { t.attempt.Version, t.attempt.GiveUpAt = 2, noon }), nil},
		{"given back eight times on purpose", with(fresh(), func(t *task) { t.deliveries = 9 }), nil},
		{"a body that is no request", with(fresh(), func(t *task) { t.fault = &fault{CodeInvalidRequest, "statuss: no such field"} }), nil},
		{"outside the allowed scope", fresh(), func(p *Policy) { p.AllowScopes = []deletion.Scope{outside} }},
		{"not before tomorrow", with(fresh(), func(t *task) { t.attempt.Due, t.attempt.Why = noon.Add(20*time.Hour), WaitNotBefore }), nil},
		{"a poll that came a second early", with(polling(), func(t *task) { t.attempt.Due, t.attempt.Why = noon.Add(time.Second), WaitOperation }), nil},
		{"a poll that is due", with(polling(), func(t *task) { t.attempt.Due = noon }), nil},
		{"too old, nothing under way", with(fresh(), func(t *task) { t.attempt.GiveUpAt = noon }), nil},
		{"too old, a poll is due: once more", with(polling(), func(t *task) { t.attempt.GiveUpAt = noon }), nil},
		{"too old, ARM asked to wait longer", with(polling(), func(t *task) { t.attempt.GiveUpAt, t.attempt.Due = noon, noon.Add(time.Hour) }), nil},
		{"several events in one message", with(fresh(), func(t *task) {
			t.request, t.events = deletion.Request{}, []jsontext.Value{jsontext.Value(`{"connectionId":"` + sampleID.String() + `"}`), jsontext.Value(`{"id":"event-2","specversion":"1.0"}`)}
		}), nil},
		{"an endpoint, and nowhere to search", with(fresh(), selecting(nil)), nil},
		{"an endpoint to search for", with(fresh(), selecting(nil)), func(p *Policy) { p.SearchScopes = []deletion.Scope{outside} }},
		{"what a search found, all of it", with(fresh(), selecting(&Selection{Found: found{sampleID}, Made: 1, Last: true})), nil},
		{"what a search found: nothing", with(fresh(), selecting(&Selection{Last: true})), nil},
		{"what a search found behind what was found before: nothing", with(fresh(), selecting(&Selection{Made: 8, Last: true})), nil},
		{"what a search found, and there is more", with(fresh(), selecting(&Selection{Found: found{sampleID}, Made: 8})), nil},
		{"a pool outside the allowed scope", with(fresh(), func(t *task) {
			t.request = deletion.Request{Pool: &sampleID.Pool, Statuses: []deletion.LinkStatus{"Rejected"}}
		}),
			func(p *Policy) { p.AllowScopes = []deletion.Scope{outside} }},
		{"ended, only to be published", with(polling(), func(t *task) { t.attempt.End = &End{Outcome: EndDeleted, At: noon} }), nil},
		{"ended, to be published, and too old", with(polling(), func(t *task) {
			t.attempt.End = &End{Outcome: EndRejected, At: noon, Code: "ScopeLocked"}
			t.attempt.GiveUpAt = noon.Add(-time.Hour)
		}), nil},
	}
	var out bytes.Buffer
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	for _, c := range cases {
		p := testPolicy()
		if c.policy != nil {
			c.policy(&p)
		}
		verdict, done := admit(c.task, noon, p)
		said := "ask ARM"
		if done {
			said = describe(c.task, verdict)
		}
		fmt.Fprintf(w, "%s\t%s\n", c.name, said)
	}
	w.Flush()
	golden(t, "testdata/admissions.golden", out.Bytes())
}

// describe is a verdict in one line.
func describe(t task, v Verdict) string {
	made := ""
	for _, c := range v.Children {
		made += "request " + c.attempt.RequestID + " as " + c.attempt.messageID() + ", "
	}
	return made + outcomeOf(t, v)
}

func outcomeOf(t task, v Verdict) string {
	switch {
	case v.End != nil:
		how := "complete"
		if v.End.failed() {
			how = "dead-letter"
		}
		line := fmt.Sprintf("%s, %s %s", how, strings.TrimPrefix(strings.TrimPrefix(eventTypes[v.End.Outcome], "Hsmsweep."), "ConnectionDelete"), v.End.Outcome)
		if v.End.Verified {
			line += ", verified"
		}
		if v.End.Code != "" {
			line += " (" + v.End.Code + ")"
		}
		if v.End.Expected != "" || v.End.Found != "" {
			line += fmt.Sprintf(", expected %s, found %s", v.End.Expected, v.End.Found)
		}
		return strings.ReplaceAll(line, "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/net/providers/Microsoft.Network/privateEndpoints/", "…/")
	case !v.Until.IsZero():
		next := "then DELETE"
		switch t.attempt = v.Next; {
		case v.Next.Verifying != nil:
			next = "then read"
		case v.Next.Operation != nil:
			next = "then poll"
		case searches(t):
			next = "then search"
		case t.request.Selects():
			next = fmt.Sprintf("then make %d requests", len(v.Next.Selection.Found))
		}
		line := fmt.Sprintf("park %s for %s, %s", v.Reason, v.Until.Sub(noon), next)
		if v.Next.Due.After(v.Until) {
			line += " (no sooner than in " + v.Next.Due.Sub(noon).String() + ": it will be too old)"
		}
		return line
	}
	return "give back"
}

func orDash(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	return d.String()
}

func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; run go test ./worker -update once", err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs (-want +got); if this is meant, run go test ./worker -update\n%s", file, diff)
	}
}
