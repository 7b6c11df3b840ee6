package arm_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hsmsweep/internal/emulator/arm"
)

func TestScriptedAnswers(t *testing.T) {
	s := newSimulator(t, arm.Options{}, deletes(
		arm.Answer{Status: 429, RetryAfter: "2"},
		arm.Answer{Status: 503},
		arm.Answer{Status: 409},
		arm.Answer{Status: 409, Code: "ScopeLocked"},
		arm.Answer{Status: 403, Code: "RequestDisallowedByPolicy", Message: "policy p"},
		arm.Answer{Status: 403, Body: new("")},
		arm.Answer{Status: 500, Applied: true},
	))
	for _, want := range []answer{
		{Status: 429, Code: "TooManyRequests", RetryAfter: "2"},
		{Status: 503, Code: "ServiceUnavailable"},
		{Status: 409, Code: "ConflictError"},
		{Status: 409, Code: "ScopeLocked"},
		{Status: 403, Code: "RequestDisallowedByPolicy"},
		{Status: 403},
	} {
		expect(t, s, "DELETE", c1+version, want)
		if !s.Exists(c1) {
			t.Fatalf("%+v deleted the connection", want)
		}
	}
	expect(t, s, "DELETE", c1+version, answer{Status: 500, Code: "InternalServerError"})
	expect(t, s, "DELETE", c1+version, answer{Status: 204})
}

func TestScriptThenDefault(t *testing.T) {
	for _, last := range []arm.Answer{{Status: 200}, {Status: 204}} {
		s := newSimulator(t, arm.Options{}, deletes(arm.Answer{Status: 503}, last))
		do(t, s, "DELETE", c1+version)
		if got, _ := do(t, s, "DELETE", c1+version); got.Status != last.Status || s.Exists(c1) {
			t.Errorf("scripted %d: status %d, exists %v; want it gone", last.Status, got.Status, s.Exists(c1))
		}
	}
	s := newSimulator(t, arm.Options{}, deletes(arm.Answer{Status: 503}))
	do(t, s, "DELETE", c1+version)
	expect(t, s, "DELETE", c1+version, answer{Status: 200, State: "Disconnected"})
}

func TestLocationOperation(t *testing.T) {
	s := newSimulator(t, arm.Options{}, deletes(arm.Answer{Status: 202, RetryAfter: "9", Operation: &arm.Operation{
		Polls: 2, RetryAfter: "1", PollErrors: []arm.Answer{{Status: 429, RetryAfter: "2"}, {Status: 503}},
	}}))
	accepted := expect(t, s, "DELETE", c1+version, answer{Status: 202, RetryAfter: "9"})
	location := accepted.Header().Get("Location")
	prefix := base + c1 + version + "&kv-operation="
	token, ok := strings.CutPrefix(location, prefix)
	if !ok {
		t.Fatalf("Location %s, want %s...", location, prefix)
	}
	var fields map[string]string
	if text, err := base64.RawURLEncoding.DecodeString(token); err != nil {
		t.Errorf("kv-operation %s: %v", token, err)
	} else if err := json.Unmarshal(text, &fields); err != nil || fields["code"] == "" || fields["st"] == "" || fields["etag"] == "" {
		t.Errorf("kv-operation %s: error %v, want code, st and etag", text, err)
	}
	if accepted.Body.Len() != 0 {
		t.Errorf("the 202 has a body: %s", accepted.Body)
	}
	expect(t, s, "GET", c1+version, answer{Status: 200, State: "Deleting"})
	again := expect(t, s, "DELETE", c1+version, answer{Status: 202, RetryAfter: "9"})
	if got := again.Header().Get("Location"); got != location {
		t.Errorf("a second DELETE got Location %s, want the first's %s", got, location)
	}
	expect(t, s, "GET", location, answer{Status: 429, Code: "TooManyRequests", RetryAfter: "2"})
	expect(t, s, "GET", location, answer{Status: 503, Code: "ServiceUnavailable"})
	expect(t, s, "GET", location, answer{Status: 202, RetryAfter: "1"})
	if !s.Exists(c1) {
		t.Error("gone while the operation runs")
	}
	running := expect(t, s, "GET", location, answer{Status: 202, RetryAfter: "1"})
	if got := running.Header().Get("Location"); got != location {
		t.Errorf("the running answer has Location %s, want the same %s", got, location)
	}
	if s.Exists(c1) {
		t.Error("still there with its polls used up")
	}
	for range 2 {
		expect(t, s, "GET", location, answer{Status: 204})
	}
	expect(t, s, "DELETE", c1+version, answer{Status: 204})
	other := strings.Replace(location, "/c1?", "/c2?", 1)
	expect(t, s, "GET", other, answer{Status: 404, Code: "NotFound"})
}

