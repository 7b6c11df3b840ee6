package queue_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"hsmsweep/internal/emulator/servicebus/broker"
	"hsmsweep/queue"
)

// A settling is a way to end a lock, and what is in the queue afterwards.
type settling struct {
	name string
	do   func(*system, context.Context, *queue.Delivery) error
	left broker.Counts
}

var settlings = []settling{
	{"complete", func(s *system, ctx context.Context, d *queue.Delivery) error { return s.Complete(ctx, d) }, broker.Counts{}},
	{"abandon", func(s *system, ctx context.Context, d *queue.Delivery) error { return s.GiveBack(ctx, d) }, broker.Counts{Active: 1}},
	{"dead-letter", func(s *system, ctx context.Context, d *queue.Delivery) error {
		return s.DeadLetter(ctx, d, "ScopeLocked", "A person must remove the lock.", map[string]any{"n": int64(1)})
	}, broker.Counts{DeadLetter: 1}},
}

// eachSettling runs a test for every way to settle.
func eachSettling(t *testing.T, test func(*testing.T, *system, settling)) {
	t.Helper()
	for _, by := range settlings {
		t.Run(by.name, func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, s *system) { test(t, s, by) })
		})
	}
}

// TestSettle settles over the link, without $management, whatever has become of the step's context.
func TestSettle(t *testing.T) {
	eachSettling(t, func(t *testing.T, s *system, by settling) {
		d := s.putAndTake()
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := by.do(s, ended, d); err != nil {
			t.Fatal(err)
		}
		s.wantLeft(by.left)
		if n := s.managed(settlements); n != 0 {
			t.Errorf("%d settlements by $management, want none", n)
		}
		s.wantNoViolations()

		switch by.name {
		case "abandon":
			if again := s.take(); again.DeliveryCount != 2 {
				t.Errorf("given back for delivery %d, want the second", again.DeliveryCount)
			}
		case "dead-letter":
			dead := s.entity(requests+"/$DeadLetterQueue").Peek(0, 1)[0]
			if p := dead.Properties; p["DeadLetterReason"] != "ScopeLocked" || p["DeadLetterErrorDescription"] != "A person must remove the lock." || p["n"] != int64(1) {
				t.Errorf("dead-lettered with %v", p)
			}
		}
	})
}

