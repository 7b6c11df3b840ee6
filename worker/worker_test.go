package worker_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/go-cmp/cmp"

	"hsmsweep/internal/emulator/servicebus/broker"
	"hsmsweep/worker"
)

// TestAnswers takes every row of ARM's answers the whole way: message, DELETE, event, dead letter.
func TestAnswers(t *testing.T) {
	tests := []struct {
		name     string
		script   string
		end      worker.Reason
		code     string
		deletes  int
		polls    int
		atLeast  time.Duration // that it must have taken
		deadLine time.Duration // that it may have taken
	}{
		{name: "200", script: `{}`, end: "deleted", deletes: 1},
		{name: "204", script: `{"deletes":[{"status":204}]}`, end: "absent", deletes: 1},
		{name: "the documented operation", script: `{"deletes":[{"status":202,"retryAfter":"60","operation":{"end":"200"}}]}`, end: "deleted", deletes: 1, polls: 1, atLeast: time.Minute, deadLine: 66 * time.Second},
		{name: "Location without Retry-After", script: `{"deletes":[{"status":202,"operation":{"polls":1}}]}`, end: "deleted", deletes: 1, polls: 2, atLeast: 30 * time.Second, deadLine: 35 * time.Second},
		{name: "Location that ends in the connection", script: `{"deletes":[{"status":202,"retryAfter":"5","operation":{"end":"200 connection"}}]}`, end: "deleted", deletes: 1, polls: 1},
		{name: "Retry-After as a date", script: `{"deletes":[{"status":202,"retryAfter":"date+2m","operation":{}}]}`, end: "deleted", deletes: 1, polls: 1, atLeast: 119 * time.Second, deadLine: 126 * time.Second},
		{name: "Retry-After of a year", script: `{"deletes":[{"status":202,"retryAfter":"31536000","operation":{}}]}`, end: "deleted", deletes: 1, polls: 1, atLeast: time.Hour, deadLine: time.Hour + 6*time.Second},
		{name: "Azure-AsyncOperation", script: `{"deletes":[{"status":202,"retryAfter":"3","operation":{"header":"Azure-AsyncOperation","polls":2,"retryAfter":"3"}}]}`, end: "deleted", deletes: 1, polls: 3, atLeast: 9 * time.Second},
		{name: "Operation-Location", script: `{"deletes":[{"status":202,"operation":{"header":"Operation-Location"}}]}`, end: "deleted", deletes: 1, polls: 1},
		{name: "202 without any header", script: `{"deletes":[{"status":202,"operation":{"header":"none"}}]}`, end: "deleted", deletes: 1, polls: 1},
		{name: "202 that did nothing", script: `{"deletes":[{"status":202,"operation":{"header":"none","keeps":true}}]}`, end: "deleted", deletes: 2, polls: 1},
		{name: "operation failed", script: `{"deletes":[{"status":202,"operation":{"header":"Azure-AsyncOperation","end":"Failed","code":"PrivateEndpointBusy","message":"In use."}}]}`, end: "failed", code: "PrivateEndpointBusy", deletes: 1, polls: 1},
		{name: "operation canceled", script: `{"deletes":[{"status":202,"operation":{"header":"Azure-AsyncOperation","end":"Canceled"}}]}`, end: "failed", code: "*", deletes: 1, polls: 1},
		{name: "operation forgotten, gone", script: `{"deletes":[{"status":202,"operation":{"end":"404"}}]}`, end: "deleted", deletes: 1, polls: 1},
		{name: "operation forgotten, still there", script: `{"deletes":[{"status":202,"operation":{"end":"404","keeps":true}}]}`, end: "deleted", deletes: 2, polls: 1},
		{name: "polls throttled and failing", script: `{"deletes":[{"status":202,"operation":{"pollErrors":[{"status":429,"retryAfter":"30"},{"status":503},{"cut":true}]}}]}`, end: "deleted", deletes: 1, polls: -1, atLeast: 45 * time.Second},
		{name: "429", script: `{"deletes":[{"status":429,"retryAfter":"120"}]}`, end: "deleted", deletes: 2, atLeast: 2 * time.Minute},
		{name: "503", script: `{"deletes":[{"status":503},{"status":500},{"status":408}]}`, end: "deleted", deletes: 4},
		{name: "no answer, and done", script: `{"deletes":[{"cut":true,"applied":true}]}`, end: "absent", deletes: 2},
		{name: "no answer for half a minute", script: `{"deletes":[{"hang":true}]}`, end: "deleted", deletes: 2, atLeast: 30 * time.Second},
		{name: "409 conflict", script: `{"deletes":[{"status":409,"code":"ConflictError"},{"status":409,"code":"AnotherOperationInProgress"}]}`, end: "deleted", deletes: 3},
		{name: "409 lock", script: `{"deletes":[{"status":409,"code":"ScopeLocked"}]}`, end: "rejected", code: "ScopeLocked", deletes: 1},
		{name: "403 policy", script: `{"deletes":[{"status":403,"code":"RequestDisallowedByPolicy"}]}`, end: "rejected", code: "RequestDisallowedByPolicy", deletes: 1},
		{name: "403 without a body", script: `{"deletes":[{"status":403,"body":""}]}`, end: "rejected", code: "Forbidden", deletes: 1},
		{name: "400", script: `{"deletes":[{"status":400,"code":"BadRequest"}]}`, end: "rejected", code: "BadRequest", deletes: 1},
		{name: "403, then the role has spread", script: `{"deletes":[{"status":403,"code":"AuthorizationFailed"},{"status":401}]}`, end: "deleted", deletes: 3},
		{name: "403 for good", script: `{"deletes":[` + strings.Repeat(`{"status":403,"code":"AuthorizationFailed"},`, 60) + `{"status":403,"code":"AuthorizationFailed"}]}`, end: "rejected", code: "AuthorizationFailed", deletes: -1, atLeast: 15 * time.Minute, deadLine: 26 * time.Minute},
		{name: "untrusted host", script: `{"deletes":[{"status":202,"operation":{"url":"https://stranger.example/op"}}]}`, end: "failed", code: "UntrustedOperationUrl", deletes: 1},
		{name: "not https", script: `{"deletes":[{"status":202,"operation":{"url":"http://management.azure.com/op"}}]}`, end: "failed", code: "UntrustedOperationUrl", deletes: 1},
		{name: "an operation that never ends", script: `{"deletes":[{"status":202,"operation":{"seconds":900000,"retryAfter":"3600"}}]}`, end: "timedOut", code: "TimedOut", deletes: 1, polls: -1, atLeast: 24 * time.Hour, deadLine: 24*time.Hour + time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inVirtualTime(t, seed(tt.script), func(t *testing.T, s *system) {
				r := s.work()
				began := time.Now()
				s.submit("m1", request("pec"))
				e := s.events(1)[0]
				took := time.Since(began)
				r.stop()

				if e.Data.Outcome != tt.end {
					t.Errorf("ended as %s %+v, want %s", e.Data.Outcome, e.Data.Error, tt.end)
				}
				switch code := errorCode(e); {
				case tt.code == "*" && code == "":
					t.Error("the event has no error code")
				case tt.code != "*" && code != tt.code:
					t.Errorf("error code %q, want %q", code, tt.code)
				}
				if n := s.ARM.Deletes(poolID + "/privateEndpointConnections/pec"); tt.deletes >= 0 && (n != tt.deletes || e.Data.Attempts != tt.deletes) {
					t.Errorf("ARM saw %d DELETEs and the event says %d, want %d", n, e.Data.Attempts, tt.deletes)
				}
				if tt.polls >= 0 && e.Data.Polls != tt.polls {
					t.Errorf("%d polls, want %d", e.Data.Polls, tt.polls)
				}
				if took < tt.atLeast || tt.deadLine > 0 && took > tt.deadLine {
					t.Errorf("it took %s, want between %s and %s", took, tt.atLeast, tt.deadLine)
				}
				if e.Data.Outcome == "deleted" && s.ARM.Exists(poolID+"/privateEndpointConnections/pec") {
					t.Error("said to be deleted, and still there")
				}
				dead := 0
				if e.Type == "Hsmsweep.ConnectionDeleteFailed" {
					dead = 1
					m := s.deadLetter()
					if reason := deref(m.DeadLetterReason); reason != errorCode(e) || deref(m.DeadLetterErrorDescription) != e.Data.Error.Message {
						t.Errorf("dead-lettered as %q: %q, the event says %+v", reason, deref(m.DeadLetterErrorDescription), e.Data.Error)
					}
					if string(m.Body) != request("pec") {
						t.Errorf("the dead letter's body changed: %s", m.Body)
					}
				}
				if c := s.counts(); c.Active != 0 || c.Scheduled != 0 || c.DeadLetter != dead {
					t.Errorf("left in the queue: %+v, want %d dead letters and nothing else", c, dead)
				}
				if v := s.Broker.Violations(); v != (broker.Violations{}) {
					t.Errorf("violations: %+v", v)
				}
			})
		})
	}
}