func TestEnds(t *testing.T) {
	tests := []struct {
		operation arm.Operation
		want      answer
		exists    bool
	}{
		{arm.Operation{}, answer{Status: 204}, false},
		{arm.Operation{End: "204", Keeps: true}, answer{Status: 204}, true},
		{arm.Operation{End: "200"}, answer{Status: 200}, false},
		{arm.Operation{End: "200 connection"}, answer{Status: 200, State: "Disconnected"}, false},
		{arm.Operation{End: "200 connection", Keeps: true}, answer{Status: 200, State: "Disconnected"}, true},
		{arm.Operation{End: "404"}, answer{Status: 404, Code: "ResourceNotFound"}, false},
		{arm.Operation{End: "404", Keeps: true}, answer{Status: 404, Code: "ResourceNotFound"}, true},
		{arm.Operation{End: "409", Code: "Stuck"}, answer{Status: 409, Code: "Stuck"}, true},
		{arm.Operation{End: "500"}, answer{Status: 500, Code: "InternalServerError"}, true},
		{arm.Operation{End: "Failed"}, answer{Status: 200, Code: "OperationFailed", State: "Failed"}, true},
		{arm.Operation{Header: arm.HeaderAsyncOperation}, answer{Status: 200, State: "Succeeded"}, false},
		{arm.Operation{Header: arm.HeaderOperationLocation, End: "Canceled", Code: "Stopped"}, answer{Status: 200, Code: "Stopped", State: "Canceled"}, true},
		{arm.Operation{Header: arm.HeaderAsyncOperation, End: "404"}, answer{Status: 404, Code: "ResourceNotFound"}, false},
	}
	for _, test := range tests {
		test.operation.Polls = 1
		s := newSimulator(t, arm.Options{}, deletes(arm.Answer{Status: 202, Operation: &test.operation}))
		_, accepted := do(t, s, "DELETE", c1+version)
		header, running := "Location", answer{Status: 202}
		if test.operation.Header != "" {
			header, running = test.operation.Header, answer{Status: 200, State: "InProgress"}
		}
		target := accepted.Header().Get(header)
		expect(t, s, "GET", target, running)
		expect(t, s, "GET", target, test.want)
		if got := s.Exists(c1); got != test.exists {
			t.Errorf("%+v: exists %v, want %v", test.operation, got, test.exists)
		}
		if test.exists {
			expect(t, s, "GET", c1+version, answer{Status: 200, State: "Succeeded"})
			expect(t, s, "DELETE", c1+version, answer{Status: 200, State: "Disconnected"})
			expect(t, s, "GET", target, test.want)
		}
	}
}

func TestStatusURL(t *testing.T) {
	s := newSimulator(t, arm.Options{}, deletes(arm.Answer{Status: 202, Operation: &arm.Operation{Header: arm.HeaderAsyncOperation}}))
	_, accepted := do(t, s, "DELETE", c1+version)
	target := accepted.Header().Get("Azure-AsyncOperation")
	prefix := base + "/subscriptions/" + subscription + "/providers/Microsoft.KeyVault/locations/northeurope/managedHsmOperationResults/"
	if !strings.HasPrefix(target, prefix) || !strings.HasSuffix(target, version) || accepted.Header().Get("Location") != "" {
		t.Errorf("Azure-AsyncOperation %s beside Location %q, want %s...%s alone", target, accepted.Header().Get("Location"), prefix, version)
	}
	other := strings.Replace(target, subscription, "0b1f6471-1bf0-4dda-aec3-cb9272f09591", 1)
	expect(t, s, "GET", other, answer{Status: 404, Code: "NotFound"})
}

func TestOperationForATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSimulator(t, arm.Options{}, deletes(arm.Answer{Status: 202, Operation: &arm.Operation{Seconds: 4, RetryAfter: "date+5s"}}))
		due := time.Now().Add(5 * time.Second).UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")
		accepted := expect(t, s, "DELETE", c1+version, answer{Status: 202, RetryAfter: due})
		for range 5 {
			expect(t, s, "GET", accepted.Header().Get("Location"), answer{Status: 202, RetryAfter: due})
		}
		<-time.After(4*time.Second - 1)
		if !s.Exists(c1) {
			t.Error("gone before its time")
		}
		<-time.After(1)
		if s.Exists(c1) {
			t.Error("still there after its time")
		}
		expect(t, s, "GET", accepted.Header().Get("Location"), answer{Status: 204})
	})
}

func TestOperationWithoutURL(t *testing.T) {
	s := newSimulator(t, arm.Options{}, deletes(arm.Answer{Status: 202, Operation: &arm.Operation{Header: arm.HeaderNone, Polls: 2}}))
	_, accepted := do(t, s, "DELETE", c1+version)
	for _, name := range []string{"Location", "Azure-AsyncOperation", "Operation-Location", "none"} {
		if value := accepted.Header().Get(name); value != "" {
			t.Errorf("header %s: %s", name, value)
		}
	}
	for range 2 {
		expect(t, s, "GET", c1+version, answer{Status: 200, State: "Deleting"})
	}
	expect(t, s, "GET", c1+version, answer{Status: 404, Code: "ResourceNotFound"})
}

func TestURLOfSomebodyElse(t *testing.T) {
	const evil = "https://evil.example/steal"
	s := newSimulator(t, arm.Options{}, deletes(arm.Answer{Status: 202, Operation: &arm.Operation{URL: evil, Polls: 1}}))
	accepted := expect(t, s, "DELETE", c1+version, answer{Status: 202})
	if got := accepted.Header().Get("Location"); got != evil {
		t.Errorf("Location %s, want %s", got, evil)
	}
}

func TestConflictsInThePool(t *testing.T) {
	for _, conflicts := range []bool{true, false} {
		s := arm.New(arm.Options{})
		mustAdd(t, s, arm.Pool{ID: poolID, Conflicts: conflicts, Connections: []arm.Connection{
			{Name: "c1", Script: deletes(arm.Answer{Status: 202, Operation: &arm.Operation{Polls: 1}})}, {Name: "c2"},
		}})
		_, accepted := do(t, s, "DELETE", c1+version)
		if conflicts {
			expect(t, s, "DELETE", c2+version, answer{Status: 409, Code: "ConflictError"})
		}
		if got := accepted.Header().Get("Location"); !strings.HasPrefix(got, "http://example.com/") {
			t.Errorf("Location %s, want it on the request's own host", got)
		} else if conflicts {
			do(t, s, "GET", got)
		}
		expect(t, s, "DELETE", c2+version, answer{Status: 200, State: "Disconnected"})
	}
}
