package worker_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/go-cmp/cmp"

	"hsmsweep/internal/emulator/fault"
	"hsmsweep/queue"
	"hsmsweep/worker"
)

const scopeLocked = `{"status":409,"code":"ScopeLocked"}`

// atOnce is no pace at all.
func atOnce(context.Context) error { return nil }

// letters are the dead letters as an operator sees them.
func (s *system) letters(o *worker.Operator) []worker.DeadLetter {
	s.t.Helper()
	var all []worker.DeadLetter
	for page, err := range o.DeadLetters(s.t.Context()) {
		s.must(err)
		all = append(all, page...)
	}
	return all
}

// results notes what became of dead letters, by request id.
type results map[string]error

func (r results) settled(d worker.DeadLetter, err error) { r[d.RequestID] = err }

// TestResubmit puts a request back twice, until what stood in its way is gone.
func TestResubmit(t *testing.T) {
	const traceID = "4bf92f3577b34da6a3ce929d0e0e4736"
	inVirtualTime(t, seed(`{"deletes":[`+scopeLocked+`,`+scopeLocked+`,{"status":200}]}`), func(t *testing.T, s *system) {
		body := "  " + strings.TrimSuffix(request("pec"), "}") + ` , "ticket":{"id":"CHG1"}}`
		s.send(&azservicebus.Message{MessageID: new("m"), Body: []byte(body), ContentType: new("application/json"), Subject: new("theirs"), CorrelationID: new("corr"),
			ApplicationProperties: map[string]any{"team": "payments", "n": int64(7), "traceparent": "00-" + traceID + "-00f067aa0ba902b7-01"}})
		r := s.work()
		o := s.operator()
		ids := map[string]bool{}
		trace := traceID
		for round := range 2 {
			e := s.events(1)[0]
			ids[e.ID] = true
			if e.Data.Outcome != worker.EndRejected || e.Data.RequestID != "m" {
				t.Fatalf("round %d: ended as %s of %s, want rejected", round, e.Data.Outcome, e.Data.RequestID)
			}
			s.counts()
			all := s.letters(o)
			if len(all) != 1 {
				t.Fatalf("round %d: %d dead letters, want 1", round, len(all))
			}
			d := all[0]
			if d.RequestID != "m" || d.Reason != "ScopeLocked" || d.Description == "" || d.ConnectionID == "" || d.Resubmits != round || d.Attempts != 1 || d.Hops != 0 || d.TraceID != trace ||
				d.Ticket == nil || d.Pool.Name != "sample-mhsm" || string(d.Body) != body || time.Since(d.DeadLetteredAt).Abs() > time.Minute {
				t.Errorf("round %d: the dead letter is seen as %+v", round, d)
			}
			<-time.After(24 * time.Hour) // the time that is told is that of its death
			if again := s.letters(o)[0]; !again.DeadLetteredAt.Equal(d.DeadLetteredAt) {
				t.Errorf("it died at %s, and at %s", d.DeadLetteredAt, again.DeadLetteredAt)
			}
			became := results{}
			s.spans.Reset()
			s.must(o.Resubmit(t.Context(), all, 10, atOnce, became.settled))
			if err, ok := became["m"]; !ok || err != nil {
				t.Errorf("round %d: told %v %v", round, ok, err)
			}
			span := s.spans.GetSpans()[0]
			if span.Name != "resubmit connection-deletes" || len(span.Links) != 1 || span.Links[0].SpanContext.TraceID().String() != trace || span.SpanContext.TraceID().String() == trace {
				t.Errorf("round %d: span %s in %s with links %v, want a new trace with a link to %s", round, span.Name, span.SpanContext.TraceID(), span.Links, trace)
			}
			trace = span.SpanContext.TraceID().String()
		}
		e := s.events(1)[0]
		ids[e.ID] = true
		if e.Data.Outcome != worker.EndDeleted || e.Data.RequestID != "m" || e.Data.Attempts != 1 || !strings.Contains(e.TraceParent, trace) || len(ids) != 3 {
			t.Errorf("ended as %s of %s after %d DELETEs in %s, want deleted after one, in trace %s; ids %v", e.Data.Outcome, e.Data.RequestID, e.Data.Attempts, e.TraceParent, trace, ids)
		}
		r.stop()
		s.wantNoMoreEvents()
		s.wantHealthy()
	})
}

