package broker_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"hsmsweep/internal/emulator/servicebus/broker"
)

// TestRandomOperations drives a queue and its dead-letter queue with random operations in random time and
// checks after each that every message is in exactly one place. A failing seed is in the test's name.
func TestRandomOperations(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWalk(t, seed)
				for range 300 {
					w.step()
					w.check()
				}
				w.finish()
			})
		})
	}
}

const walkWindow = time.Minute

// A walk is one run of random operations with the little that a client knows about the queue.
type walk struct {
	t          *testing.T
	rand       *rand.Rand
	broker     *broker.Broker
	queue      *broker.Entity
	deadLetter *broker.Entity

	present  map[*broker.Message]bool // accepted and not yet removed
	accepted map[string]acceptance    // by message id
	locks    []lock                   // ever held and not settled
	settled  []lock
}

type acceptance struct {
	number int64
	until  time.Time // the end of the duplicate window
}

type lock struct {
	entity   *broker.Entity
	delivery *broker.Delivery
}

func newWalk(t *testing.T, seed uint64) *walk {
	b := newBroker(t, oneQueue(broker.QueueConfig{
		MaxDeliveryCount:         3,
		DuplicateDetectionWindow: walkWindow,
		DeadLetterOnExpiration:   true,
	}))
	return &walk{
		t:          t,
		rand:       rand.New(rand.NewPCG(seed, 0)),
		broker:     b,
		queue:      entity(t, b, "q"),
		deadLetter: entity(t, b, "q/$DeadLetterQueue"),
		present:    make(map[*broker.Message]bool),
		accepted:   make(map[string]acceptance),
	}
}

func (w *walk) step() {
	w.t.Helper()
	switch n := w.rand.IntN(100); {
	case n < 30:
		w.send()
	case n < 50:
		w.receive()
	case n < 75:
		w.settle()
	case n < 80:
		w.receiveDeferred()
	case n < 85:
		w.cancel()
	case n < 88:
		w.settleAgain()
	default:
		pass(time.Duration(w.rand.Int64N(int64(20 * time.Second))))
	}
}

func (w *walk) send() {
	m := &broker.Message{ID: fmt.Sprint(w.rand.IntN(40)), Size: 1 + w.rand.IntN(9)}
	if w.rand.IntN(3) == 0 {
		m.ScheduledFor = time.Now().Add(time.Duration(w.rand.Int64N(int64(2 * time.Minute))))
	}
	if w.rand.IntN(3) == 0 {
		m.TTL = 1 + time.Duration(w.rand.Int64N(int64(time.Minute)))
	}
	number := send(w.t, w.queue, m)[0]
	if first, known := w.accepted[m.ID]; known && time.Now().Before(first.until) {
		if number != first.number {
			w.t.Fatalf("a repeat of %q has number %d, want %d", m.ID, number, first.number)
		}
		return
	}
	w.accepted[m.ID] = acceptance{number, time.Now().Add(walkWindow)}
	w.present[m] = true
}

func (w *walk) receive() {
	e, mode := w.anyEntity(), broker.PeekLock
	if w.rand.IntN(8) == 0 {
		mode = broker.ReceiveAndDelete
	}
	box := consume(w.t, e, mode, 1+w.rand.IntN(3))
	box.consumer.Close()
	w.got(e, mode, box.got())
}

func (w *walk) receiveDeferred() {
	e := w.anyEntity()
	for _, d := range e.Peek(0, 1000) {
		if d.State != broker.Deferred || w.rand.IntN(2) == 0 {
			continue
		}
		mode := broker.Mode(w.rand.IntN(2))
		ds, err := e.ReceiveDeferred(mode, d.SequenceNumber)
		if err != nil && !errors.Is(err, broker.ErrMessageNotFound) {
			w.t.Fatal(err)
		}
		w.got(e, mode, ds)
	}
}

func (w *walk) got(e *broker.Entity, mode broker.Mode, ds []*broker.Delivery) {
	for _, d := range ds {
		if !w.present[d.Message] {
			w.t.Fatalf("%s delivers message %d, which is gone", e.Path(), d.SequenceNumber)
		}
		if mode == broker.ReceiveAndDelete {
			delete(w.present, d.Message)
		} else {
			w.locks = append(w.locks, lock{e, d})
		}
	}
}

