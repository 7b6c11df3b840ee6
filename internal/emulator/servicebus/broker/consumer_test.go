package broker_test

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"hsmsweep/internal/emulator/servicebus/broker"
)

func TestCreditIsAbsolute(t *testing.T) {
	q, _ := newQueue(t, broker.QueueConfig{})
	box := consume(t, q, broker.PeekLock, 5)
	box.consumer.SetCredit(1)
	sendIDs(t, q, "1", "2", "3", "4")
	if got := box.ids(); !cmp.Equal(got, []string{"1"}) {
		t.Errorf("delivered %v with credit 1, want 1", got)
	}
	box.consumer.SetCredit(2)
	if got := box.ids(); !cmp.Equal(got, []string{"1", "2", "3"}) {
		t.Errorf("delivered %v after credit 2, want 1 2 3", got)
	}
	box.consumer.SetCredit(-1)
	if got := len(box.got()); got != 3 {
		t.Errorf("%d deliveries after negative credit, want 3", got)
	}
}

func TestLimitCountsFromTheBeginning(t *testing.T) {
	q, _ := newQueue(t, broker.QueueConfig{})
	box := consume(t, q, broker.ReceiveAndDelete, 0)
	sendIDs(t, q, "1", "2", "3", "4", "5", "6")
	for _, step := range []struct {
		limit uint32
		want  int
	}{{2, 2}, {2, 2}, {1, 2}, {4, 4}} {
		box.consumer.SetLimit(step.limit)
		if got := len(box.got()); got != step.want {
			t.Errorf("%d deliveries at limit %d, want %d", got, step.limit, step.want)
		}
	}
	box.consumer.SetLimit(7)
	if left := box.consumer.Drain(); left != 1 {
		t.Errorf("gave up %d, want 1", left)
	}
	sendIDs(t, q, "7", "8")
	box.consumer.SetLimit(7)
	if got := len(box.got()); got != 6 {
		t.Errorf("%d deliveries at limit 7 of which 1 was given up, want 6", got)
	}
	box.consumer.SetLimit(8)
	if got := len(box.got()); got != 7 {
		t.Errorf("%d deliveries at limit 8 of which 1 was given up, want 7", got)
	}
}

func TestLimitWrapsAround(t *testing.T) {
	q, _ := newQueue(t, broker.QueueConfig{})
	box := consume(t, q, broker.ReceiveAndDelete, 0)
	for _, limit := range []uint32{math.MaxInt32, math.MaxUint32 - 1, math.MaxUint32} {
		box.consumer.SetLimit(limit)
		box.consumer.Drain()
	}
	sendIDs(t, q, "1", "2", "3")
	box.consumer.SetLimit(1)
	if got := len(box.got()); got != 2 {
		t.Errorf("%d deliveries from count 2^32-1 to limit 1, want 2", got)
	}
}

func TestConsumersTakeTurns(t *testing.T) {
	q, _ := newQueue(t, broker.QueueConfig{})
	first, second, third := consume(t, q, broker.PeekLock, 3), consume(t, q, broker.PeekLock, 1), consume(t, q, broker.PeekLock, 2)
	first.consumer.SetCredit(2) // keeps its place
	sendIDs(t, q, "1", "2", "3", "4", "5", "6")
	got := [][]string{first.ids(), second.ids(), third.ids()}
	if diff := cmp.Diff([][]string{{"1", "4"}, {"2"}, {"3", "5"}}, got); diff != "" {
		t.Errorf("deliveries (-want +got):\n%s", diff)
	}
}

func TestDrain(t *testing.T) {
	q, _ := newQueue(t, broker.QueueConfig{})
	box := consume(t, q, broker.PeekLock, 3)
	sendIDs(t, q, "1")
	if left := box.consumer.Drain(); left != 2 {
		t.Errorf("gave up %d, want 2", left)
	}
	sendIDs(t, q, "2")
	if got := box.ids(); !cmp.Equal(got, []string{"1"}) {
		t.Errorf("delivered %v, want only 1", got)
	}
}

func TestClosedConsumer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _ := newQueue(t, broker.QueueConfig{})
		closed := consume(t, q, broker.PeekLock, 5)
		sendIDs(t, q, "1")
		closed.consumer.Close()
		closed.consumer.SetCredit(5)
		sendIDs(t, q, "2")
		if got := closed.ids(); !cmp.Equal(got, []string{"1"}) {
			t.Errorf("delivered %v, want only 1", got)
		}
		open := consume(t, q, broker.PeekLock, 5)
		if got := open.ids(); !cmp.Equal(got, []string{"2"}) {
			t.Errorf("delivered %v while 1 is locked, want only 2", got)
		}
		must(t, q.Complete(open.got()[0].Token))
		pass(lockDuration)
		if got := open.ids(); !cmp.Equal(got, []string{"2", "1"}) {
			t.Errorf("delivered %v when the lock of 1 ended, want 2 1", got)
		}
	})
}

func TestReceiveAndDelete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _ := newQueue(t, broker.QueueConfig{})
		sendIDs(t, q, "1")
		box := consume(t, q, broker.ReceiveAndDelete, 2)
		if d := box.got()[0]; d.Message.ID != "1" || !d.LockedUntil.IsZero() || d.Token != (broker.Token{}) {
			t.Errorf("delivery %+v has a lock", d)
		}
		wantCounts(t, q, broker.Counts{})
		pass(time.Hour)
		if got := len(box.got()); got != 1 {
			t.Errorf("%d deliveries, want 1", got)
		}
	})
}

func TestPeek(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _ := newQueue(t, broker.QueueConfig{})
		sendIDs(t, q, "deferred", "locked", "completed")
		must(t, q.Defer(receive(t, q).Token, nil))
		receive(t, q)
		must(t, q.Complete(receive(t, q).Token))
		send(t, q, &broker.Message{ID: "scheduled", ScheduledFor: time.Now().Add(time.Hour)}, &broker.Message{ID: "active"})
		tests := []struct {
			from int64
			n    int
			want []string
		}{
			{0, 9, []string{"deferred", "locked", "scheduled", "active"}},
			{1, 2, []string{"deferred", "locked"}},
			{3, 1, []string{"scheduled"}},
			{5, 9, []string{"active"}},
			{6, 9, nil},
			{0, 0, nil},
		}
		for _, test := range tests {
			var got []string
			for _, d := range q.Peek(test.from, test.n) {
				got = append(got, d.Message.ID)
				if d.Token != (broker.Token{}) || !d.LockedUntil.IsZero() {
					t.Errorf("peek of %s shows a lock", d.Message.ID)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("Peek(%d, %d) (-want +got):\n%s", test.from, test.n, diff)
			}
		}
	})
}