// TestWire looks at what goes over the network: the documented URL, the token, and polls not before their time.
func TestWire(t *testing.T) {
	inVirtualTime(t, seed(`{"deletes":[{"status":202,"retryAfter":"60","operation":{"polls":2,"retryAfter":"60"}}]}`), func(t *testing.T, s *system) {
		var authorizations []string
		r := s.work(func(o *options) {
			o.overHTTP = func(rt http.RoundTripper) http.RoundTripper {
				return roundTrip(func(req *http.Request) (*http.Response, error) {
					authorizations = append(authorizations, req.Header.Get("Authorization"))
					return rt.RoundTrip(req)
				})
			}
		})
		s.submit("m1", request("pec"))
		s.events(1)
		r.stop()
		exchanges := s.ARM.Exchanges()
		var methods []string
		for i, x := range exchanges {
			methods = append(methods, x.Method)
			if i > 0 && x.Time.Sub(exchanges[i-1].Time) < time.Minute {
				t.Errorf("exchange %d came %s after the one before; ARM asked for a minute", i, x.Time.Sub(exchanges[i-1].Time))
			}
		}
		if diff := cmp.Diff([]string{"DELETE", "GET", "GET", "GET"}, methods); diff != "" {
			t.Fatalf("exchanges (-want +got):\n%s", diff)
		}
		if want := poolID + "/privateEndpointConnections/pec?api-version=2021-10-01"; exchanges[0].URL != want {
			t.Errorf("DELETE %s, want %s", exchanges[0].URL, want)
		}
		for _, a := range authorizations {
			if !strings.HasPrefix(a, "Bearer ") || a != authorizations[0] {
				t.Errorf("authorization %.12q…, want one bearer token for all", a)
			}
		}
		if n := s.Identity.Requests(); n != 1 {
			t.Errorf("%d token requests, want 1", n)
		}
	})
}

