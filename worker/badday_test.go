package worker_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"hsmsweep/internal/emulator/servicebus/broker"
)

// A bad day is one that README's runbook has a line about. On each, no request is lost, none ends wrongly, and none that is
// healthy comes near its last delivery.

// TestARMIsDown has no ARM for three hours.
func TestARMIsDown(t *testing.T) {
	const requests, outage = 50, 3 * time.Hour
	inVirtualTime(t, manyConnections(requests), func(t *testing.T, s *system) {
		began := time.Now()
		r := s.work(func(o *options) {
			o.overHTTP = func(rt http.RoundTripper) http.RoundTripper {
				return roundTrip(func(req *http.Request) (*http.Response, error) {
					if time.Since(began) < outage {
						return nil, errors.New("no route to host")
					}
					return rt.RoundTrip(req)
				})
			}
		})
		for i := range requests {
			s.submit(fmt.Sprint("m", i), request(fmt.Sprint("c", i)))
		}
		s.wantAllDeleted(requests)
		if late := time.Since(began) - outage; late > 10*time.Minute {
			t.Errorf("the last one ended %s after the outage, want at most twice the longest delay of 5 minutes", late)
		}
		r.stop()
		s.wantHealthy()
	})
}

// TestDeniedEverything has every right missing: requests end after a quarter of an hour, and readiness tells.
func TestDeniedEverything(t *testing.T) {
	const requests = 20
	inVirtualTime(t, manyConnections(requests), func(t *testing.T, s *system) {
		r := s.work(func(o *options) {
			o.overHTTP = func(rt http.RoundTripper) http.RoundTripper {
				return roundTrip(func(req *http.Request) (*http.Response, error) {
					req.Header.Set("Authorization", "Bearer of-somebody-else")
					return rt.RoundTrip(req)
				})
			}
		})
		began := time.Now()
		for i := range requests {
			s.submit(fmt.Sprint("m", i), request(fmt.Sprint("c", i)))
		}
		<-time.After(10 * time.Minute)
		if err := r.worker.Ready(); err == nil || !strings.Contains(err.Error(), "role assignments") {
			t.Errorf("ready: %v, want not, and why", err)
		}
		for _, e := range s.events(requests) {
			if e.Data.Outcome != "rejected" || errorCode(e) != "InvalidAuthenticationToken" {
				t.Errorf("%s ended as %s %+v, want rejected", e.Subject, e.Data.Outcome, e.Data.Error)
			}
		}
		if took := time.Since(began); took < 15*time.Minute || took > 26*time.Minute {
			t.Errorf("it took %s, want a quarter of an hour and a delay", took)
		}
		r.stop()
		s.wantHealthy()
	})
}

// TestTopicRejects has the entity for events disappear for an hour. Ends wait, written down, and no DELETE is repeated.
func TestTopicRejects(t *testing.T) {
	const requests = 20
	inVirtualTime(t, manyConnections(requests), func(t *testing.T, s *system) {
		r := s.work()
		s.submit("first", request("c0"))
		s.wantAllDeleted(1)
		s.counts() // the first step is over: its event comes before the worker has heard that it was taken
		if err := s.Broker.Delete("connection-events"); err != nil {
			t.Fatal(err)
		}
		for i := range requests - 1 {
			s.submit(fmt.Sprint("m", i), request(fmt.Sprint("c", i+1)))
		}
		<-time.After(time.Hour)
		if c := s.counts(); c.Scheduled+c.Active != requests-1 || c.DeadLetter != 0 {
			t.Errorf("without a topic the queue has %+v, want %d requests that wait", c, requests-1)
		}
		if err := s.Broker.CreateTopic(broker.DefaultConfig().Topics[0]); err != nil {
			t.Fatal(err)
		}
		s.wantAllDeleted(requests - 1)
		r.stop()
		s.wantHealthy()
	})
}

