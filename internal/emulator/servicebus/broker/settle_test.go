package broker_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"hsmsweep/internal/emulator/servicebus/broker"
)

func TestLockEndsExactlyAtLockedUntil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _ := newQueue(t, broker.QueueConfig{})
		sendIDs(t, q, "first", "second")
		start := time.Now()
		kept, lost := receive(t, q), receive(t, q)
		if want := start.Add(lockDuration); !lost.LockedUntil.Equal(want) {
			t.Fatalf("locked until %v, want %v", lost.LockedUntil, want)
		}
		pass(lockDuration - 1)
		if err := q.Complete(kept.Token); err != nil {
			t.Errorf("complete 1 ns before the lock ends: %v", err)
		}
		wantEmpty(t, q)
		box := consume(t, q, broker.PeekLock, 1)
		pass(1)
		if err := q.Complete(lost.Token); !errors.Is(err, broker.ErrLockLost) {
			t.Errorf("complete when the lock ends: error %v, want ErrLockLost", err)
		}
		if len(box.got()) != 1 || !box.times()[0].Equal(lost.LockedUntil) {
			t.Fatalf("redelivered %v at %v, want once at %v", box.ids(), box.times(), lost.LockedUntil)
		}
		if d := box.got()[0]; d.Token == lost.Token || d.SequenceNumber != lost.SequenceNumber || d.DeliveryCount != 1 {
			t.Errorf("redelivery has token new: %v, number %d, count %d; want true, %d, 1",
				d.Token != lost.Token, d.SequenceNumber, d.DeliveryCount, lost.SequenceNumber)
		}
	})
}

func TestTokensAreRandomUUIDs(t *testing.T) {
	q, _ := newQueue(t, broker.QueueConfig{})
	sendIDs(t, q, "a", "b")
	a, b := receive(t, q).Token, receive(t, q).Token
	if a == b {
		t.Errorf("two locks have the token %x", a)
	}
	if a[6]>>4 != 4 || a[8]>>6 != 2 {
		t.Errorf("token %x is no version 4 uuid", a)
	}
}

func TestRedeliveryKeepsItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _ := newQueue(t, broker.QueueConfig{})
		sendIDs(t, q, "1", "2", "3", "4")
		abandoned, released, _ := receive(t, q), receive(t, q), receive(t, q)
		must(t, q.Release(released.Token))
		must(t, q.Abandon(abandoned.Token, nil))
		if got := consume(t, q, broker.ReceiveAndDelete, 9).ids(); !cmp.Equal(got, []string{"1", "2", "4"}) {
			t.Errorf("delivered %v, want 1 2 4", got)
		}
	})
}

func TestDeliveryCount(t *testing.T) {
	abandon := func(e *broker.Entity, d *broker.Delivery) error { return e.Abandon(d.Token, nil) }
	release := func(e *broker.Entity, d *broker.Delivery) error { return e.Release(d.Token) }
	expire := func(_ *broker.Entity, d *broker.Delivery) error { pass(time.Until(d.LockedUntil)); return nil }
	tests := []struct {
		name       string
		end        func(*broker.Entity, *broker.Delivery) error
		deadLetter bool
		want       int
	}{
		{"abandoned", abandon, false, 1},
		{"released", release, false, 0},
		{"lock expired", expire, false, 1},
		{"abandoned in the dead-letter queue", abandon, true, 0},
		{"released in the dead-letter queue", release, true, 0},
		{"lock expired in the dead-letter queue", expire, true, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e, deadLetter := newQueue(t, broker.QueueConfig{MaxDeliveryCount: 2})
				sendIDs(t, e, "m")
				if test.deadLetter {
					must(t, e.DeadLetter(receive(t, e).Token, "", "", nil))
					e = deadLetter
				}
				first := receive(t, e)
				if first.DeliveryCount != 0 {
					t.Errorf("first delivery has count %d, want 0", first.DeliveryCount)
				}
				must(t, test.end(e, first))
				if got := receive(t, e).DeliveryCount; got != test.want {
					t.Errorf("second delivery has count %d, want %d", got, test.want)
				}
			})
		})
	}
}