// TestParkedForADay shows that nothing is held while a request waits: replicas come and go, or none is there.
func TestParkedForADay(t *testing.T) {
	inVirtualTime(t, seed(`{"deletes":[{"status":202,"retryAfter":"3600","operation":{"seconds":79000,"retryAfter":"3600"}}]}`), func(t *testing.T, s *system) {
		s.submit("m1", request("pec"))
		for range 20 { // a replica an hour, each gone before the request is due again
			r := s.work()
			<-time.After(5 * time.Minute)
			r.stop()
			if c := s.counts(); c.Scheduled != 1 || c.Active != 0 {
				t.Fatalf("between replicas the queue has %+v, want one scheduled message", c)
			}
			<-time.After(time.Hour)
		}
		last := s.work()
		e := s.events(1)[0]
		last.stop()
		if e.Data.Outcome != "deleted" || e.Data.Attempts != 1 || e.Data.DeliveryCount != 1 {
			t.Errorf("ended as %+v, want deleted by one DELETE, delivered once", e.Data)
		}
		if v := s.Broker.Violations(); v != (broker.Violations{}) {
			t.Errorf("violations: %+v", v)
		}
	})
}

func TestNotBefore(t *testing.T) {
	inVirtualTime(t, seed(""), func(t *testing.T, s *system) {
		r := s.work()
		tomorrow := time.Now().Add(24 * time.Hour)
		s.submit("m1", strings.TrimSuffix(request("pec"), "}")+fmt.Sprintf(`,"notBefore":%q}`, tomorrow.Format(time.RFC3339)))
		s.events(1)
		r.stop()
		if x := s.ARM.Exchanges(); len(x) != 1 || x[0].Time.Before(tomorrow) {
			t.Errorf("exchanges %+v, want one DELETE, not before %s", x, tomorrow)
		}
	})
}

// TestLockOfTheDead takes a message and never settles it, as a killed process does. It comes back when the lock has run out.
func TestLockOfTheDead(t *testing.T) {
	inVirtualTime(t, seed(""), func(t *testing.T, s *system) {
		s.submit("m1", request("pec"))
		s.take("connection-deletes")
		began := time.Now()
		r := s.work()
		e := s.events(1)[0]
		r.stop()
		if took := time.Since(began); took < 50*time.Second || took > 61*time.Second {
			t.Errorf("it took %s, want the rest of a lock of one minute", took)
		}
		if e.Data.Outcome != "deleted" || e.Data.DeliveryCount != 2 {
			t.Errorf("ended as %s on delivery %d, want deleted on delivery 2", e.Data.Outcome, e.Data.DeliveryCount)
		}
	})
}

// TestLockIsRenewed has steps that outlive the lock.
func TestLockIsRenewed(t *testing.T) {
	entities := broker.DefaultConfig()
	entities.Queues[0].LockDuration = 10 * time.Second
	inVirtualTimeWith(t, entities, seed(`{"deletes":[{"hang":true}]}`), func(t *testing.T, s *system) {
		r := s.work()
		s.submit("m1", request("pec"))
		e := s.events(1)[0]
		r.stop()
		if e.Data.Outcome != "deleted" || e.Data.Attempts != 2 {
			t.Errorf("ended as %s after %d DELETEs, want deleted after 2", e.Data.Outcome, e.Data.Attempts)
		}
		if v := s.Broker.Violations(); v != (broker.Violations{}) {
			t.Errorf("violations: %+v, want none: the lock is renewed while ARM is silent", v)
		}
	})
}