// TestSettleWhatIsSettled settles a message that somebody else settled with the lock token, over the link and by lock token.
func TestSettleWhatIsSettled(t *testing.T) {
	for _, over := range []string{"link", "lock token"} {
		t.Run(over, func(t *testing.T) {
			eachSettling(t, func(t *testing.T, s *system, by settling) {
				d := s.putAndTake()
				if err := s.entity(requests).Complete(broker.Token(d.LockToken)); err != nil {
					t.Fatal(err)
				}
				if over == "lock token" {
					if err := s.StopReceiving(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				if err := by.do(s, t.Context(), d); !errors.Is(err, queue.ErrLockLost) {
					t.Errorf("settling: %v, want ErrLockLost", err)
				}
				s.wantLeft(broker.Counts{})
			})
		})
	}
}

// TestSettleTwice settles a message of one's own twice. The SDK remembers what it settled over a link and sends nothing again;
// by lock token the broker says that the lock is gone.
func TestSettleTwice(t *testing.T) {
	eachSettling(t, func(t *testing.T, s *system, by settling) {
		d := s.putAndTake()
		if err := by.do(s, t.Context(), d); err != nil {
			t.Fatal(err)
		}
		if err := s.Complete(t.Context(), d); err != nil {
			t.Errorf("settling again over the link: %v, want what the SDK makes of it, nothing", err)
		}
		s.wantLeft(by.left)
		s.wantNoViolations()
		if err := s.StopReceiving(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.Complete(t.Context(), d); !errors.Is(err, queue.ErrLockLost) {
			t.Errorf("settling again by lock token: %v, want ErrLockLost", err)
		}
		s.wantLeft(by.left)
	})
}

// TestSettleTooLate settles after the lock has run out.
func TestSettleTooLate(t *testing.T) {
	eachSettling(t, func(t *testing.T, s *system, by settling) {
		d := s.putAndTake()
		<-time.After(lock + time.Second)
		if err := by.do(s, t.Context(), d); !errors.Is(err, queue.ErrLockLost) {
			t.Errorf("settling: %v, want ErrLockLost", err)
		}
		s.wantLeft(broker.Counts{Active: 1})
	})
}

// TestSettleAfterCut cuts the connection between receiving and settling. A receive that waits notices; without one the
// settling must find out by itself. The SDK alone would take 40 seconds and fail.
func TestSettleAfterCut(t *testing.T) {
	for _, c := range []struct {
		name    string
		notices bool
		within  time.Duration
	}{
		{"noticed by a receive", true, time.Second},
		{"noticed by nobody", false, 12 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachSettling(t, func(t *testing.T, s *system, by settling) {
				d := s.putAndTake()
				noticed := make(chan struct{})
				go func() {
					defer close(noticed)
					if c.notices {
						_, _ = s.Receive(t.Context(), 1) // returns with the link; what it says is TestReceiveAfterCut's
					}
				}()
				<-time.After(time.Second)
				s.cut()
				<-noticed
				var err error
				waited := took(func() { err = by.do(s, t.Context(), d) })
				if err != nil || waited > c.within {
					t.Errorf("settling ended after %s with error %v, want success within %s", waited, err, c.within)
				}
				if n := s.managed(settlements); n != 1 {
					t.Errorf("%d settlements by lock token, want 1", n)
				}
				if tried := s.triedTheLink(); tried == c.notices {
					t.Errorf("tried over the link that is gone: %v, want that only where nobody noticed", tried)
				}
				s.wantLeft(by.left)
				s.wantNoViolations()
			})
		})
	}
}

// TestSettleInOutage gives up in bounded time: the lock runs out, and the message is somebody else's.
func TestSettleInOutage(t *testing.T) {
	eachSettling(t, func(t *testing.T, s *system, by settling) {
		d := s.putAndTake()
		s.outage()
		var err error
		waited := took(func() { err = by.do(s, t.Context(), d) })
		if err == nil || errors.Is(err, queue.ErrLockLost) || waited > 12*time.Second {
			t.Errorf("settling ended after %s with error %v, want the outage's error within 12 s", waited, err)
		}
	})
}

// TestSettleAfterStopReceiving settles what is in hand when a drain has ended the link, and takes nothing else.
func TestSettleAfterStopReceiving(t *testing.T) {
	eachSettling(t, func(t *testing.T, s *system, by settling) {
		d := s.putAndTake()
		if err := s.StopReceiving(t.Context()); err != nil {
			t.Fatalf("ending the link: %v", err)
		}
		if waited := took(func() {
			if err := by.do(s, t.Context(), d); err != nil {
				t.Errorf("settling: %v", err)
			}
		}); waited > time.Second {
			t.Errorf("settling took %s, want no time-out first", waited)
		}
		if s.triedTheLink() {
			t.Error("tried over the link that is gone")
		}
		if n := s.managed(settlements); n != 1 {
			t.Errorf("%d settlements by lock token, want 1", n)
		}
		s.wantLeft(by.left)
		s.wantNoViolations()
	})
}

// TestStopReceivingTakesNothing ends a link that has credit: what comes afterwards is nobody's, and its delivery not counted.
func TestStopReceivingTakesNothing(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, s *system) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := s.Receive(ctx, 8); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("receiving from an empty queue: %v", err)
		}
		if err := s.StopReceiving(t.Context()); err != nil {
			t.Fatalf("ending the link: %v", err)
		}
		s.put("a")
		<-time.After(2 * lock)
		if d := s.entity(requests).Peek(0, 1)[0]; d.DeliveryCount != 0 {
			t.Errorf("delivered %d times, want never", d.DeliveryCount)
		}
		s.wantLeft(broker.Counts{Active: 1})
		s.wantNoViolations()
	})
}