func TestMaxDeliveryCount(t *testing.T) {
	for _, test := range []struct {
		name string
		fail func(*broker.Entity, *broker.Delivery) error
	}{
		{"abandoned", func(e *broker.Entity, d *broker.Delivery) error { return e.Abandon(d.Token, nil) }},
		{"lock expired", func(_ *broker.Entity, d *broker.Delivery) error { pass(time.Until(d.LockedUntil)); return nil }},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, deadLetter := newQueue(t, broker.QueueConfig{MaxDeliveryCount: 3})
				sendIDs(t, q, "m")
				for range 3 {
					must(t, test.fail(q, receive(t, q)))
				}
				wantEmpty(t, q)
				d := receive(t, deadLetter)
				if d.DeliveryCount != 3 || d.Properties["DeadLetterReason"] != "MaxDeliveryCountExceeded" {
					t.Errorf("dead letter has count %d and properties %v, want 3 and MaxDeliveryCountExceeded", d.DeliveryCount, d.Properties)
				}
				if s, ok := d.Properties["DeadLetterErrorDescription"].(string); !ok || s == "" {
					t.Errorf("dead letter has no description: %v", d.Properties)
				}
			})
		})
	}
}

func TestDeadLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, deadLetter := newQueue(t, broker.QueueConfig{})
		sendIDs(t, q, "other", "m")
		start := time.Now()
		must(t, q.Complete(receive(t, q).Token))
		must(t, q.Abandon(receive(t, q).Token, map[string]any{"kept": 1, "changed": 1}))
		pass(time.Second)
		must(t, q.DeadLetter(receive(t, q).Token, "why", "because", map[string]any{"changed": 2}))

		got := receive(t, deadLetter)
		want := &broker.Delivery{
			Message:                &broker.Message{ID: "m", Size: 1},
			SequenceNumber:         1,
			EnqueuedSequenceNumber: 2,
			EnqueuedTime:           start.UTC().Round(0),
			LockedUntil:            time.Now().Add(lockDuration).UTC().Round(0),
			Token:                  got.Token,
			DeliveryCount:          1,
			DeadLetterSource:       "q",
			Properties: map[string]any{
				"kept": 1, "changed": 2, "DeadLetterReason": "why", "DeadLetterErrorDescription": "because",
			},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("dead letter (-want +got):\n%s", diff)
		}
		wantCounts(t, q, broker.Counts{DeadLetter: 1, Bytes: 1})
		wantCounts(t, deadLetter, broker.Counts{Active: 1, Bytes: 1})

		if err := deadLetter.DeadLetter(got.Token, "again", "", nil); !errors.Is(err, broker.ErrNotAllowed) {
			t.Errorf("dead-letter a dead letter: error %v, want ErrNotAllowed", err)
		}
		must(t, deadLetter.Complete(got.Token))
		wantCounts(t, q, broker.Counts{})
	})
}

func TestPropertiesDoNotChangeWhatWasHandedOut(t *testing.T) {
	q, _ := newQueue(t, broker.QueueConfig{})
	sendIDs(t, q, "m")
	must(t, q.Abandon(receive(t, q).Token, map[string]any{"try": 1}))
	first := receive(t, q)
	must(t, q.Abandon(first.Token, map[string]any{"try": 2}))
	second := receive(t, q)
	if first.Properties["try"] != 1 || second.Properties["try"] != 2 {
		t.Errorf("properties are %v, then %v; want try 1, then 2", first.Properties, second.Properties)
	}
}

func TestRenew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _ := newQueue(t, broker.QueueConfig{})
		sendIDs(t, q, "m")
		d := receive(t, q)
		pass(lockDuration - 1)
		until, err := q.Renew(d.Token)
		if want := time.Now().Add(lockDuration); err != nil || !until.Equal(want) {
			t.Fatalf("renew: %v, error %v, want %v", until, err, want)
		}
		pass(lockDuration - 1)
		wantEmpty(t, q)
		pass(1)
		if _, err := q.Renew(d.Token); !errors.Is(err, broker.ErrLockLost) {
			t.Errorf("renew after the end: error %v, want ErrLockLost", err)
		}
		receive(t, q)
	})
}