// TestDrain stops a replica in the middle of slow steps. What is in hand is finished, the rest is another's at once.
func TestDrain(t *testing.T) {
	const requests = 20
	inVirtualTime(t, manyConnections(requests), func(t *testing.T, s *system) {
		for i := range requests {
			s.submit(fmt.Sprint("m", i), request(fmt.Sprint("c", i)))
		}
		r := s.work(slowly(3 * time.Second))
		<-time.After(time.Second)
		if took := r.stop(); took > 5*time.Second {
			t.Errorf("the drain took %s, want what the steps in hand take", took)
		}
		if c := s.counts(); c.Active != requests-8 || c.Scheduled != 0 {
			t.Errorf("after the drain the queue has %+v, want %d active: 8 were in hand", c, requests-8)
		}
		began := time.Now()
		second := s.work()
		events := s.events(requests)
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("the second replica took %s, want no waiting for locks", took)
		}
		second.stop()
		for _, e := range events {
			if e.Data.Outcome != "deleted" || s.ARM.Deletes(e.Subject) != 1 {
				t.Errorf("%s: %s after %d DELETEs, want deleted by one", e.Subject, e.Data.Outcome, s.ARM.Deletes(e.Subject))
			}
		}
		if v := s.Broker.Violations(); v != (broker.Violations{}) {
			t.Errorf("violations: %+v", v)
		}
	})
}

// TestDrainRunsOut has a step that the grace period does not wait for: its message goes back.
func TestDrainRunsOut(t *testing.T) {
	inVirtualTime(t, seed(""), func(t *testing.T, s *system) {
		r := s.work(slowly(29 * time.Second))
		s.submit("m1", request("pec"))
		<-time.After(time.Second)
		if took := r.stop(); took < 25*time.Second || took > 27*time.Second {
			t.Errorf("the drain took %s, want the grace of 25 s", took)
		}
		if c := s.counts(); c.Active != 1 {
			t.Errorf("the queue has %+v, want the message back", c)
		}
		second := s.work()
		if e := s.events(1)[0]; e.Data.Outcome != "deleted" || e.Data.DeliveryCount != 2 {
			t.Errorf("ended as %s on delivery %d, want deleted on delivery 2", e.Data.Outcome, e.Data.DeliveryCount)
		}
		second.stop()
		if v := s.Broker.Violations(); v.LockExpired != 0 {
			t.Errorf("violations: %+v, want no lock left to run out", v)
		}
	})
}

// TestConnectionIsCut cuts Service Bus off while ARM answers: the message is settled by its lock token.
func TestConnectionIsCut(t *testing.T) {
	inVirtualTime(t, seed(""), func(t *testing.T, s *system) {
		r := s.work(slowly(4 * time.Second))
		s.submit("m1", request("pec"))
		<-time.After(2 * time.Second)
		s.ServiceBus.CloseConnections()
		e := s.events(1)[0]
		<-time.After(30 * time.Second)
		r.stop()
		if n := s.ARM.Deletes(e.Subject); e.Data.Outcome != "deleted" || n != 1 {
			t.Errorf("ended as %s after %d DELETEs, want deleted by one", e.Data.Outcome, n)
		}
		if c := s.counts(); c.Active != 0 || c.Scheduled != 0 || c.DeadLetter != 0 {
			t.Errorf("left in the queue: %+v", c)
		}
		if v := s.Broker.Violations(); v != (broker.Violations{}) {
			t.Errorf("violations: %+v, want none: the lock token settles", v)
		}
	})
}

// TestGate throttles one subscription: its other requests are not sent to ARM meanwhile, another subscription's are.
func TestGate(t *testing.T) {
	const other = "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/g/providers/Microsoft.KeyVault/managedHSMs/other"
	twoPools := fmt.Sprintf(`{"pools":[{"id":%q,"connections":[{"name":"first","script":{"deletes":[{"status":429,"retryAfter":"300"}]}},{"name":"second"}]},{"id":%q,"connections":[{"name":"third"}]}]}`, poolID, other)
	inVirtualTime(t, twoPools, func(t *testing.T, s *system) {
		r := s.work()
		began := time.Now()
		s.submit("m1", request("first"))
		<-time.After(time.Second)
		s.submit("m2", request("second"))
		s.submit("m3", fmt.Sprintf(`{"connectionId":"%s/privateEndpointConnections/third"}`, other))
		s.events(3)
		r.stop()
		for _, x := range s.ARM.Exchanges()[1:] {
			after := x.Time.Sub(began)
			if open := strings.HasSuffix(x.Connection, "third"); open != (after < 5*time.Minute) {
				t.Errorf("%s was asked about after %s", x.Connection, after)
			}
		}
	})
}

