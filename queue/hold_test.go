package queue_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"hsmsweep/internal/emulator/servicebus/broker"
	"hsmsweep/queue"
)

// TestHoldRenewsAfterHalf looks at the requests to $management before and after half of the lock.
func TestHoldRenewsAfterHalf(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, s *system) {
		d := s.putAndTake()
		_, release := s.Hold(t.Context(), d)
		for _, at := range []struct {
			wait time.Duration
			want int
		}{{lock/2 - time.Second, 0}, {2 * time.Second, 1}} {
			<-time.After(at.wait)
			synctest.Wait()
			if n := s.managed(renewals); n != at.want {
				t.Errorf("%d renewals %s after receiving, want %d", n, lock-time.Until(*d.LockedUntil), at.want)
			}
		}
		release()
		if err := s.Complete(t.Context(), d); err != nil {
			t.Errorf("completing: %v", err)
		}
	})
}

// TestHoldForLong keeps a lock for an hour of a minute each, and nothing happens after the release.
func TestHoldForLong(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, s *system) {
		d := s.putAndTake()
		held, release := s.Hold(t.Context(), d)
		<-time.After(time.Hour)
		synctest.Wait()
		if held.Err() != nil {
			t.Fatalf("not held any more: %v", context.Cause(held))
		}
		kept := s.managed(renewals)
		if kept < 60 || kept > 120 {
			t.Errorf("%d renewals in an hour, want one for every half of a lock", kept)
		}
		release()
		if err := s.Complete(t.Context(), d); err != nil {
			t.Errorf("completing: %v", err)
		}
		<-time.After(time.Hour)
		if n := s.managed(renewals); n != kept {
			t.Errorf("%d renewals after the release, want none", n-kept)
		}
		s.wantLeft(broker.Counts{})
		s.wantNoViolations()
	})
}

// TestHoldReleased ends the step's context with the release, without a lost lock and without a renewal.
func TestHoldReleased(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, s *system) {
		d := s.putAndTake()
		held, release := s.Hold(t.Context(), d)
		release()
		if cause := context.Cause(held); !errors.Is(cause, context.Canceled) {
			t.Errorf("ended with %v, want context.Canceled", cause)
		}
		<-time.After(2 * lock)
		synctest.Wait()
		if n := s.managed(renewals); n != 0 {
			t.Errorf("%d renewals after the release, want none", n)
		}
		if v := s.broker.Violations(); v.LockExpired != 1 {
			t.Errorf("the broker saw %+v, want the lock to run out that nobody holds", v)
		}
	})
}

// TestHoldEndsWithItsContext passes the caller's cause on.
func TestHoldEndsWithItsContext(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, s *system) {
		d := s.putAndTake()
		drained := errors.New("the grace period is over")
		ctx, cut := context.WithCancelCause(t.Context())
		held, release := s.Hold(ctx, d)
		<-time.After(lock) // the renewal has begun by now
		cut(drained)
		if cause := context.Cause(held); cause != drained {
			t.Errorf("ended with %v, want the caller's cause", cause)
		}
		if waited := took(release); waited > 0 {
			t.Errorf("the release took %s, want no time", waited)
		}
	})
}

// TestHoldLost ends the step's context once the lock is known to be lost.
func TestHoldLost(t *testing.T) {
	for _, c := range []struct {
		name   string
		lose   func(*system, *queue.Delivery) error
		within time.Duration
	}{
		{"settled by somebody with the token", func(s *system, d *queue.Delivery) error {
			return s.entity(requests).Complete(broker.Token(d.LockToken))
		}, lock/2 + time.Second},
		{"given back by an operator", func(s *system, d *queue.Delivery) error {
			return s.entity(requests).Abandon(broker.Token(d.LockToken), nil)
		}, lock/2 + time.Second},
		{"no broker until it has run out", func(s *system, _ *queue.Delivery) error {
			s.outage()
			return nil
		}, lock + 2*time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, s *system) {
				d := s.putAndTake()
				held, release := s.Hold(t.Context(), d)
				if err := c.lose(s, d); err != nil {
					t.Fatal(err)
				}
				select {
				case <-held.Done():
				case <-time.After(c.within):
				}
				if cause := context.Cause(held); !errors.Is(cause, queue.ErrLockLost) {
					t.Errorf("%s after receiving the step's context says %v, want ErrLockLost", c.within, cause)
				}
				release()
			})
		})
	}
}

// TestHoldOverCut renews over a new connection when the old one was cut: the step goes on.
func TestHoldOverCut(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, s *system) {
		d := s.putAndTake()
		held, release := s.Hold(t.Context(), d)
		<-time.After(lock)
		s.cut()
		<-time.After(3 * lock)
		synctest.Wait()
		if held.Err() != nil {
			t.Errorf("not held any more: %v", context.Cause(held))
		}
		release()
		if err := s.Complete(t.Context(), d); err != nil {
			t.Errorf("completing: %v", err)
		}
		s.wantLeft(broker.Counts{})
		s.wantNoViolations()
	})
}

// TestReleaseInOutage releases while a renewal is under way that nobody answers.
func TestReleaseInOutage(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, s *system) {
		d := s.putAndTake()
		_, release := s.Hold(t.Context(), d)
		s.outage()
		<-time.After(lock/2 + time.Second)
		if waited := took(release); waited > time.Second {
			t.Errorf("the release took %s, want it to end the renewal", waited)
		}
	})
}
