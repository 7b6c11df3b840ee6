package worker_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"hsmsweep/queue"
	"hsmsweep/worker"
)

// operator is somebody with a connection of their own.
func (s *system) operator() *worker.Operator {
	s.t.Helper()
	q, err := queue.Open(func() (*azservicebus.Client, error) { return s.dial(s.amqp.Dial), nil }, "connection-deletes", "connection-events", s.log)
	s.must(err)
	s.t.Cleanup(func() { _ = q.Close(context.Background()) })
	return worker.NewOperator(q, "connection-deletes", sdktrace.NewTracerProvider(sdktrace.WithSyncer(s.spans)))
}

// find looks for the one message of a request.
func (s *system) find(o *worker.Operator, requestID string) worker.Waiting {
	s.t.Helper()
	found, err := o.Find(s.t.Context(), []string{requestID})
	s.must(err)
	if len(found) != 1 {
		s.t.Fatalf("%s: %d messages found, want 1", requestID, len(found))
	}
	return found[0]
}

const refusals = `{"pools":[{"id":%q,"connections":[{"name":"operation","script":{"deletes":[{"status":202,"retryAfter":"600","operation":{"polls":2}}]}},
	{"name":"conflict","script":{"deletes":[{"status":409,"retryAfter":"600"}]}},{"name":"notBefore"}]},
	{"id":%q,"connections":[{"name":"throttle","script":{"deletes":[{"status":429,"retryAfter":"600"}]}}]}]}`

// TestParked lists one request for each of several reasons, and what nobody expected to wait.
func TestParked(t *testing.T) {
	busy := strings.Replace(poolID, "00000000", "11111111", 1)
	inVirtualTime(t, fmt.Sprintf(refusals, poolID, busy), func(t *testing.T, s *system) {
		r := s.work()
		s.submit("operation", request("operation"))
		s.submit("conflict", request("conflict"))
		s.submit("notBefore", later("notBefore"))
		s.submit("throttle", strings.Replace(request("throttle"), poolID, busy, 1))
		<-time.After(time.Minute)
		r.stop()
		tomorrow := time.Now().Add(24 * time.Hour)
		for id, body := range map[string]string{"stranger": request("x"), "unreadable": "{", "selector": `{"managedHsmId":"` + poolID + `","status":["Rejected"]}`,
			"misspelt": `{"connectionId":"/subscriptions/x"}`} {
			s.send(&azservicebus.Message{MessageID: &id, Body: []byte(body), ScheduledEnqueueTime: &tomorrow})
		}
		s.submit("active", request("y"))

		got := map[string]string{}
		for page, err := range s.operator().Requests(t.Context()) {
			s.must(err)
			for _, w := range page {
				if w.Parked && (w.DueAt.Before(time.Now()) || w.RequestedAt.After(time.Now())) {
					t.Errorf("%s is due at %s and was requested at %s", w.RequestID, w.DueAt, w.RequestedAt)
				}
				got[w.RequestID] = fmt.Sprint(w.Parked, " ", w.Why, " ", w.Hops, w.Attempts, w.Polls, " ", w.Pool.Name, " ", w.Selector)
			}
		}
		want := map[string]string{
			"operation": "true operation 1 1 0 sample-mhsm ", "conflict": "true conflict 1 1 0 sample-mhsm ", "notBefore": "true notBefore 1 0 0 sample-mhsm ",
			"throttle": "true throttle 1 1 0 sample-mhsm ", "stranger": "true scheduled 0 0 0 sample-mhsm ", "unreadable": "true scheduled 0 0 0  ",
			"selector": "true scheduled 0 0 0 sample-mhsm " + poolID, "misspelt": "true scheduled 0 0 0  /subscriptions/x", "active": "false  0 0 0 sample-mhsm ",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}