// TestTopicIsFull loses no end: it is written down and published when there is room, and ARM is not asked again.
func TestTopicIsFull(t *testing.T) {
	entities := broker.DefaultConfig()
	entities.Topics[0].MaxSizeBytes = 4096
	inVirtualTimeWith(t, entities, manyConnections(9), func(t *testing.T, s *system) {
		r := s.work()
		for i := range 9 {
			s.submit(fmt.Sprint("m", i), request(fmt.Sprint("c", i)))
		}
		<-time.After(time.Minute)
		if c := s.counts(); c.Scheduled == 0 {
			t.Fatalf("the queue has %+v, want ends that wait to be published", c)
		}
		var ids []string
		for _, e := range s.events(9) {
			ids = append(ids, e.ID)
			if n := s.ARM.Deletes(e.Subject); n != 1 || e.Data.Outcome != "deleted" || e.Data.Attempts != 1 {
				t.Errorf("%s: %s after %d DELETEs (the event says %d), want deleted by one", e.Subject, e.Data.Outcome, n, e.Data.Attempts)
			}
		}
		r.stop()
		slices.Sort(ids)
		if n := len(slices.Compact(ids)); n != 9 {
			t.Errorf("%d different events, want 9", n)
		}
	})
}

// TestPanic has a step that panics on its way to ARM, for this request always.
func TestPanic(t *testing.T) {
	inVirtualTime(t, manyConnections(2), func(t *testing.T, s *system) {
		r := s.work(func(o *options) {
			o.overHTTP = func(rt http.RoundTripper) http.RoundTripper {
				return roundTrip(func(req *http.Request) (*http.Response, error) {
					if strings.HasSuffix(req.URL.Path, "c0") {
						panic("a fault in this program")
					}
					return rt.RoundTrip(req)
				})
			}
		})
		s.submit("m0", request("c0"))
		s.submit("m1", request("c1"))
		ends := map[string]string{}
		for _, e := range s.events(2) {
			ends[e.Data.ConnectionID[len(e.Data.ConnectionID)-2:]] = string(e.Data.Outcome) + errorCode(e)
		}
		r.stop()
		if diff := cmp.Diff(map[string]string{"c0": "failedInternalError", "c1": "deleted"}, ends); diff != "" {
			t.Errorf("ends (-want +got):\n%s", diff)
		}
	})
}

// TestTooManyDeliveries has a message that every process died of. It ends with an event, and ARM is not asked.
func TestTooManyDeliveries(t *testing.T) {
	inVirtualTime(t, seed(""), func(t *testing.T, s *system) {
		s.submit("m1", request("pec"))
		for range 8 {
			s.take("connection-deletes")
			<-time.After(61 * time.Second)
		}
		r := s.work()
		e := s.events(1)[0]
		r.stop()
		if e.Data.Outcome != "failed" || errorCode(e) != "TooManyDeliveries" || len(s.ARM.Exchanges()) != 0 {
			t.Errorf("ended as %s %s after %d exchanges, want failed TooManyDeliveries after none", e.Data.Outcome, errorCode(e), len(s.ARM.Exchanges()))
		}
	})
}

// TestKeptApart has a message that two processes died of, or near it. It is parked for a moment, and its deliveries still count.
func TestKeptApart(t *testing.T) {
	inVirtualTime(t, seed(""), func(t *testing.T, s *system) {
		s.submit("m1", request("pec"))
		for range 2 {
			s.take("connection-deletes")
			<-time.After(61 * time.Second)
		}
		r := s.work()
		began := time.Now()
		e := s.events(1)[0]
		r.stop()
		if took := time.Since(began); e.Data.Outcome != "deleted" || e.Data.DeliveryCount != 3 || took > 5*time.Second {
			t.Errorf("ended as %s on delivery %d after %s, want deleted on delivery 3 within seconds", e.Data.Outcome, e.Data.DeliveryCount, took)
		}
	})
}

