package broker_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"hsmsweep/internal/emulator/servicebus/broker"
)

func TestExpireLocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := broker.New(broker.Config{Queues: []broker.QueueConfig{{Name: "q"}}})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		q, _ := b.Entity("q")
		var got []*broker.Delivery
		c, err := q.Consume(broker.PeekLock, func(d *broker.Delivery) { got = append(got, d) })
		if err != nil {
			t.Fatal(err)
		}
		c.SetCredit(2)
		if _, err := q.Send(&broker.Message{ID: "m"}); err != nil {
			t.Fatal(err)
		}
		if id := q.MessageID(got[0].Token); id != "m" {
			t.Errorf("the token is of message %q, want m", id)
		}
		b.ExpireLocks()
		if len(got) != 2 || got[1].DeliveryCount != got[0].DeliveryCount+1 {
			t.Fatalf("delivered %d times, want again, with the first delivery counted", len(got))
		}
		if err := q.Complete(got[0].Token); !errors.Is(err, broker.ErrLockLost) {
			t.Errorf("completing by the old lock: %v, want ErrLockLost", err)
		}
		if err := q.Complete(got[1].Token); err != nil {
			t.Errorf("completing by the new lock: %v", err)
		}
		if v := b.Violations(); v.LockExpired != 0 {
			t.Errorf("violations %+v: nobody let a lock run out", v)
		}
	})
}

// TestSetClock puts the clock ahead, and back.
func TestSetClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := broker.New(broker.Config{Queues: []broker.QueueConfig{{Name: "q"}}})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		q, _ := b.Entity("q")
		var came []time.Time
		c, err := q.Consume(broker.ReceiveAndDelete, func(d *broker.Delivery) { came = append(came, time.Now()) })
		if err != nil {
			t.Fatal(err)
		}
		c.SetCredit(10)
		began := time.Now()
		for _, in := range []time.Duration{time.Hour, 3 * time.Hour} {
			if _, err := q.Send(&broker.Message{ScheduledFor: began.Add(in)}); err != nil {
				t.Fatal(err)
			}
		}
		b.SetClock(59 * time.Minute)
		<-time.After(2 * time.Minute)
		b.SetClock(-time.Hour)
		<-time.After(24 * time.Hour)
		synctest.Wait()
		if len(came) != 2 || came[0].Sub(began) != time.Minute || came[1].Sub(began) != 4*time.Hour {
			t.Errorf("messages came at %v after %s, want after 1m and 4h", came, began)
		}
	})
}

// TestDeafen has a receiver that is forgotten; another one is not.
func TestDeafen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := broker.New(broker.Config{Queues: []broker.QueueConfig{{Name: "q"}}})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		q, _ := b.Entity("q")
		var counts [2]int
		for i := range counts {
			c, err := q.Consume(broker.ReceiveAndDelete, func(*broker.Delivery) { counts[i]++ })
			if err != nil {
				t.Fatal(err)
			}
			c.SetCredit(5)
			if i == 0 {
				q.Deafen()
				c.SetCredit(5)
				if _, err := q.Send(&broker.Message{}); err != nil {
					t.Fatal(err)
				}
				if n := q.Counts().Active; n != 1 {
					t.Errorf("%d messages wait, want the one that nobody hears of", n)
				}
			}
		}
		if counts != [2]int{0, 1} {
			t.Errorf("received %v, want nothing and one", counts)
		}
	})
}

func TestStatus(t *testing.T) {
	for _, tt := range []struct {
		status         broker.Status
		sends, receive bool
	}{{broker.Enabled, true, true}, {broker.Disabled, false, false}, {broker.SendDisabled, false, true}, {broker.ReceiveDisabled, true, false}} {
		b, err := broker.New(broker.Config{Queues: []broker.QueueConfig{{Name: "q", Status: tt.status}}})
		if err != nil {
			t.Fatal(err)
		}
		q, _ := b.Entity("q")
		if _, err := q.Send(&broker.Message{}); (err == nil) != tt.sends || err != nil && !errors.Is(err, broker.ErrDisabled) {
			t.Errorf("%q: sending: %v", tt.status, err)
		}
		for sending, may := range map[bool]bool{true: tt.sends, false: tt.receive} {
			if err := q.Refuses(sending); (err == nil) != may {
				t.Errorf("%q: a link for sending (%v): %v", tt.status, sending, err)
			}
		}
		b.Close()
	}
	if _, err := broker.New(broker.Config{Queues: []broker.QueueConfig{{Name: "q", Status: "Asleep"}}}); err == nil {
		t.Error("a status that does not exist is accepted")
	}
}