// TestResubmitted is what the queue gets: the body and what is the sender's, and nothing of the earlier life.
func TestResubmitted(t *testing.T) {
	inVirtualTime(t, seed(`{"deletes":[{"status":429,"retryAfter":"30"},`+scopeLocked+`]}`), func(t *testing.T, s *system) {
		body := []byte("\ufeff" + request("pec")) // with a mark that an editor put there, it is refused, but kept
		for id, b := range map[string][]byte{"good": []byte(request("pec")), "marked": body} {
			s.send(&azservicebus.Message{MessageID: &id, Body: b, ContentType: new("text/x"), Subject: new("theirs"), ReplyTo: new("me"),
				ApplicationProperties: map[string]any{"team": "payments", "hsmsweep-attempt": "forged", "Diagnostic-Id": "x"}})
		}
		r := s.work()
		s.events(2)
		r.stop()
		o := s.operator()
		s.must(o.Resubmit(t.Context(), s.letters(o), 10, atOnce, results{}.settled))
		if c := s.counts(); c.Active != 2 || c.DeadLetter != 0 {
			t.Fatalf("the queue has %+v, want both", c)
		}
		receiver, err := s.client.NewReceiverForQueue("connection-deletes", nil)
		s.must(err)
		defer receiver.Close(context.Background())
		messages, err := receiver.PeekMessages(t.Context(), 10, nil)
		s.must(err)
		for _, m := range messages {
			p := m.ApplicationProperties
			id, _ := p["hsmsweep-request-id"].(string)
			want := map[string]any{"team": "payments", "hsmsweep-request-id": id, "hsmsweep-resubmits": int64(1), "traceparent": p["traceparent"], "Diagnostic-Id": p["traceparent"]}
			if diff := cmp.Diff(want, p); diff != "" || p["traceparent"] == nil {
				t.Errorf("%s has properties (-want +got):\n%s", id, diff)
			}
			if id == "marked" && string(m.Body) != string(body) || deref(m.ContentType) != "text/x" || deref(m.Subject) != "theirs" || deref(m.ReplyTo) != "me" {
				t.Errorf("%s became %+v", id, m)
			}
		}
	})
}

// TestResubmitFails has each of the two effects go wrong in every way. The same command again finishes it, and the request is one.
func TestResubmitFails(t *testing.T) {
	for _, effect := range []string{"send", "settle"} {
		for _, kind := range []fault.Kind{fault.Refused, fault.Unheard, fault.Unanswered, fault.Silent} {
			t.Run(effect+" "+string(kind), func(t *testing.T) {
				inVirtualTime(t, seed(`{"deletes":[`+scopeLocked+`,{"status":200}]}`), func(t *testing.T, s *system) {
					s.submit("m", request("pec"))
					r := s.work()
					s.events(1)
					r.stop()
					o := s.operator()
					letters := s.letters(o)
					went := 0
					s.inject(func(op fault.Operation) (f fault.Fault) {
						if op.Name == effect && went < 20 {
							went++
							f.Kind = kind
						}
						return f
					})
					became := results{}
					err := o.Resubmit(t.Context(), letters, 10, atOnce, became.settled)
					s.inject(nil)
					if went == 0 || len(became) != 1 {
						t.Errorf("%d faults, and was told %v (%v), want one", went, became, err)
					}
					<-time.After(2 * time.Minute) // locks that nobody holds run out
					left := s.letters(o)
					// Of a refused settlement the SDK says that it was none: its own second try finds the delivery settled.
					if len(left) > 0 && became["m"] == nil && (effect != "settle" || kind != fault.Refused) {
						t.Error("it is there as before, and was told to be resubmitted")
					}
					if len(left) > 0 {
						again := results{}
						s.must(o.Resubmit(t.Context(), left, 10, atOnce, again.settled))
						if again["m"] != nil {
							t.Errorf("again: %v", again["m"])
						}
					}
					if c := s.counts(); c.DeadLetter != 0 || c.Active != 1 {
						t.Fatalf("the queue has %+v, want one request and no dead letter; told %v", c, became)
					}
					r = s.work()
					if e := s.events(1)[0]; e.Data.Outcome != worker.EndDeleted {
						t.Errorf("ended as %s", e.Data.Outcome)
					}
					r.stop()
					s.wantNoMoreEvents()
				})
			})
		}
	}
}