// TestSameRequestID has one ticket number on three messages, and one of them resubmitted from the dead-letter queue.
func TestSameRequestID(t *testing.T) {
	inVirtualTime(t, manyConnections(3), func(t *testing.T, s *system) {
		r := s.work()
		for i := range 3 {
			s.submit(fmt.Sprint("m", i), strings.TrimSuffix(request(fmt.Sprint("c", i)), "}")+`,"requestId":"CHG7"}`)
		}
		s.submit("m3", `{"requestId":"CHG7","ticket":{"id":"CHG7"},"statuss":[]}`)
		ids := map[string]bool{}
		for _, e := range s.events(4) {
			ids[e.ID] = true
			if e.Data.RequestID != "CHG7" {
				t.Errorf("request id %q, want CHG7", e.Data.RequestID)
			}
		}
		dead := s.deadLetter()
		again := dead.Message()
		again.MessageID = nil
		s.send(again)
		again2 := s.events(1)[0]
		ids[again2.ID] = true
		r.stop()
		if len(ids) != 5 {
			t.Errorf("event ids %v, want 5 different ones", ids)
		}
		if errorCode(again2) != "InvalidRequest" || again2.Data.Ticket == nil {
			t.Errorf("the resubmitted one ended as %+v, want InvalidRequest with its ticket", again2.Data)
		}
	})
}

// TestTooLarge refuses what would not fit into the queue again with its state, before ARM is asked.
func TestTooLarge(t *testing.T) {
	inVirtualTime(t, seed(`{"deletes":[{"status":202,"operation":{}}]}`), func(t *testing.T, s *system) {
		r := s.work()
		reason := func(kb int) string {
			return strings.TrimSuffix(request("pec"), "}") + `,"reason":"` + strings.Repeat("x", kb<<10) + `"}`
		}
		s.submit("m1", reason(250))
		if e := s.events(1)[0]; errorCode(e) != "RequestTooLarge" || len(s.ARM.Exchanges()) != 0 {
			t.Errorf("ended as %+v after %d exchanges, want RequestTooLarge after none", e.Data.Error, len(s.ARM.Exchanges()))
		}
		s.submit("m2", reason(200))
		if e := s.events(1)[0]; e.Data.Outcome != "deleted" || e.Data.Polls != 1 {
			t.Errorf("200 KB ended as %s, want deleted", e.Data.Outcome)
		}
		r.stop()
	})
}

// TestBytesOfStrangers has texts that a message cannot carry, in headers of ARM and in a request. Each costs its own request
// at most, and no neighbour anything.
func TestBytesOfStrangers(t *testing.T) {
	header := func(name, value string, status int) func(*options) {
		return func(o *options) {
			o.overHTTP = func(rt http.RoundTripper) http.RoundTripper {
				var done atomic.Bool
				return roundTrip(func(req *http.Request) (*http.Response, error) {
					resp, err := rt.RoundTrip(req)
					if err == nil && strings.HasSuffix(req.URL.Path, "c0") && !done.Swap(true) {
						resp.StatusCode, resp.Status = status, http.StatusText(status)
						resp.Header.Set(name, value)
					}
					return resp, err
				})
			}
		}
	}
	for name, tt := range map[string]struct {
		change func(*options)
		end    worker.Reason
	}{
		"a Location":     {header("Location", "https://management.azure.com/op?\xff\xe4", 202), "failed"},
		"a code of 503":  {header("x-ms-error-code", "B\xffd", 503), "absent"},
		"a code of 400":  {header("x-ms-error-code", "B\xffd", 400), "rejected"},
		"a request's id": {header("x-ms-request-id", "\xff", 200), "deleted"},
	} {
		t.Run(name, func(t *testing.T) {
			inVirtualTime(t, manyConnections(2), func(t *testing.T, s *system) {
				r := s.work(tt.change)
				s.submit("m0", request("c0"))
				s.submit("m1", request("c1"))
				for _, e := range s.events(2) {
					want := worker.Reason("deleted")
					if strings.HasSuffix(e.Subject, "c0") {
						want = tt.end
					}
					if e.Data.Outcome != want {
						t.Errorf("%s ended as %s %+v, want %s", e.Subject, e.Data.Outcome, e.Data.Error, want)
					}
				}
				if tt.end == "rejected" {
					if m := s.deadLetter(); deref(m.DeadLetterReason) != "B\uFFFDd" {
						t.Errorf("dead-lettered as %q", deref(m.DeadLetterReason))
					}
				}
				r.stop()
				if c := s.counts(); c.Active != 0 || c.Scheduled != 0 {
					t.Errorf("left in the queue: %+v", c)
				}
			})
		})
	}
}

// TestNever has a notBefore that some programs write for "never".
func TestNever(t *testing.T) {
	inVirtualTime(t, seed(""), func(t *testing.T, s *system) {
		r := s.work()
		s.submit("m1", strings.TrimSuffix(request("pec"), "}")+`,"notBefore":"9999-12-31T23:59:59Z"}`)
		if e := s.events(1)[0]; errorCode(e) != "InvalidRequest" || !strings.Contains(e.Data.Error.Message, "notBefore: the year 9999") {
			t.Errorf("ended as %+v, want InvalidRequest about the year", e.Data.Error)
		}
		r.stop()
	})
}

