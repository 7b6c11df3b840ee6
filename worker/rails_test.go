package worker_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hsmsweep/internal/emulator/fault"
	"hsmsweep/worker"
)

func protecting(o *options) { o.ProtectLastApproved = true }

// closedPool has no public access, and connections in these states, c0, c1 and so on.
func closedPool(access string, states ...string) string {
	var connections []string
	for i, state := range states {
		connections = append(connections, fmt.Sprintf(`{"name":"c%d","status":%q,"script":{"deletes":[{"status":202,"operation":{"polls":1}}]}}`, i, state))
	}
	return fmt.Sprintf(`{"pools":[{"id":%q,"publicNetworkAccess":%q,"connections":[%s]}]}`, poolID, access, strings.Join(connections, ","))
}

// TestProtectLastApproved asks for the way into a pool to be deleted.
func TestProtectLastApproved(t *testing.T) {
	for _, tt := range []struct {
		name, seed, body string
		end              worker.Reason
		deletes          int
	}{
		{"the last one", closedPool("Disabled", "Approved", "Rejected"), request("c0"), "protected", 0},
		{"the last one, with force", closedPool("Disabled", "Approved"), strings.Replace(request("c0"), "}", `,"force":true}`, 1), "deleted", 1},
		{"the last one of a public pool", closedPool("Enabled", "Approved"), request("c0"), "deleted", 1},
		{"one of two", closedPool("Disabled", "Approved", "Approved"), request("c0"), "deleted", 1},
		{"one that is no way in", closedPool("Disabled", "Approved", "Disconnected"), request("c1"), "deleted", 1},
		{"a dry run", closedPool("Disabled", "Approved"), strings.Replace(request("c0"), "}", `,"dryRun":true}`, 1), "protected", 0},
		{"it does not exist", closedPool("Disabled", "Approved"), request("c7"), "absent", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inVirtualTime(t, tt.seed, func(t *testing.T, s *system) {
				r := s.work(protecting)
				s.submit("m1", tt.body)
				e := s.events(1)[0]
				r.stop()
				if e.Data.Outcome != tt.end || e.Data.Attempts != tt.deletes {
					t.Errorf("ended as %s after %d DELETEs, want %s after %d", e.Data.Outcome, e.Data.Attempts, tt.end, tt.deletes)
				}
				if said := e.Data.Expected != "" && e.Data.Found != ""; said != (tt.end == "protected") {
					t.Errorf("expected %q, found %q", e.Data.Expected, e.Data.Found)
				}
			})
		})
	}
}

// TestSweepKeepsTheLast sweeps every Approved connection of a closed pool at once, by two replicas: whatever is deleted, a way in is left.
func TestSweepKeepsTheLast(t *testing.T) {
	var states []string
	for range 30 {
		states = append(states, "Approved")
	}
	inVirtualTime(t, closedPool("Disabled", states...), func(t *testing.T, s *system) {
		r := s.work(protecting)
		s.submit("m1", `{"managedHsmId":"`+poolID+`","status":["Approved"]}`)
		ends := map[worker.Reason]int{}
		for _, e := range s.events(31) {
			ends[e.Data.Outcome]++
		}
		r.stop()
		if diff := cmp.Diff(map[worker.Reason]int{"expanded": 1, "deleted": 29, "protected": 1}, ends); diff != "" {
			t.Errorf("ends (-want +got):\n%s", diff)
		}
	})
}

// TestVerify reads back what is gone, ARM says.
func TestVerify(t *testing.T) {
	const keeps = `{"deletes":[{"status":202,"operation":{"end":"204","keeps":true}}]}`
	for _, tt := range []struct {
		name, script string
		readsGone    time.Duration // after which the connection cannot be read any more
		end          worker.Reason
		code         string
		verified     bool
		atLeast      time.Duration
	}{
		{name: "gone at once", script: `{}`, end: "deleted", verified: true},
		{name: "gone after an operation", script: `{"deletes":[{"status":202,"operation":{"polls":1}}]}`, end: "deleted", verified: true},
		{name: "it was not there", script: `{"deletes":[{"status":204}]}`, end: "absent", verified: true},
		{name: "there all the same", script: keeps, end: "failed", code: "ConnectionStillPresent", atLeast: 15 * time.Minute},
		{name: "there for five minutes", script: keeps, readsGone: 5 * time.Minute, end: "deleted", verified: true, atLeast: 5 * time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inVirtualTime(t, seed(tt.script), func(t *testing.T, s *system) {
				r := s.work(func(o *options) { o.Verify = true })
				began := time.Now()
				if tt.readsGone > 0 {
					s.inject(refusing("GET", http.StatusNotFound, tt.readsGone))
				}
				s.submit("m1", request("pec"))
				e := s.events(1)[0]
				took := time.Since(began)
				r.stop()
				if e.Data.Outcome != tt.end || errorCode(e) != tt.code || e.Data.Verified != tt.verified || took < tt.atLeast {
					t.Errorf("ended as %s %+v, verified %t, after %s; want %s %s, %t, after at least %s", e.Data.Outcome, e.Data.Error, e.Data.Verified, took, tt.end, tt.code, tt.verified, tt.atLeast)
				}
				if e.Data.Attempts != 1 {
					t.Errorf("%d DELETEs, want 1", e.Data.Attempts)
				}
			})
		})
	}
}

// refusing has ARM refuse reads of the connection itself from some time on.
func refusing(method string, status int, after time.Duration) fault.Injector {
	began := time.Now()
	return func(op fault.Operation) fault.Fault {
		if op.Service == fault.ARM && op.Name == method && !strings.Contains(op.Target, "kv-operation") && time.Since(began) >= after {
			return fault.Fault{Kind: fault.Refused, Status: status}
		}
		return fault.Fault{}
	}
}

// TestVerifyDenied has a worker that may delete, and not read.
func TestVerifyDenied(t *testing.T) {
	inVirtualTime(t, seed(""), func(t *testing.T, s *system) {
		s.inject(refusing("GET", http.StatusForbidden, 0))
		r := s.work(func(o *options) { o.Verify = true })
		s.submit("m1", request("pec"))
		e := s.events(1)[0]
		r.stop()
		if e.Data.Outcome != "deleted" || e.Data.Verified || e.Data.Attempts != 1 {
			t.Errorf("ended as %s, verified %t, after %d DELETEs; want deleted, which nobody could verify", e.Data.Outcome, e.Data.Verified, e.Data.Attempts)
		}
	})
}

// TestDryRunSaysWhat: a dry run goes through the same checks, and says which end the request would have come to.
func TestDryRunSaysWhat(t *testing.T) {
	for name, expected := range map[string]string{"pec": "deleted", "another": "absent"} {
		inVirtualTime(t, seed(""), func(t *testing.T, s *system) {
			r := s.work(func(o *options) { o.DryRun = true })
			s.submit("m1", request(name))
			e := s.events(1)[0]
			r.stop()
			if e.Data.Outcome != "dryRun" || e.Data.Expected != expected || s.ARM.Deletes(poolID+"/privateEndpointConnections/"+name) != 0 {
				t.Errorf("%s: %s, expected %q, found %q; want dryRun, expected %s", name, e.Data.Outcome, e.Data.Expected, e.Data.Found, expected)
			}
		})
	}
}