func TestDefer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, deadLetter := newQueue(t, broker.QueueConfig{MaxDeliveryCount: 3})
		sendIDs(t, q, "m")
		must(t, q.Defer(receive(t, q).Token, map[string]any{"seen": true}))
		wantEmpty(t, q)
		wantCounts(t, q, broker.Counts{Deferred: 1, Bytes: 1})

		retrieve := func(wantCount int) *broker.Delivery {
			t.Helper()
			ds, err := q.ReceiveDeferred(broker.PeekLock, 1)
			if err != nil {
				t.Fatal(err)
			}
			d := ds[0]
			if d.State != broker.Deferred || d.DeliveryCount != wantCount || d.Properties["seen"] != true || d.LockedUntil.IsZero() {
				t.Fatalf("deferred delivery %+v, want state deferred, count %d, property seen, a lock", d, wantCount)
			}
			return d
		}
		d := retrieve(0)
		if _, err := q.ReceiveDeferred(broker.PeekLock, 1); !errors.Is(err, broker.ErrMessageNotFound) {
			t.Errorf("receive a locked one: error %v, want ErrMessageNotFound", err)
		}
		must(t, q.Release(d.Token))
		must(t, q.Abandon(retrieve(0).Token, nil))
		pass(time.Until(retrieve(1).LockedUntil))
		wantEmpty(t, q)
		must(t, q.Abandon(retrieve(2).Token, nil))
		if d := receive(t, deadLetter); d.DeliveryCount != 3 || d.State != broker.Active {
			t.Errorf("dead letter has count %d and state %d, want 3, active", d.DeliveryCount, d.State)
		}
	})
}

func TestReceiveDeferredIsAllOrNone(t *testing.T) {
	q, _ := newQueue(t, broker.QueueConfig{})
	sendIDs(t, q, "1", "2", "3")
	for range 2 {
		must(t, q.Defer(receive(t, q).Token, nil))
	}
	for _, numbers := range [][]int64{{1, 3}, {1, 4}, {1, 2, 1}, {0}} {
		if _, err := q.ReceiveDeferred(broker.ReceiveAndDelete, numbers...); !errors.Is(err, broker.ErrMessageNotFound) {
			t.Errorf("ReceiveDeferred(%v): error %v, want ErrMessageNotFound", numbers, err)
		}
	}
	ds, err := q.ReceiveDeferred(broker.ReceiveAndDelete, 2, 1)
	if err != nil || len(ds) != 2 || ds[0].Message.ID != "2" || ds[1].Message.ID != "1" {
		t.Fatalf("ReceiveDeferred(2, 1) = %v, %v", ds, err)
	}
	wantCounts(t, q, broker.Counts{Active: 1, Bytes: 1})
}

func TestViolations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, oneQueue(broker.QueueConfig{}))
		q := entity(t, b, "q")
		sendIDs(t, q, "settled", "expired")
		settled, expired := receive(t, q), receive(t, q)
		must(t, q.Complete(settled.Token))
		if got := b.Violations(); got != (broker.Violations{}) {
			t.Errorf("violations %+v of a correct client, want none", got)
		}
		pass(lockDuration)
		for _, token := range []broker.Token{settled.Token, expired.Token, {}} {
			if err := q.Complete(token); !errors.Is(err, broker.ErrLockLost) {
				t.Errorf("complete %x: error %v, want ErrLockLost", token, err)
			}
		}
		want := broker.Violations{SettledTwice: 1, SettledAfterLock: 1, SettledUnknown: 1, LockExpired: 1}
		if diff := cmp.Diff(want, b.Violations()); diff != "" {
			t.Errorf("violations (-want +got):\n%s", diff)
		}
	})
}