// TestAttemptsAreSent counts DELETEs that went out, not those that could not.
func TestAttemptsAreSent(t *testing.T) {
	inVirtualTime(t, seed(""), func(t *testing.T, s *system) {
		s.Identity.FailNext(5, http.StatusInternalServerError)
		var tried atomic.Int64
		r := s.work(func(o *options) {
			o.overHTTP = func(rt http.RoundTripper) http.RoundTripper {
				return roundTrip(func(req *http.Request) (*http.Response, error) {
					if tried.Add(1) <= 5 {
						return nil, errors.New("connection refused")
					}
					return rt.RoundTrip(req)
				})
			}
		})
		s.submit("m1", request("pec"))
		e := s.events(1)[0]
		r.stop()
		if e.Data.Outcome != "deleted" || e.Data.Attempts != 1 || e.Data.StartedAt.Sub(e.Data.RequestedAt) < time.Second {
			t.Errorf("ended as %s after %d attempts, begun after %s; want deleted by the one that went out", e.Data.Outcome, e.Data.Attempts, e.Data.StartedAt.Sub(e.Data.RequestedAt))
		}
	})
}

// TestNoTokens has the identity endpoint down for a while. No step waits for it with its lock, and a drain is not held up.
func TestNoTokens(t *testing.T) {
	inVirtualTime(t, manyConnections(20), func(t *testing.T, s *system) {
		s.Identity.FailNext(8, http.StatusInternalServerError)
		for i := range 20 {
			s.submit(fmt.Sprint("m", i), request(fmt.Sprint("c", i)))
		}
		r := s.work()
		<-time.After(time.Second)
		if took := r.stop(); took > 10*time.Second {
			t.Errorf("the drain took %s, want no more than one try for a token", took)
		}
		second := s.work()
		began := time.Now()
		for _, e := range s.events(20) {
			if e.Data.Outcome != "deleted" {
				t.Errorf("%s ended as %s %+v", e.Subject, e.Data.Outcome, e.Data.Error)
			}
		}
		if took := time.Since(began); took > 5*time.Minute {
			t.Errorf("all ended after %s, want soon after the outage", took)
		}
		second.stop()
		if v := s.Broker.Violations(); v != (broker.Violations{}) {
			t.Errorf("violations: %+v", v)
		}
	})
}

// TestOneTrace follows the trace from the sender's message over every hop and two replicas into the event.
func TestOneTrace(t *testing.T) {
	const traceID = "0af7651916cd43dd8448eb211c80319c"
	for _, name := range []string{"traceparent", "Diagnostic-Id"} {
		t.Run(name, func(t *testing.T) {
			inVirtualTime(t, seed(`{"deletes":[{"status":202,"operation":{"polls":1}}]}`), func(t *testing.T, s *system) {
				s.send(&azservicebus.Message{Body: []byte(request("pec")), ApplicationProperties: map[string]any{name: "00-" + traceID + "-b7ad6b7169203331-01"}})
				first, second := s.work(), s.work()
				e := s.events(1)[0]
				first.stop()
				second.stop()
				if !strings.Contains(e.TraceParent, traceID) || e.received.ApplicationProperties["traceparent"] != e.TraceParent || e.received.ApplicationProperties["Diagnostic-Id"] != e.TraceParent {
					t.Errorf("the event has traceparent %q and properties %v, want trace %s", e.TraceParent, e.received.ApplicationProperties, traceID)
				}
				hops := 0
				for _, span := range s.spans.GetSpans() {
					if got := span.SpanContext.TraceID().String(); got != traceID {
						t.Errorf("span %q is in trace %s", span.Name, got)
					}
					if span.Name == "process connection-deletes" {
						hops++
						if len(span.Links) != 1 {
							t.Errorf("hop %d has %d links, want one to the hop before", hops, len(span.Links))
						}
					}
				}
				if hops != 3 {
					t.Errorf("%d hops, want 3", hops)
				}
			})
		})
	}
}

// TestBodyAndPropertiesSurvive parks a message and looks at the successor.
func TestBodyAndPropertiesSurvive(t *testing.T) {
	inVirtualTime(t, seed(`{"deletes":[{"status":202,"retryAfter":"600","operation":{}}]}`), func(t *testing.T, s *system) {
		body := " {\"connectionId\" : \"" + poolID + "/privateEndpointConnections/pec\" }\n"
		s.send(&azservicebus.Message{Body: []byte(body), CorrelationID: new("CHG7"), Subject: new("decommission"), ContentType: new("application/json"),
			ApplicationProperties: map[string]any{"team": "payments", "priority": int64(3)}})
		r := s.work()
		<-time.After(time.Minute)
		parked := s.peek("connection-deletes")
		s.events(1)
		r.stop()
		if string(parked.Body) != body {
			t.Errorf("body %q, want %q", parked.Body, body)
		}
		if deref(parked.CorrelationID) != "CHG7" || deref(parked.Subject) != "decommission" || deref(parked.ContentType) != "application/json" {
			t.Errorf("correlation %v, subject %v, content type %v", deref(parked.CorrelationID), deref(parked.Subject), deref(parked.ContentType))
		}
		if p := parked.ApplicationProperties; p["team"] != "payments" || p["priority"] != int64(3) {
			t.Errorf("properties %v", p)
		}
		if parked.State != azservicebus.MessageStateScheduled {
			t.Errorf("state %v, want scheduled", parked.State)
		}
	})
}

