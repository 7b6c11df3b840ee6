package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"hsmsweep/internal/emulator/arm"
	"hsmsweep/internal/emulator/servicebus/broker"
	"hsmsweep/worker"
)

// A shown request, or dead letter, is one as the dashboard tells of it.
type shown struct {
	RequestID, SequenceNumber, Why, Reason, Outcome string
	Resubmits                                       int
}

// see waits until the dashboard shows a request in one of its lists as it should be.
func see(t *testing.T, base, list, requestID string, is func(shown) bool) shown {
	t.Helper()
	var found shown
	eventually(t, requestID+" is shown as "+list, func() bool {
		response, err := http.Get(base + "api/state")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		var state map[string]json.RawMessage
		var part struct{ Rows []shown }
		if err := json.NewDecoder(response.Body).Decode(&state); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(state[list], &part); err != nil {
			t.Fatalf("%s is %s: %v", list, state[list], err)
		}
		for _, found = range part.Rows {
			if found.RequestID == requestID && is(found) {
				return true
			}
		}
		return false
	})
	return found
}

// TestDashboardActions carries each of them out, and has those refused that come too late.
func TestDashboardActions(t *testing.T) {
	t.Parallel()
	a := busyDay(t)
	a.worker(t)
	_, base := a.dashboard(t, "--allow-actions")
	act := func(action string, s shown, more string, status int, says string) {
		t.Helper()
		body := fmt.Sprintf(`{"requestId":%q,"sequenceNumber":%q%s}`, s.RequestID, s.SequenceNumber, more)
		(exchange{method: "POST", path: "api/actions/" + action, body: body, header: map[string]string{"Content-Type": "application/json"}, status: status, says: says}).run(t, base)
	}
	waits := func(why string) func(shown) bool { return func(s shown) bool { return s.Why == why } }
	ends := func(outcome worker.Reason) func(shown) bool {
		return func(s shown) bool { return s.Outcome == string(outcome) }
	}

	a.wish(t, "later", prod, "pe-reports", "--not-before", time.Now().Add(time.Hour).Format(time.RFC3339))
	later := see(t, base, "waiting", "later", waits("notBefore"))
	act("expedite", later, "", 200, "due now")
	act("cancel", later, "", 409, "too late") // it has another number by now, or has ended

	a.wish(t, "begun", prod, "pe-signing-03")
	begun := see(t, base, "waiting", "begun", waits("operation"))
	act("expedite", begun, "", 502, "until the time that ARM asked for")
	act("cancel", begun, "", 409, "ARM has begun the operation")
	act("cancel", begun, `,"stopWatching":true`, 200, "cancelled")
	see(t, base, "ended", "begun", ends(worker.EndCancelled))

	a.wish(t, "locked", prod, "pe-locked")
	locked := see(t, base, "dead", "locked", func(s shown) bool { return s.Reason == "ScopeLocked" })
	act("resubmit", locked, "", 200, "as a new request")
	act("resubmit", locked, "", 409, "not a dead letter any more")
	see(t, base, "ended", "locked", ends(worker.EndDeleted)) // the script has one answer only

	a.wish(t, "policy", prod, "pe-policy")
	policy := see(t, base, "dead", "policy", func(shown) bool { return true })
	act("drop", policy, "", 200, "gone from the dead-letter queue")
	queue, err := a.Broker.Entity(defaultQueue)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "only what waits for its time is left", func() bool {
		c := queue.Counts()
		return c.Active == 0 && c.DeadLetter == 0 && c.Scheduled <= 1
	})
}

// TestDashboardUnpublished shows the event of a cancellation that the topic did not take: whoever sees it has to publish it.
func TestDashboardUnpublished(t *testing.T) {
	t.Parallel()
	a := busyDay(t)
	w := a.worker(t)
	a.wish(t, "later", prod, "pe-reports", "--not-before", "2999-01-01T00:00:00Z")
	_, base := a.dashboard(t, "--allow-actions")
	later := see(t, base, "waiting", "later", func(s shown) bool { return s.Why == "notBefore" })
	w.terminate(t)
	w.wantExit(t, 0, 10*time.Second)
	a.setStatus(t, defaultEvents, broker.Disabled)
	(exchange{method: "POST", path: "api/actions/cancel", body: fmt.Sprintf(`{"requestId":"later","sequenceNumber":%q}`, later.SequenceNumber),
		header: map[string]string{"Content-Type": "application/json"}, status: 502, says: `"event":{"specversion":"1.0"`}).run(t, base)
}

// TestDashboardBeforeServiceBus is started first, and says so until Service Bus is there.
func TestDashboardBeforeServiceBus(t *testing.T) {
	t.Parallel()
	a := newAzure(t, 0, arm.Script{})
	if err := a.listeners[0].Close(); err != nil {
		t.Fatal(err)
	}
	p, base := a.dashboard(t)
	(exchange{method: "GET", path: "", status: 200, says: "<title>hsmsweep"}).run(t, base)
	if text := p.err.text(); text != "" {
		t.Errorf("before anybody looks stderr has %q", text)
	}
	response, err := http.Get(base + "api/state")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var state struct{ Head struct{ Faults []string } }
	if err := json.NewDecoder(response.Body).Decode(&state); err != nil || !strings.Contains(strings.Join(state.Head.Faults, " "), "The queue: ") {
		t.Errorf("it says %q (%v), want what is wrong with the queue", state.Head.Faults, err)
	}
	p.terminate(t)
	p.wantExit(t, 0, 15*time.Second)
}
