package queue_test

import (
	"context"
	"errors"
	"sort"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"hsmsweep/internal/emulator/servicebus/broker"
	"hsmsweep/queue"
)

func TestReceive(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, s *system) {
		s.put("a", "b", "c")
		var bodies []string
		for _, want := range []int{2, 1} {
			deliveries, err := s.Receive(t.Context(), 2)
			if err != nil || len(deliveries) != want {
				t.Fatalf("received %d messages and error %v, want %d messages of the 2 asked for", len(deliveries), err, want)
			}
			for _, d := range deliveries {
				bodies = append(bodies, string(d.Body))
				if d.DeliveryCount != 1 || time.Until(*d.LockedUntil) < lock-time.Second {
					t.Errorf("%s: delivery %d, %s left of the lock, want the first and about %s", d.Body, d.DeliveryCount, time.Until(*d.LockedUntil), lock)
				}
				if err := s.Complete(t.Context(), d); err != nil {
					t.Errorf("completing %s: %v", d.Body, err)
				}
			}
		}
		if got := strings.Join(bodies, ""); got != "abc" {
			t.Errorf("received %s, want abc", got)
		}
		s.wantLeft(broker.Counts{})
		s.wantNoViolations()
	})
}

// TestReceiveWaits has an empty queue: receiving waits for a message, and for the end of its context.
func TestReceiveWaits(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, s *system) {
		if err := s.Send(t.Context(), text("later"), time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		var d *queue.Delivery
		if waited := took(func() { d = s.take() }); waited < 59*time.Minute || waited > 61*time.Minute {
			t.Errorf("the message came after %s, want an hour", waited)
		}
		if err := s.Complete(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		deliveries, err := s.Receive(ctx, 1)
		if len(deliveries) != 0 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("received %d messages and error %v, want nothing and the context's error", len(deliveries), err)
		}
	})
}

// TestReceiveAfterCut has the connection cut while receiving waits: it says so with nothing, and the next call reconnects.
func TestReceiveAfterCut(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, s *system) {
		time.AfterFunc(time.Minute, s.server.CloseConnections)
		deliveries, err := s.Receive(t.Context(), 1)
		if len(deliveries) != 0 || err != nil {
			t.Errorf("received %d messages and error %v when the connection was cut, want neither", len(deliveries), err)
		}
		if err := s.Complete(t.Context(), s.putAndTake()); err != nil {
			t.Errorf("completing what came over the new connection: %v", err)
		}
		if n := s.managed(settlements); n != 0 {
			t.Errorf("%d settlements by $management, want none: the link is a new one", n)
		}
		s.wantLeft(broker.Counts{})
	})
}

// TestSendNeverEarly schedules messages between two of AMQP's milliseconds.
func TestSendNeverEarly(t *testing.T) {
	for _, after := range []time.Duration{
		time.Nanosecond, time.Microsecond, 999999 * time.Nanosecond, time.Millisecond, time.Millisecond + 1,
		time.Second - 1, time.Second, time.Second + 1, 24*time.Hour + 500*time.Microsecond,
	} {
		t.Run(after.String(), func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, s *system) {
				if err := s.Connect(t.Context()); err != nil {
					t.Fatal(err)
				}
				at := time.Now().Add(after)
				if err := s.Send(t.Context(), text("body"), at); err != nil {
					t.Fatal(err)
				}
				d := s.take()
				if late := time.Since(at); late < 0 || late >= 2*time.Millisecond {
					t.Errorf("received %s after its time, want 0 to 2 ms", late)
				}
				if early := at.Sub(*d.EnqueuedTime); early > 0 {
					t.Errorf("enqueued %s before its time", early)
				}
			})
		})
	}
}

// TestSendAtOnce has times that are no wait.
func TestSendAtOnce(t *testing.T) {
	for name, at := range map[string]time.Duration{"now": 0, "past": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, s *system) {
				if err := s.Send(t.Context(), text("body"), time.Now().Add(at)); err != nil {
					t.Fatal(err)
				}
				if waited := took(func() { s.take() }); waited > 10*time.Millisecond {
					t.Errorf("received after %s, want at once", waited)
				}
			})
		})
	}
}

// TestSendOutlivesTheStep sends with a context that has ended, as at a drain, and gives up in time when nobody answers.
func TestSendOutlivesTheStep(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, s *system) {
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.Send(ended, text("body"), time.Time{}); err != nil {
			t.Errorf("sending with a context that has ended: %v", err)
		}
		if err := s.Publish(ended, text("event")); err != nil {
			t.Errorf("publishing with a context that has ended: %v", err)
		}
		s.wantLeft(broker.Counts{Active: 1})
		if n := s.entity(events + "/Subscriptions/all").Counts().Active; n != 1 {
			t.Errorf("%d events, want 1", n)
		}

		s.outage()
		var err error
		waited := took(func() { err = s.Send(t.Context(), text("body"), time.Time{}) })
		if err == nil || waited > 16*time.Second {
			t.Errorf("sending in an outage ended after %s with error %v, want an error within 15 s", waited, err)
		}
	})
}

