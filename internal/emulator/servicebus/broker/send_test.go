package broker_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"hsmsweep/internal/emulator/servicebus/broker"
)

func TestMessagesAreNumberedAndDeliveredInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _ := newQueue(t, broker.QueueConfig{})
		message := &broker.Message{ID: "a", Size: 7, Content: "content"}
		numbers := send(t, q, message, &broker.Message{ID: "b"}, &broker.Message{ID: "c"})
		if diff := cmp.Diff([]int64{1, 2, 3}, numbers); diff != "" {
			t.Errorf("sequence numbers (-want +got):\n%s", diff)
		}
		got := receive(t, q)
		want := &broker.Delivery{
			Message:        message,
			SequenceNumber: 1,
			EnqueuedTime:   time.Now().UTC().Round(0),
			LockedUntil:    time.Now().Add(lockDuration).UTC().Round(0),
			Token:          got.Token,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("delivery (-want +got):\n%s", diff)
		}
		if ids := consume(t, q, broker.PeekLock, 9).ids(); !cmp.Equal(ids, []string{"b", "c"}) {
			t.Errorf("then delivered %v, want b c", ids)
		}
		wantCounts(t, q, broker.Counts{Active: 3, Bytes: 7})
	})
}

func TestScheduledMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _ := newQueue(t, broker.QueueConfig{})
		sent := time.Now().UTC().Round(0)
		due := sent.Add(24 * time.Hour)
		box := consume(t, q, broker.ReceiveAndDelete, 9)
		send(t, q,
			&broker.Message{ID: "late", ScheduledFor: due.Add(1)},
			&broker.Message{ID: "due", ScheduledFor: due, TTL: time.Minute},
			&broker.Message{ID: "too", ScheduledFor: due},
			&broker.Message{ID: "past", ScheduledFor: sent.Add(-time.Hour)},
			&broker.Message{ID: "now", ScheduledFor: sent})
		if ids := box.ids(); !cmp.Equal(ids, []string{"past", "now"}) {
			t.Errorf("at once delivered %v, want past now", ids)
		}
		wantCounts(t, q, broker.Counts{Scheduled: 3})
		if d := q.Peek(2, 1)[0]; d.State != broker.Scheduled || !d.EnqueuedTime.Equal(sent) || !d.ExpiresAt.IsZero() {
			t.Errorf("peeked %+v, want state scheduled, enqueued when sent, no expiry yet", d)
		}
		pass(24 * time.Hour)
		if ids := box.ids(); !cmp.Equal(ids, []string{"past", "now", "due", "too"}) {
			t.Fatalf("a day later delivered %v, want due and too as well", ids)
		}
		want := &broker.Delivery{
			Message:        &broker.Message{ID: "due", ScheduledFor: due, TTL: time.Minute},
			SequenceNumber: 6, // a new one, behind the five that were sent
			EnqueuedTime:   due,
			ExpiresAt:      due.Add(time.Minute),
		}
		if diff := cmp.Diff(want, box.got()[2]); diff != "" {
			t.Errorf("delivery (-want +got):\n%s", diff)
		}
		if !box.times()[2].Equal(due) {
			t.Errorf("delivered at %v, want %v", box.times()[2], due)
		}
		pass(1)
		if !box.times()[4].Equal(due.Add(1)) {
			t.Errorf("the late one was delivered at %v, want 1 ns after %v", box.times()[4], due)
		}
	})
}

func TestCancelScheduled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _ := newQueue(t, broker.QueueConfig{})
		due := time.Now().Add(time.Minute)
		send(t, q, &broker.Message{ScheduledFor: due}, &broker.Message{ScheduledFor: due}, &broker.Message{ID: "active"})
		for _, numbers := range [][]int64{{1, 3}, {1, 4}, {1, 1}} {
			if err := q.CancelScheduled(numbers...); !errors.Is(err, broker.ErrMessageNotFound) {
				t.Errorf("CancelScheduled(%v): error %v, want ErrMessageNotFound", numbers, err)
			}
		}
		wantCounts(t, q, broker.Counts{Active: 1, Scheduled: 2})
		must(t, q.CancelScheduled(1))
		wantCounts(t, q, broker.Counts{Active: 1, Scheduled: 1})
		pass(time.Minute)
		if err := q.CancelScheduled(2); !errors.Is(err, broker.ErrMessageNotFound) {
			t.Errorf("cancel at its time: error %v, want ErrMessageNotFound", err)
		}
		wantCounts(t, q, broker.Counts{Active: 2})
	})
}

