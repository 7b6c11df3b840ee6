package broker_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"hsmsweep/internal/emulator/servicebus/broker"
)

func TestConcurrentClients(t *testing.T) {
	const senders, receivers, each, credit = 4, 4, 250, 16
	synctest.Test(t, func(t *testing.T) {
		q, _ := newQueue(t, broker.QueueConfig{MaxDeliveryCount: 1000, DuplicateDetectionWindow: time.Hour})
		var (
			group     sync.WaitGroup
			completed [senders * each]atomic.Int32
			left      atomic.Int32
			done      = make(chan struct{})
		)
		left.Store(senders * each)
		for s := range senders {
			group.Go(func() {
				for i := range each {
					m := &broker.Message{ID: fmt.Sprint(s*each + i), Content: s*each + i}
					if i%3 == 0 {
						m.ScheduledFor = time.Now().Add(time.Duration(i) * time.Millisecond)
					}
					for range 2 { // the second is a duplicate
						if _, err := q.Send(m); err != nil {
							t.Errorf("send: %v", err)
						}
					}
				}
			})
		}
		for range receivers {
			group.Go(func() {
				arrived := make(chan *broker.Delivery, credit)
				c, err := q.Consume(broker.PeekLock, func(d *broker.Delivery) { arrived <- d })
				if err != nil {
					t.Errorf("consume: %v", err)
					return
				}
				defer c.Close()
				for received := uint32(0); ; received++ {
					c.SetLimit(received + credit)
					var d *broker.Delivery
					select {
					case d = <-arrived:
					case <-done:
						return
					}
					var err error
					switch rand.IntN(6) {
					case 0:
						err = q.Abandon(d.Token, nil)
					case 1:
						err = q.Release(d.Token)
					case 2: // the lock expires
					default:
						if err = q.Complete(d.Token); err == nil {
							completed[d.Message.Content.(int)].Add(1)
							if left.Add(-1) == 0 {
								close(done)
							}
						}
					}
					if err != nil {
						t.Errorf("settle: %v", err)
					}
				}
			})
		}
		group.Wait()
		for i := range completed {
			if n := completed[i].Load(); n != 1 {
				t.Errorf("message %d was completed %d times, want once", i, n)
			}
		}
		wantCounts(t, q, broker.Counts{})
	})
}

func TestHundredThousandScheduledMessagesArriveOnTime(t *testing.T) {
	const n = 100_000
	synctest.Test(t, func(t *testing.T) {
		q, _ := newQueue(t, broker.QueueConfig{})
		arrived, late := 0, 0
		c, err := q.Consume(broker.ReceiveAndDelete, func(d *broker.Delivery) {
			arrived++
			if !time.Now().Equal(d.Message.ScheduledFor) {
				late++
			}
		})
		must(t, err)
		c.SetCredit(n)
		for range n {
			send(t, q, &broker.Message{ScheduledFor: time.Now().Add(1 + time.Duration(rand.Int64N(int64(24*time.Hour))))})
		}
		pass(24 * time.Hour)
		if arrived != n || late > 0 {
			t.Errorf("%d of %d messages arrived, %d of them not on time", arrived, n, late)
		}
	})
}

func TestMemoryIsFreed(t *testing.T) {
	const allowed = 6 << 20
	tests := []struct {
		name           string
		messages, size int
		delay          time.Duration // of every other one
		mode           broker.Mode
	}{
		{"many", 100_000, 100, time.Minute, broker.PeekLock},
		{"large", 60, 1 << 20, time.Minute, broker.PeekLock},
		{"only ids in the duplicate window", 100_000, 0, 0, broker.ReceiveAndDelete},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, _ := newQueue(t, broker.QueueConfig{DuplicateDetectionWindow: time.Hour})
				before := heapInUse()
				for i := range test.messages {
					m := &broker.Message{ID: fmt.Sprintf("%0128d", i), Content: make([]byte, test.size)}
					if i%2 == 0 {
						m.ScheduledFor = time.Now().Add(test.delay)
					}
					send(t, q, m)
				}
				pass(test.delay)
				for range test.messages {
					d := consume(t, q, test.mode, 1).got()[0]
					if test.mode == broker.PeekLock {
						must(t, q.Complete(d.Token))
					}
				}
				pass(time.Hour)
				if grown := heapInUse() - before; grown > allowed {
					t.Errorf("the empty queue holds %d KiB, want at most %d", grown>>10, allowed>>10)
				}
				wantCounts(t, q, broker.Counts{})
			})
		})
	}
}

func heapInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func BenchmarkSendReceiveComplete(b *testing.B) {
	q, _ := newQueue(b, broker.QueueConfig{DuplicateDetectionWindow: time.Second})
	var d *broker.Delivery
	c, err := q.Consume(broker.PeekLock, func(got *broker.Delivery) { d = got })
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		c.SetCredit(1)
		if _, err := q.Send(&broker.Message{ID: fmt.Sprint(i)}); err != nil {
			b.Fatal(err)
		}
		if err := q.Complete(d.Token); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSchedule100k schedules messages in random order and cancels them in another.
func BenchmarkSchedule100k(b *testing.B) {
	const n = 100_000
	q, _ := newQueue(b, broker.QueueConfig{})
	start := time.Now().Add(time.Hour)
	for b.Loop() {
		numbers := make([]int64, n)
		for i := range numbers {
			numbers[i] = send(b, q, &broker.Message{ScheduledFor: start.Add(time.Duration(rand.Int64N(int64(time.Hour))))})[0]
		}
		for _, i := range rand.Perm(n) {
			if err := q.CancelScheduled(numbers[i]); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/message")
}