// TestSendToSilence gives up when the broker's host takes connections and says nothing.
func TestSendToSilence(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, s *system) {
		s.silent.Store(true)
		var err error
		waited := took(func() { err = s.Send(t.Context(), text("body"), time.Time{}) })
		if err == nil || waited > 16*time.Second {
			t.Errorf("sending ended after %s with error %v, want an error within 15 s", waited, err)
		}
	})
}

// TestDuplicates sends every id twice: what is scheduled and what is published is there once.
func TestDuplicates(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, s *system) {
		for range 2 {
			if err := s.Send(t.Context(), &azservicebus.Message{MessageID: new("lineage/1"), Body: []byte("body")}, time.Now().Add(time.Hour)); err != nil {
				t.Error(err)
			}
			if err := s.Publish(t.Context(), &azservicebus.Message{MessageID: new("lineage/end"), Body: []byte("event")}); err != nil {
				t.Error(err)
			}
		}
		s.wantLeft(broker.Counts{Scheduled: 1})
		if n := s.entity(events + "/Subscriptions/all").Counts().Active; n != 1 {
			t.Errorf("%d events, want 1", n)
		}
	})
}

// TestFits looks for the largest body that fits: the broker takes it, and the limit is the broker's 256 KiB. What fits is
// reckoned as for a batch, where the properties count twice, so that a message a little larger would go as well.
func TestFits(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, s *system) {
		const (
			limit      = 256 << 10
			properties = 1000
			headers    = 500 // at most
		)
		message := func(size int) *azservicebus.Message {
			return &azservicebus.Message{Body: make([]byte, size), ApplicationProperties: map[string]any{"state": strings.Repeat("s", properties)}}
		}
		fits := func(size int) bool {
			ok, err := s.Fits(t.Context(), message(size))
			if err != nil {
				t.Fatalf("a body of %d bytes: %v", size, err)
			}
			return ok
		}
		largest := sort.Search(limit, func(size int) bool { return !fits(size) }) - 1
		if least := limit - 2*properties - headers; largest < least || largest > limit-properties {
			t.Errorf("with %d bytes of properties a body of %d bytes is the largest that fits, want %d to %d", properties, largest, least, limit-properties)
		}
		if err := s.Send(t.Context(), message(largest), time.Time{}); err != nil {
			t.Errorf("sending what fits: %v", err)
		}
		if err := s.Send(t.Context(), message(limit), time.Time{}); !errors.Is(err, azservicebus.ErrMessageTooLarge) {
			t.Errorf("sending what does not fit: %v, want ErrMessageTooLarge", err)
		}
		s.wantLeft(broker.Counts{Active: 1})
	})
}

// TestConnect tells what is wrong before the first message is taken.
func TestConnect(t *testing.T) {
	for _, c := range []struct {
		name, requests, events string
		want                   string // in the error; empty: none
	}{
		{name: "as it should be", requests: requests, events: events},
		{name: "unknown queue", requests: "deletes", events: events, want: "deletes"},
		{name: "unknown topic", requests: requests, events: "happenings", want: "happenings"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, s *system) {
				q := s.open(c.requests, c.events)
				defer q.Close(context.Background())
				err := q.Connect(t.Context())
				if c.want == "" && err != nil {
					t.Errorf("connecting: %v", err)
				}
				if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
					t.Errorf("connecting: %v, want an error that names %q", err, c.want)
				}
			})
		})
	}
}

// TestConnectWithoutBroker fails in bounded time, and succeeds once the broker is there.
func TestConnectWithoutBroker(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, s *system) {
		s.outage()
		var err error
		if waited := took(func() { err = s.Connect(t.Context()) }); err == nil || waited > time.Minute {
			t.Errorf("connecting ended after %s with error %v, want an error within a minute", waited, err)
		}
		s.down.Store(false)
		if err := s.Connect(t.Context()); err != nil {
			t.Errorf("connecting once the broker is there: %v", err)
		}
	})
}

// TestClose ends everything: what is still locked comes back when its lock has run out, and every call fails at once.
func TestClose(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, s *system) {
		d := s.putAndTake()
		if err := s.Close(t.Context()); err != nil {
			t.Fatalf("closing: %v", err)
		}
		for name, call := range map[string]func() error{
			"Receive":  func() error { _, err := s.Receive(t.Context(), 1); return err },
			"Send":     func() error { return s.Send(t.Context(), text("body"), time.Time{}) },
			"Publish":  func() error { return s.Publish(t.Context(), text("event")) },
			"Connect":  func() error { return s.Connect(t.Context()) },
			"Complete": func() error { return s.Complete(t.Context(), d) },
		} {
			var err error
			if waited := took(func() { err = call() }); err == nil || waited > time.Second {
				t.Errorf("%s on a closed queue ended after %s with error %v, want an error at once", name, waited, err)
			}
		}
		<-time.After(lock)
		synctest.Wait()

		other := &system{Queue: s.open(requests, events), t: t}
		defer other.Close(context.Background())
		if again := other.take(); again.DeliveryCount != 2 {
			t.Errorf("delivery %d, want the second", again.DeliveryCount)
		}
	})
}