func (w *walk) settle() {
	if len(w.locks) == 0 {
		return
	}
	i := w.rand.IntN(len(w.locks))
	l := w.locks[i]
	e, token := l.entity, l.delivery.Token
	alive := time.Now().Before(l.delivery.LockedUntil)
	var err error
	ends := true
	switch n := w.rand.IntN(6); {
	case n == 0:
		err = e.Abandon(token, map[string]any{"tried": true})
	case n == 1:
		err = e.Release(token)
	case n == 2:
		err = e.Defer(token, nil)
	case n == 3 && e == w.queue:
		err = e.DeadLetter(token, "reason", "description", nil)
	case n == 4:
		w.locks[i].delivery.LockedUntil, err = e.Renew(token)
		ends = false
	default:
		if err = e.Complete(token); err == nil {
			delete(w.present, l.delivery.Message)
		}
	}
	if alive != (err == nil) || err != nil && !errors.Is(err, broker.ErrLockLost) {
		w.t.Fatalf("settle message %d of %s, lock alive %v: error %v", l.delivery.SequenceNumber, e.Path(), alive, err)
	}
	if ends || err != nil {
		w.locks = slices.Delete(w.locks, i, i+1)
		w.settled = append(w.settled, l)
	}
}

func (w *walk) settleAgain() {
	if len(w.settled) == 0 {
		return
	}
	l := w.settled[w.rand.IntN(len(w.settled))]
	if err := l.entity.Complete(l.delivery.Token); !errors.Is(err, broker.ErrLockLost) {
		w.t.Fatalf("settle message %d of %s again: error %v, want ErrLockLost", l.delivery.SequenceNumber, l.entity.Path(), err)
	}
}

func (w *walk) cancel() {
	for _, d := range w.queue.Peek(0, 1000) {
		if d.State == broker.Scheduled {
			must(w.t, w.queue.CancelScheduled(d.SequenceNumber))
			delete(w.present, d.Message)
			return
		}
	}
}

// check compares what is in the two queues with what should be.
func (w *walk) check() {
	w.t.Helper()
	found := make(map[*broker.Message]bool)
	var want [2]broker.Counts
	for i, e := range []*broker.Entity{w.queue, w.deadLetter} {
		var last int64
		for _, d := range e.Peek(0, 1000) {
			if d.SequenceNumber <= last {
				w.t.Fatalf("%s: number %d follows %d", e.Path(), d.SequenceNumber, last)
			}
			if last = d.SequenceNumber; found[d.Message] {
				w.t.Fatalf("%s: message %d is in two places", e.Path(), d.SequenceNumber)
			}
			found[d.Message] = true
			switch d.State {
			case broker.Active:
				want[i].Active++
			case broker.Scheduled:
				want[i].Scheduled++
			case broker.Deferred:
				want[i].Deferred++
			}
			want[i].Bytes += int64(d.Message.Size)
		}
	}
	if !maps.Equal(found, w.present) {
		w.t.Fatalf("%d messages are in the queues, want %d", len(found), len(w.present))
	}
	want[0].DeadLetter = want[1].Active + want[1].Deferred
	want[0].Bytes += want[1].Bytes
	if diff := cmp.Diff(want, [2]broker.Counts{w.queue.Counts(), w.deadLetter.Counts()}); diff != "" {
		w.t.Fatalf("counts of queue and dead-letter queue (-want +got):\n%s", diff)
	}
}

// finish lets every lock and schedule run out and takes out what is left.
func (w *walk) finish() {
	pass(time.Hour)
	w.check()
	for _, e := range []*broker.Entity{w.queue, w.deadLetter} {
		for _, d := range e.Peek(0, 1000) {
			if d.State == broker.Deferred {
				// An expired one becomes a dead letter instead.
				ds, _ := e.ReceiveDeferred(broker.ReceiveAndDelete, d.SequenceNumber)
				w.got(e, broker.ReceiveAndDelete, ds)
			}
		}
		w.got(e, broker.ReceiveAndDelete, consume(w.t, e, broker.ReceiveAndDelete, 1000).got())
	}
	w.check()
	if len(w.present) > 0 {
		w.t.Errorf("%d messages are left that nothing delivers", len(w.present))
	}
}

func (w *walk) anyEntity() *broker.Entity {
	if w.rand.IntN(4) == 0 {
		return w.deadLetter
	}
	return w.queue
}