// TestReady tells the states that readiness is for.
func TestReady(t *testing.T) {
	inVirtualTime(t, seed(`{"deletes":[{"status":401},{"status":401},{"status":401},{"status":401}]}`), func(t *testing.T, s *system) {
		r := s.work()
		synctest.Wait()
		if err := r.worker.Ready(); err != nil {
			t.Errorf("after connecting: %v, want ready", err)
		}
		s.submit("m1", request("pec"))
		unready := false
		for range 120 {
			<-time.After(time.Second)
			unready = unready || r.worker.Ready() != nil
		}
		s.events(1)
		if !unready || r.worker.Ready() != nil {
			t.Errorf("unready while denied: %v; in the end: %v", unready, r.worker.Ready())
		}
		r.stop()
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// slowly lets ARM take its time.
func slowly(d time.Duration) func(*options) {
	return func(o *options) {
		o.overHTTP = func(rt http.RoundTripper) http.RoundTripper {
			return roundTrip(func(req *http.Request) (*http.Response, error) {
				select {
				case <-time.After(d):
					return rt.RoundTrip(req)
				case <-req.Context().Done():
					return nil, req.Context().Err()
				}
			})
		}
	}
}

func manyConnections(n int) string {
	var connections []string
	for i := range n {
		connections = append(connections, fmt.Sprintf(`{"name":"c%d"}`, i))
	}
	return fmt.Sprintf(`{"pools":[{"id":%q,"connections":[%s]}]}`, poolID, strings.Join(connections, ","))
}

func errorCode(e event) string {
	if e.Data.Error == nil {
		return ""
	}
	return e.Data.Error.Code
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// send puts a message on the queue as it is.
func (s *system) send(m *azservicebus.Message) {
	s.t.Helper()
	sender, err := s.client.NewSender("connection-deletes", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	defer sender.Close(context.Background())
	if err := sender.SendMessage(context.Background(), m, nil); err != nil {
		s.t.Fatal(err)
	}
}

// take locks the next message of a queue and never settles it.
func (s *system) take(queue string) {
	s.t.Helper()
	receiver, err := s.client.NewReceiverForQueue(queue, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	defer receiver.Close(context.Background())
	if _, err := receiver.ReceiveMessages(context.Background(), 1, nil); err != nil {
		s.t.Fatal(err)
	}
}

// takeAway waits for the next message of the request queue, or of its dead letters, and takes it out.
func (s *system) takeAway(of azservicebus.SubQueue) *azservicebus.ReceivedMessage {
	s.t.Helper()
	receiver, err := s.client.NewReceiverForQueue("connection-deletes", &azservicebus.ReceiverOptions{SubQueue: of, ReceiveMode: azservicebus.ReceiveModeReceiveAndDelete})
	if err != nil {
		s.t.Fatal(err)
	}
	defer receiver.Close(context.Background())
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	messages, err := receiver.ReceiveMessages(ctx, 1, nil)
	if err != nil {
		s.t.Fatalf("waiting for a message: %v", err)
	}
	return messages[0]
}

// peek looks at the first message of a queue.
func (s *system) peek(queue string) *azservicebus.ReceivedMessage {
	s.t.Helper()
	return s.peekWith(queue, nil)
}

// deadLetter looks at the first message of the dead-letter queue.
func (s *system) deadLetter() *azservicebus.ReceivedMessage {
	s.t.Helper()
	return s.peekWith("connection-deletes", &azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueDeadLetter})
}

func (s *system) peekWith(queue string, options *azservicebus.ReceiverOptions) *azservicebus.ReceivedMessage {
	s.t.Helper()
	synctest.Wait() // an event comes before its message is settled
	receiver, err := s.client.NewReceiverForQueue(queue, options)
	if err != nil {
		s.t.Fatal(err)
	}
	defer receiver.Close(context.Background())
	messages, err := receiver.PeekMessages(context.Background(), 1, nil)
	if err != nil || len(messages) != 1 {
		s.t.Fatalf("peeking: %d messages, %v", len(messages), err)
	}
	return messages[0]
}