// TestTenThousandPollsAtOnce has everything due in the same second. Nobody's lock runs out while the others are served.
func TestTenThousandPollsAtOnce(t *testing.T) {
	const requests = 10_000
	inVirtualTime(t, seed(""), func(t *testing.T, s *system) {
		due := time.Now().Add(time.Hour)
		s.sendMany(requests, func(i int) *azservicebus.Message {
			return &azservicebus.Message{MessageID: new(fmt.Sprint("m", i)), Body: []byte(request(fmt.Sprint("absent", i))), ScheduledEnqueueTime: &due}
		})
		replicas := []*replica{s.work(), s.work()}
		<-time.After(time.Until(due) + time.Hour)
		for _, r := range replicas {
			r.stop()
		}
		events, err := s.Broker.Entity("connection-events/Subscriptions/all")
		if err != nil {
			t.Fatal(err)
		}
		if n := events.Counts().Active; n != requests {
			t.Errorf("%d events, want %d", n, requests)
		}
		if n := len(s.ARM.Exchanges()); n != requests {
			t.Errorf("%d exchanges with ARM, want %d", n, requests)
		}
		s.wantHealthy()
	})
}

// TestNoSuccessors has the request queue closed for sending, as operators do to drain it. What must wait cannot be parked; it
// keeps its deliveries, even where the broker counts them, and goes on when the queue is open again.
func TestNoSuccessors(t *testing.T) {
	const requests = 30
	entities := broker.DefaultConfig()
	inVirtualTimeWith(t, entities, operations(requests), func(t *testing.T, s *system) {
		for i := range requests {
			s.submit(fmt.Sprint("m", i), request(fmt.Sprint("c", i)))
		}
		closed := entities.Queues[0]
		closed.MaxSizeBytes = 1 // full, and what is in it stays
		s.update(closed)
		r := s.work()
		<-time.After(6 * time.Hour)
		if err := r.worker.Ready(); err == nil || !strings.Contains(err.Error(), "takes no successors") {
			t.Errorf("ready: %v, want not, and why", err)
		}
		if n := len(s.ARM.Exchanges()); n > 300 {
			t.Errorf("%d exchanges with ARM meanwhile, want a few now and then", n)
		}
		s.update(entities.Queues[0])
		s.wantAllDeleted(requests)
		r.stop()
		if c := s.counts(); c != (broker.Counts{}) {
			t.Errorf("left in the queue: %+v", c)
		}
	})
}

// TestExpired has a queue in which messages live for an hour, and no worker for two. The broker dead-letters them without a word;
// the next worker gives each its event.
func TestExpired(t *testing.T) {
	const requests = 5
	entities := broker.DefaultConfig()
	entities.Queues[0].DefaultMessageTTL = time.Hour
	entities.Queues[0].DeadLetterOnExpiration = true
	inVirtualTimeWith(t, entities, manyConnections(requests), func(t *testing.T, s *system) {
		s.submit("typo", `{"connectionID":""}`) // ends by itself, and stays among the dead letters
		first := s.work()
		s.events(1)
		first.stop()
		for i := range requests {
			s.submit(fmt.Sprint("m", i), request(fmt.Sprint("c", i)))
		}
		<-time.After(2 * time.Hour)
		if c := s.counts(); c.DeadLetter != requests+1 {
			t.Fatalf("the queue has %+v, want everything dead-lettered", c)
		}
		replicas := []*replica{s.work(), s.work()}
		ids := map[string]bool{}
		for _, e := range s.events(requests) {
			ids[e.ID] = true
			if e.Data.Outcome != "timedOut" || errorCode(e) != "MessageExpired" || e.Data.ConnectionID == "" {
				t.Errorf("%s ended as %s %+v, want timedOut MessageExpired", e.ID, e.Data.Outcome, e.Data.Error)
			}
		}
		<-time.After(time.Hour)
		for _, r := range replicas {
			r.stop()
		}
		if len(ids) != requests || len(s.ARM.Exchanges()) != 0 {
			t.Errorf("%d different events and %d exchanges, want %d and none", len(ids), len(s.ARM.Exchanges()), requests)
		}
		if c := s.counts(); c.Active != 0 || c.Scheduled != 0 || c.DeadLetter != requests+1 {
			t.Errorf("left in the queue: %+v, want the dead letters", c)
		}
		for _, m := range s.deadLetters() {
			if reason := deref(m.DeadLetterReason); reason != "MessageExpired" && reason != "InvalidRequest" {
				t.Errorf("dead-lettered as %s", reason)
			}
		}
		s.wantNoMoreEvents()
	})
}