func TestTimeToLive(t *testing.T) {
	const minute = time.Minute
	tests := []struct {
		message, entity, want time.Duration // want 0 = for ever
	}{
		{0, 0, 0},
		{minute, 0, minute},
		{0, minute, minute},
		{minute, 2 * minute, minute},
		{2 * minute, minute, minute},
	}
	for _, test := range tests {
		for _, deadLetters := range []bool{false, true} {
			t.Run(fmt.Sprintf("message %v, entity %v, dead-letter %v", test.message, test.entity, deadLetters), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					q, deadLetter := newQueue(t, broker.QueueConfig{DefaultMessageTTL: test.entity, DeadLetterOnExpiration: deadLetters})
					send(t, q, &broker.Message{ID: "m", TTL: test.message})
					if test.want == 0 {
						pass(365 * 24 * time.Hour)
						wantCounts(t, q, broker.Counts{Active: 1})
						return
					}
					if got := time.Until(q.Peek(0, 1)[0].ExpiresAt); got != test.want {
						t.Errorf("expires in %v, want %v", got, test.want)
					}
					pass(test.want - 1)
					wantCounts(t, q, broker.Counts{Active: 1})
					pass(1)
					if !deadLetters {
						wantCounts(t, q, broker.Counts{})
						return
					}
					wantCounts(t, q, broker.Counts{DeadLetter: 1})
					pass(365 * 24 * time.Hour)
					if got := receive(t, deadLetter).Properties["DeadLetterReason"]; got != "TTLExpiredException" {
						t.Errorf("reason %v, want TTLExpiredException", got)
					}
				})
			})
		}
	}
}

func TestLockedMessagesExpireWhenUnlocked(t *testing.T) {
	const ttl = 10 * time.Second // less than the lock
	tests := []struct {
		name   string
		unlock func(*broker.Entity, *broker.Delivery) error
		want   broker.Counts
	}{
		{"completed", func(e *broker.Entity, d *broker.Delivery) error { return e.Complete(d.Token) }, broker.Counts{}},
		{"abandoned", func(e *broker.Entity, d *broker.Delivery) error { return e.Abandon(d.Token, nil) }, broker.Counts{DeadLetter: 1}},
		{"released", func(e *broker.Entity, d *broker.Delivery) error { return e.Release(d.Token) }, broker.Counts{DeadLetter: 1}},
		{"lock expired", func(*broker.Entity, *broker.Delivery) error { pass(lockDuration - ttl); return nil }, broker.Counts{DeadLetter: 1}},
		{"deferred", func(e *broker.Entity, d *broker.Delivery) error { return e.Defer(d.Token, nil) }, broker.Counts{Deferred: 1}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, _ := newQueue(t, broker.QueueConfig{DeadLetterOnExpiration: true})
				send(t, q, &broker.Message{TTL: ttl})
				d := receive(t, q)
				pass(ttl)
				wantCounts(t, q, broker.Counts{Active: 1})
				waiting := consume(t, q, broker.PeekLock, 1)
				must(t, test.unlock(q, d))
				if len(waiting.got()) > 0 {
					t.Error("delivered again after it expired")
				}
				wantCounts(t, q, test.want)
			})
		})
	}
}

func TestDeferredMessagesExpireWhenRetrieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, deadLetter := newQueue(t, broker.QueueConfig{DeadLetterOnExpiration: true})
		send(t, q, &broker.Message{TTL: time.Minute})
		must(t, q.Defer(receive(t, q).Token, nil))
		pass(time.Hour)
		wantCounts(t, q, broker.Counts{Deferred: 1})
		if _, err := q.ReceiveDeferred(broker.PeekLock, 1); !errors.Is(err, broker.ErrMessageNotFound) {
			t.Errorf("error %v, want ErrMessageNotFound", err)
		}
		if got := receive(t, deadLetter).Properties["DeadLetterReason"]; got != "TTLExpiredException" {
			t.Errorf("reason %v, want TTLExpiredException", got)
		}
	})
}

