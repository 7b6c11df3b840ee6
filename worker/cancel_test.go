package worker_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"hsmsweep/internal/emulator/fault"
	"hsmsweep/internal/emulator/servicebus/broker"
	"hsmsweep/worker"
)

// later is a request that waits an hour for its notBefore.
func later(name string) string {
	return strings.TrimSuffix(request(name), "}") + fmt.Sprintf(`,"reason":"gone","ticket":{"id":"CHG1"},"notBefore":%q}`, time.Now().Add(time.Hour).Format(time.RFC3339))
}

// TestCancel takes back what waits: two requests with one id, each with an event of its own, and one that nobody has seen yet.
func TestCancel(t *testing.T) {
	const traceID = "4bf92f3577b34da6a3ce929d0e0e4736"
	inVirtualTime(t, seed(""), func(t *testing.T, s *system) {
		r := s.work()
		body := strings.TrimSuffix(later("pec"), "}") + `,"requestId":"r1"}`
		s.submit("first", body)
		s.submit("second", body)
		tomorrow := time.Now().Add(24 * time.Hour)
		s.send(&azservicebus.Message{MessageID: new("stranger"), Body: []byte(request("pec")), ScheduledEnqueueTime: &tomorrow,
			ApplicationProperties: map[string]any{"traceparent": "00-" + traceID + "-00f067aa0ba902b7-01"}})
		<-time.After(time.Minute)
		o := s.operator()
		found, err := o.Find(t.Context(), []string{"r1", "stranger", "unknown"})
		s.must(err)
		for _, w := range found {
			s.must(o.Cancel(t.Context(), w, false))
		}
		ids := map[string]bool{}
		for _, e := range s.events(3) {
			ids[e.ID] = true
			d := e.Data
			if e.Type != "Hsmsweep.ConnectionDeleteSkipped" || d.Outcome != "cancelled" || d.Error != nil || d.ConnectionID == "" || d.Attempts != 0 || d.DeliveryCount != 0 {
				t.Errorf("event %s: %s %+v, want cancelled", e.ID, e.Type, d)
			}
			if d.RequestID == "r1" && (d.Reason != "gone" || d.Ticket == nil || d.Ticket.ID != "CHG1" || e.received.ApplicationProperties["ticketId"] != "CHG1") {
				t.Errorf("event %s: %+v, want reason and ticket to come back", e.ID, d)
			}
			if d.RequestID == "stranger" && !strings.Contains(e.TraceParent, traceID) {
				t.Errorf("event %s is in the trace %q, want the request's, %s", e.ID, e.TraceParent, traceID)
			}
		}
		if len(ids) != 3 || len(found) != 3 {
			t.Errorf("%d events with different ids for %d messages, want 3", len(ids), len(found))
		}
		<-time.After(48 * time.Hour)
		r.stop()
		s.wantNoMoreEvents()
		s.wantHealthy()
		if n := len(s.ARM.Exchanges()); n != 0 {
			t.Errorf("ARM had %d requests, want none", n)
		}
	})
}

// TestTooLate leaves alone what has begun, unless only the watching is to end.
func TestTooLate(t *testing.T) {
	inVirtualTime(t, seed(`{"deletes":[{"status":202,"retryAfter":"600","operation":{"polls":1}}]}`), func(t *testing.T, s *system) {
		o := s.operator()
		s.submit("m", request("pec"))
		if err := o.Cancel(t.Context(), s.find(o, "m"), true); !errors.Is(err, worker.ErrTooLate) || !strings.Contains(err.Error(), "being handled") {
			t.Errorf("cancelling an active message: %v, want too late", err)
		}
		r := s.work()
		<-time.After(time.Minute)
		if err := o.Cancel(t.Context(), s.find(o, "m"), false); !errors.Is(err, worker.ErrTooLate) || !strings.Contains(err.Error(), "--stop-watching") {
			t.Errorf("cancelling an operation: %v, want too late, and the way out", err)
		}
		if err := o.Expedite(t.Context(), s.find(o, "m")); err == nil || !strings.Contains(err.Error(), "ARM asked for") {
			t.Errorf("expediting an operation: %v, want a refusal", err)
		}
		if c := s.counts(); c.Scheduled != 1 || c.Active != 0 {
			t.Errorf("the queue has %+v, want it unchanged", c)
		}
		s.must(o.Cancel(t.Context(), s.find(o, "m"), true))
		if e := s.events(1)[0]; e.Data.Outcome != "cancelled" || errorCode(e) != worker.CodeMayBeDeleted || e.Data.Attempts != 1 || e.ID != "m@1/end" {
			t.Errorf("event %s: %+v %+v, want cancelled, and that ARM may go on", e.ID, e.Data, e.Data.Error)
		}
		r.stop()
		s.wantHealthy()
	})
}