// TestBrokerGivesUp has a queue whose own limit of deliveries is below --max-deliveries.
func TestBrokerGivesUp(t *testing.T) {
	entities := broker.DefaultConfig()
	entities.Queues[0].MaxDeliveryCount = 3
	inVirtualTimeWith(t, entities, manyConnections(2), func(t *testing.T, s *system) {
		s.submit("m0", request("c0"))
		for range 3 {
			s.take("connection-deletes")
			<-time.After(61 * time.Second)
		}
		if c := s.counts(); c.DeadLetter != 1 {
			t.Fatalf("the queue has %+v, want one dead letter", c)
		}
		r := s.work(func(o *options) { o.MaxDeliveries = 3 })
		if e := s.events(1)[0]; e.Data.Outcome != "failed" || errorCode(e) != "TooManyDeliveries" || len(s.ARM.Exchanges()) != 0 {
			t.Errorf("ended as %s %+v after %d exchanges, want failed TooManyDeliveries after none", e.Data.Outcome, e.Data.Error, len(s.ARM.Exchanges()))
		}
		<-time.After(time.Hour)
		r.stop()
		if reason := deref(s.deadLetter().DeadLetterReason); reason != "TooManyDeliveries" {
			t.Errorf("dead-lettered as %s", reason)
		}
		s.wantNoMoreEvents()
	})
}

// operations makes connections whose deletion is an operation of a few polls.
func operations(n int) string {
	script := `{"deletes":[{"status":202,"retryAfter":"5","operation":{"polls":1}}]}`
	return strings.ReplaceAll(manyConnections(n), `"}`, `","script":`+script+`}`)
}

// wantAllDeleted takes n events, which all must tell of a deletion by one DELETE.
func (s *system) wantAllDeleted(n int) {
	s.t.Helper()
	for _, e := range s.events(n) {
		if e.Data.Outcome != "deleted" {
			s.t.Errorf("%s ended as %s %+v, want deleted", e.Subject, e.Data.Outcome, e.Data.Error)
		}
	}
}

// wantHealthy holds when no message was delivered in vain.
func (s *system) wantHealthy() {
	s.t.Helper()
	if c := s.counts(); c.Active != 0 || c.Scheduled != 0 {
		s.t.Errorf("left in the queue: %+v", c)
	}
	if v := s.Broker.Violations(); v != (broker.Violations{}) {
		s.t.Errorf("violations: %+v, want none: no lock may run out", v)
	}
}

func (s *system) wantNoMoreEvents() {
	s.t.Helper()
	events, err := s.Broker.Entity("connection-events/Subscriptions/all")
	if err != nil {
		s.t.Fatal(err)
	}
	if c := events.Counts(); c != (broker.Counts{}) {
		s.t.Errorf("more events: %+v", c)
	}
}

// update changes the settings of the request queue.
func (s *system) update(c broker.QueueConfig) {
	s.t.Helper()
	e, err := s.Broker.Entity(c.Name)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := e.Update(c); err != nil {
		s.t.Fatal(err)
	}
}

// deadLetters looks at the first dead letters.
func (s *system) deadLetters() []*azservicebus.ReceivedMessage {
	s.t.Helper()
	receiver, err := s.client.NewReceiverForQueue("connection-deletes", &azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueDeadLetter})
	if err != nil {
		s.t.Fatal(err)
	}
	defer receiver.Close(context.Background())
	messages, err := receiver.PeekMessages(context.Background(), 100, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return messages
}