// deaden puts n requests into the dead-letter queue that a person is to look at, and one that the broker gave up by itself.
func (s *system) deaden(n int) {
	s.t.Helper()
	s.sendMany(n, func(i int) *azservicebus.Message {
		return &azservicebus.Message{MessageID: new(fmt.Sprint("m", i)), Body: []byte(request(fmt.Sprint("c", i)))}
	})
	e, err := s.Broker.Entity("connection-deletes")
	s.must(err)
	q, err := queue.Open(func() (*azservicebus.Client, error) { return s.dial(s.amqp.Dial), nil }, "connection-deletes", "connection-events", s.log)
	s.must(err)
	defer q.Close(context.Background())
	for e.Counts().Active > 0 {
		deliveries, err := q.Receive(s.t.Context(), 100)
		s.must(err)
		for _, d := range deliveries {
			reason := "ByHand"
			if d.MessageID == "m0" {
				reason = "MaxDeliveryCountExceeded"
			}
			s.must(q.DeadLetter(s.t.Context(), d, reason, "moved", nil))
		}
	}
}

// TestDropAmongOthers drops a few of many. All others are where they were.
func TestDropAmongOthers(t *testing.T) {
	const n = 700
	inVirtualTime(t, seed(""), func(t *testing.T, s *system) {
		s.deaden(n)
		o := s.operator()
		before := s.letters(o)
		wanted := []worker.DeadLetter{before[0], before[5], before[n/2], before[n-1]}
		gone := before[7]
		gone.SequenceNumber = 1 << 40
		became := results{}
		s.must(o.Drop(t.Context(), append(wanted, gone), 50, became.settled))
		for i, d := range wanted {
			if err := became[d.RequestID]; (err == nil) == (d.Reason == "MaxDeliveryCountExceeded") {
				t.Errorf("letter %d, %s: %v", i, d.Reason, err)
			}
		}
		if err := became[gone.RequestID]; err == nil || !strings.Contains(err.Error(), "not there any more") {
			t.Errorf("what is not there: %v", err)
		}
		left := s.letters(o)
		if len(left) != n-3 {
			t.Errorf("%d dead letters are left, want %d", len(left), n-3)
		}
		for _, d := range left {
			if d.SequenceNumber == wanted[1].SequenceNumber || d.SequenceNumber == wanted[3].SequenceNumber {
				t.Errorf("%s is still there", d.RequestID)
			}
		}
		for _, m := range s.deadLetters() {
			if m.DeliveryCount != 1 {
				t.Fatalf("%s was delivered %d times, want its count as it was", m.MessageID, m.DeliveryCount)
			}
		}
		if c := s.counts(); c.Active != 0 {
			t.Errorf("the queue has %+v", c)
		}
	})
}

// TestResubmitPaced keeps its pace, and can be interrupted: what was not begun is told of, and stays.
func TestResubmitPaced(t *testing.T) {
	const n = 30
	inVirtualTime(t, seed(""), func(t *testing.T, s *system) {
		s.deaden(n)
		o := s.operator()
		ctx, interrupt := context.WithCancel(t.Context())
		began := time.Now()
		pace := func(ctx context.Context) error {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(10 * time.Second):
				return nil
			}
		}
		time.AfterFunc(105*time.Second, interrupt)
		became := results{}
		err := o.Resubmit(ctx, s.letters(o), 2, pace, became.settled)
		sent, left := 0, 0
		for id, err := range became {
			switch {
			case err == nil:
				sent++
			case errors.Is(err, context.Canceled):
				left++
			case id != "m0":
				t.Errorf("%s: %v", id, err)
			}
		}
		if sent != 10 || left != n-1-10 || !errors.Is(err, context.Canceled) || time.Since(began) > 3*time.Minute {
			t.Errorf("%d sent and %d left after %s (%v), want 10 after 105 s", sent, left, time.Since(began), err)
		}
		if c := s.counts(); c.Active != 10 || c.DeadLetter != n-10 {
			t.Errorf("the queue has %+v", c)
		}
	})
}

// TestResubmitChild has a request that came of a selector keep the id by which it is known.
func TestResubmitChild(t *testing.T) {
	inVirtualTime(t, seed(`{"deletes":[`+scopeLocked+`,{"status":200}]}`), func(t *testing.T, s *system) {
		s.submit("m", fmt.Sprintf(`[{"id":"e1","source":"x","type":"retired","specversion":"1.0","data":%s},{"id":"e2","source":"x","type":"retired","specversion":"1.0","data":%s}]`,
			request("pec"), request("not-there")))
		r := s.work()
		s.events(3)
		o := s.operator()
		s.counts()
		s.must(o.Resubmit(t.Context(), s.letters(o), 10, atOnce, results{}.settled))
		if e := s.events(1)[0]; e.Data.RequestID != "m/pec" || e.Data.Outcome != worker.EndDeleted {
			t.Errorf("%s ended as %s, want m/pec deleted", e.Data.RequestID, e.Data.Outcome)
		}
		r.stop()
		s.wantHealthy()
	})
}