// TestNotToBeChanged has states in which a request is not cancelled, or not hurried, any more.
func TestNotToBeChanged(t *testing.T) {
	set := func(fields map[string]any) func(map[string]any) {
		return func(a map[string]any) { delete(a, "operation"); maps.Copy(a, fields) }
	}
	reached := map[string]any{"outcome": "deleted", "at": "2000-01-01T00:00:00Z"}
	inVirtualTime(t, seed(""), func(t *testing.T, s *system) {
		o := s.operator()
		tomorrow := time.Now().Add(24 * time.Hour)
		for i, tt := range []struct {
			state           map[string]any
			cancel, hurried string // the refusals' words; empty: not tried
		}{
			{map[string]any{"why": "publish", "end": reached}, "has ended as deleted", ""},
			{map[string]any{"why": "verify", "verifying": reached}, "has deleted the connection (deleted)", ""},
			{map[string]any{"why": "unavailable", "selection": map[string]any{"made": 3}}, "requests of their own", ""},
			{map[string]any{"why": "throttle"}, "", "ARM asked for"},
			{map[string]any{"why": "redelivered"}, "", "kept apart"},
		} {
			id := fmt.Sprint("r", i)
			maps.Copy(tt.state, map[string]any{"requestId": id, "lineage": id + "@7"})
			m := forged(set(tt.state))
			m.ScheduledEnqueueTime = &tomorrow
			s.send(m)
			if tt.cancel != "" {
				if err := o.Cancel(t.Context(), s.find(o, id), true); !errors.Is(err, worker.ErrTooLate) || !strings.Contains(err.Error(), tt.cancel) {
					t.Errorf("cancelling %v: %v, want that it %s", tt.state, err, tt.cancel)
				}
				continue
			}
			if err := o.Expedite(t.Context(), s.find(o, id)); err == nil || !strings.Contains(err.Error(), tt.hurried) {
				t.Errorf("expediting %v: %v, want that %s", tt.state, err, tt.hurried)
			}
		}
		if c := s.counts(); c.Scheduled != 5 || c.Active != 0 {
			t.Errorf("the queue has %+v, want it unchanged", c)
		}
	})
}

// TestTooLateToTell has an end that could not be published: it is no longer to be cancelled, but may be told at once.
func TestTooLateToTell(t *testing.T) {
	inVirtualTime(t, seed(""), func(t *testing.T, s *system) {
		r := s.work()
		s.submit("first", request("absent"))
		s.events(1)
		s.must(s.Broker.Delete("connection-events"))
		s.submit("m", request("pec"))
		o := s.operator()
		w := s.find(o, "m")
		for range 3600 { // until it waits so long that hurrying it makes a difference
			if <-time.After(time.Second); w.Parked && time.Until(w.DueAt) > time.Minute {
				break
			}
			w = s.find(o, "m")
		}
		if err := o.Cancel(t.Context(), w, true); !errors.Is(err, worker.ErrTooLate) || w.Why != worker.WaitPublish {
			t.Errorf("cancelling (%s): %v, want too late", w.Why, err)
		}
		s.must(s.Broker.CreateTopic(broker.DefaultConfig().Topics[0]))
		s.must(o.Expedite(t.Context(), w))
		began := time.Now()
		s.wantAllDeleted(1)
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("it took %s to be told, want no more than a link takes to recover", took)
		}
		r.stop()
		s.wantHealthy()
	})
}

// TestExpedite has a notBefore end at once. A cancellation that fails half-way is made good by the same command.
func TestExpedite(t *testing.T) {
	for _, failing := range []bool{false, true} {
		inVirtualTime(t, seed(`{"deletes":[{"status":409}]}`), func(t *testing.T, s *system) {
			r := s.work()
			s.submit("m", later("pec"))
			<-time.After(time.Minute)
			o := s.operator()
			w := s.find(o, "m")
			if failing {
				s.inject(func(op fault.Operation) (f fault.Fault) {
					if strings.Contains(op.Name, "cancel-scheduled") {
						f.Kind = fault.Refused
					}
					return f
				})
				if err := o.Expedite(t.Context(), w); err == nil || !strings.Contains(err.Error(), "give the same command again") {
					t.Errorf("expediting without a cancellation: %v, want what to do", err)
				}
				s.inject(nil)
			}
			s.must(o.Expedite(t.Context(), w))
			if e := s.events(1)[0]; e.Data.Outcome != "deleted" || e.Data.Attempts != 2 || e.Data.FinishedAt.Sub(e.Data.RequestedAt) > 5*time.Minute {
				t.Errorf("%s: %+v, want deleted by two DELETEs, long before its time", e.ID, e.Data)
			}
			<-time.After(48 * time.Hour)
			r.stop()
			s.wantNoMoreEvents()
			s.wantHealthy()
			if n := len(s.ARM.Exchanges()); n != 2 {
				t.Errorf("ARM had %d requests, want 2", n)
			}
		})
	}
}