func TestDuplicates(t *testing.T) {
	const window = 10 * time.Minute
	deduplicating := broker.QueueConfig{DuplicateDetectionWindow: window}
	// Every step sends one message and wants its number; a repeat has the number of the first.
	type step struct {
		after time.Duration // since the step before
		id    string
		delay time.Duration // scheduled so much later
		want  int64
	}
	tests := []struct {
		name   string
		config broker.QueueConfig
		steps  []step
	}{
		{"inside the window", deduplicating, []step{{0, "a", 0, 1}, {window - 1, "a", 0, 1}}},
		{"at the end of the window", deduplicating, []step{{0, "a", 0, 1}, {window, "a", 0, 2}}},
		{"a repeat does not extend it", deduplicating, []step{{0, "a", 0, 1}, {window / 2, "a", 0, 1}, {window / 2, "a", 0, 2}, {window - 1, "a", 0, 2}}},
		{"other ids", deduplicating, []step{{0, "a", 0, 1}, {0, "b", 0, 2}, {0, "a", 0, 1}, {0, "b", 0, 2}}},
		{"no id", deduplicating, []step{{0, "", 0, 1}, {0, "", 0, 2}}},
		{"off", broker.QueueConfig{}, []step{{0, "a", 0, 1}, {0, "a", 0, 2}}},
		{"scheduled ones count when sent", deduplicating, []step{{0, "a", time.Hour, 1}, {0, "a", 0, 1}, {window, "a", 0, 2}}},
		{"scheduled repeat", deduplicating, []step{{0, "a", 0, 1}, {0, "a", time.Hour, 1}}},
		{"activation opens no window", deduplicating, []step{{0, "a", time.Hour, 1}, {time.Hour, "a", 0, 3}}}, // 2 is the activated one's
		{"activation closes no message out", deduplicating, []step{{0, "a", time.Hour, 1}, {time.Hour - 1, "a", 0, 2}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, _ := newQueue(t, test.config)
				distinct := map[int64]bool{}
				for i, s := range test.steps {
					pass(s.after)
					m := &broker.Message{ID: s.id}
					if s.delay > 0 {
						m.ScheduledFor = time.Now().Add(s.delay)
					}
					if got := send(t, q, m)[0]; got != s.want {
						t.Errorf("step %d: number %d, want %d", i, got, s.want)
					}
					distinct[s.want] = true
				}
				pass(2 * time.Hour)
				wantCounts(t, q, broker.Counts{Active: len(distinct)})
			})
		})
	}
}

func TestDuplicateOfAMessageThatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _ := newQueue(t, broker.QueueConfig{DuplicateDetectionWindow: time.Minute})
		sendIDs(t, q, "completed")
		must(t, q.Complete(receive(t, q).Token))
		send(t, q, &broker.Message{ID: "cancelled", ScheduledFor: time.Now().Add(time.Hour)})
		must(t, q.CancelScheduled(2))
		sendIDs(t, q, "completed", "cancelled")
		wantCounts(t, q, broker.Counts{})
	})
}

func TestDuplicatesInsideABatch(t *testing.T) {
	q, _ := newQueue(t, broker.QueueConfig{DuplicateDetectionWindow: time.Minute})
	numbers := send(t, q, &broker.Message{ID: "a"}, &broker.Message{ID: "b"}, &broker.Message{ID: "a"})
	if diff := cmp.Diff([]int64{1, 2, 1}, numbers); diff != "" {
		t.Errorf("numbers (-want +got):\n%s", diff)
	}
	wantCounts(t, q, broker.Counts{Active: 2})
}

func TestFull(t *testing.T) {
	q, deadLetter := newQueue(t, broker.QueueConfig{MaxSizeBytes: 10, DuplicateDetectionWindow: time.Minute})
	send(t, q, &broker.Message{ID: "a", Size: 6})
	must(t, q.DeadLetter(receive(t, q).Token, "", "", nil))
	four, five := &broker.Message{ID: "four", Size: 4}, &broker.Message{ID: "five", Size: 5}
	for _, batch := range [][]*broker.Message{{five}, {four, five}} {
		if _, err := q.Send(batch...); !errors.Is(err, broker.ErrFull) {
			t.Errorf("send %d messages: error %v, want ErrFull", len(batch), err)
		}
	}
	wantCounts(t, q, broker.Counts{DeadLetter: 1, Bytes: 6})
	send(t, q, four)
	send(t, q, four) // a duplicate takes no room
	must(t, deadLetter.Complete(receive(t, deadLetter).Token))
	send(t, q, five)
	wantCounts(t, q, broker.Counts{Active: 2, Bytes: 9})
}