// TestCancelRaces cancels requests just when they become due. Each ends in one event: either nothing was deleted, or too late.
func TestCancelRaces(t *testing.T) {
	const requests = 40
	inVirtualTime(t, manyConnections(requests), func(t *testing.T, s *system) {
		r := s.work()
		o := s.operator()
		for i := range requests {
			s.submit(fmt.Sprint("m", i), later(fmt.Sprint("c", i)))
		}
		<-time.After(time.Minute)
		var cancelling sync.WaitGroup
		results := make([]error, requests)
		for i := range requests {
			w := s.find(o, fmt.Sprint("m", i))
			cancelling.Go(func() {
				<-time.After(time.Until(w.DueAt) + time.Duration(i%3-1)*time.Microsecond)
				results[i] = o.Cancel(context.Background(), w, false)
			})
		}
		cancelling.Wait()
		wins := map[worker.Reason]int{}
		for _, e := range s.events(requests) {
			var i int
			fmt.Sscanf(e.Data.RequestID, "m%d", &i)
			wins[e.Data.Outcome]++
			there := s.ARM.Exists(e.Data.ConnectionID)
			switch e.Data.Outcome {
			case "cancelled":
				if results[i] != nil || !there {
					t.Errorf("%s was cancelled, which gave %v; the connection is there: %v", e.ID, results[i], there)
				}
			case "deleted":
				if results[i] == nil || there {
					t.Errorf("%s was deleted, and cancelling gave %v; the connection is there: %v", e.ID, results[i], there)
				}
			default:
				t.Errorf("%s ended as %s", e.ID, e.Data.Outcome)
			}
		}
		t.Log(wins)
		if wins["cancelled"] == 0 || wins["deleted"] == 0 {
			t.Error("there was no race")
		}
		r.stop()
		s.wantNoMoreEvents()
		s.wantHealthy()
	})
}

// TestCancelFails has the one call that cancels go wrong in every way. Nothing is lost, and nothing is told twice.
func TestCancelFails(t *testing.T) {
	for _, tt := range []struct {
		kind      fault.Kind
		cancelled bool
	}{{fault.Refused, false}, {fault.Unheard, true}, {fault.Unanswered, true}, {fault.Silent, true}} {
		t.Run(string(tt.kind), func(t *testing.T) {
			inVirtualTime(t, seed(""), func(t *testing.T, s *system) {
				s.submit("m", later("pec"))
				r := s.work()
				<-time.After(time.Minute)
				o := s.operator()
				w := s.find(o, "m")
				calls := 0
				s.inject(func(op fault.Operation) (f fault.Fault) {
					if strings.Contains(op.Name, "cancel-scheduled") {
						if calls++; calls == 1 || tt.kind == fault.Refused {
							f.Kind = tt.kind
						}
					}
					return f
				})
				err := o.Cancel(t.Context(), w, false)
				synctest.Wait()
				if calls == 0 || (err == nil) != tt.cancelled {
					t.Errorf("%d calls, then %v; want cancelled: %v", calls, err, tt.cancelled)
				}
				want := worker.Reason("deleted")
				if tt.cancelled {
					want = worker.EndCancelled
				}
				if e := s.events(1)[0]; e.Data.Outcome != want {
					t.Errorf("ended as %s, want %s", e.Data.Outcome, want)
				}
				<-time.After(2 * time.Hour)
				r.stop()
				s.wantNoMoreEvents()
			})
		})
	}
}

// TestCancelTooSlow has what was found ended by a worker before it is cancelled: parked by a worker, or scheduled by its sender.
func TestCancelTooSlow(t *testing.T) {
	inVirtualTime(t, manyConnections(2), func(t *testing.T, s *system) {
		r := s.work()
		s.submit("m0", later("c0"))
		due := time.Now().Add(time.Hour)
		s.send(&azservicebus.Message{MessageID: new("m1"), Body: []byte(request("c1")), ScheduledEnqueueTime: &due})
		<-time.After(time.Minute)
		o := s.operator()
		found := []worker.Waiting{s.find(o, "m0"), s.find(o, "m1")}
		<-time.After(time.Hour)
		for i, words := range []string{"no worker published another end before", "see the events"} {
			if err := o.Cancel(t.Context(), found[i], false); err == nil || !strings.Contains(err.Error(), words) {
				t.Errorf("cancelling %s: %v, want %q in it", found[i].RequestID, err, words)
			}
		}
		s.wantAllDeleted(2)
		r.stop()
		s.wantNoMoreEvents()
		s.wantHealthy()
	})
}
