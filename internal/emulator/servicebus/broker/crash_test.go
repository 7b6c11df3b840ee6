package broker_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"hsmsweep/internal/emulator/servicebus/broker"
)

// TestCrashesAtRandom does random operations without waiting for the disk, crashes at some point, and checks that the broker
// comes back exactly as it was after some operation, which is not before the last that was acknowledged. A failing
// seed is in the test's name.
func TestCrashesAtRandom(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &life{t: t, rand: rand.New(rand.NewPCG(seed, 1)), file: stateFile(t), accepted: make(map[string]acceptance)}
				l.open()
				l.note("open")
				for range 4 {
					for range 1 + l.rand.IntN(50) {
						l.step()
					}
					l.crash()
				}
			})
		})
	}
}

// A life is one run of random operations and crashes.
type life struct {
	t      *testing.T
	rand   *rand.Rand
	file   string
	broker *broker.Broker
	sent   int

	locks    []lock                // held, or expired since
	accepted map[string]acceptance // by path and message id

	past         []moment
	acknowledged atomic.Int64 // index in past
}

// A moment is what must come back after a crash right after an operation.
type moment struct {
	operation string
	visible   map[string]holding
	accepted  map[string]acceptance
}

func lifeConfig() broker.Config {
	// No delivery is the last, so that a lock that a crash ends changes nothing but the delivery count.
	const deliveries = 2000
	return broker.Config{
		Queues: []broker.QueueConfig{{Name: "q", LockDuration: lockDuration, MaxDeliveryCount: deliveries, DuplicateDetectionWindow: walkWindow}},
		Topics: []broker.TopicConfig{{Name: "t", DuplicateDetectionWindow: walkWindow, Subscriptions: []broker.SubscriptionConfig{
			{Name: "a", LockDuration: lockDuration, MaxDeliveryCount: deliveries},
			{Name: "b", LockDuration: lockDuration, MaxDeliveryCount: deliveries},
		}}},
	}
}

func (l *life) open() {
	l.broker = openBroker(l.t, l.file, lifeConfig())
	l.locks, l.past = nil, nil
	l.acknowledged.Store(0)
}

func (l *life) step() {
	e := l.anyEntity()
	switch n := l.rand.IntN(100); {
	case n < 35:
		l.send()
	case n < 55:
		l.receive(e)
	case n < 80:
		l.settle()
	case n < 85:
		l.cancel(e)
	case n < 90:
		l.receiveDeferred(e)
	case n < 95:
		l.change()
	default:
		pass(time.Duration(l.rand.Int64N(int64(20 * time.Second))))
		l.note("time passes")
	}
}

func (l *life) send() {
	e := entity(l.t, l.broker, []string{"q", "t"}[l.rand.IntN(2)])
	var batch []*broker.Message
	for range 1 + l.rand.IntN(3) {
		l.sent++
		m := &broker.Message{ID: fmt.Sprint(l.rand.IntN(100)), Size: 1 + l.rand.IntN(9), TTL: 24 * time.Hour, Content: fmt.Sprint("content ", l.sent)}
		if l.rand.IntN(3) == 0 {
			m.ScheduledFor = time.Now().UTC().Add(time.Duration(l.rand.Int64N(int64(time.Minute))))
		}
		batch = append(batch, m)
	}
	for i, number := range send(l.t, e, batch...) {
		key := e.Path() + " " + batch[i].ID
		if first, known := l.accepted[key]; !known || !time.Now().Before(first.until) {
			l.accepted[key] = acceptance{number, time.Now().Add(walkWindow)}
		}
	}
	l.note("send to " + e.Path())
}

func (l *life) receive(e *broker.Entity) {
	mode := broker.Mode(l.rand.IntN(6) / 5)
	box := consume(l.t, e, mode, 1+l.rand.IntN(3))
	box.consumer.Close()
	l.hold(e, mode, box.got())
	l.note("receive from " + e.Path())
}

func (l *life) receiveDeferred(e *broker.Entity) {
	for _, d := range e.Peek(0, 1000) {
		if d.State == broker.Deferred {
			// An error means that it is locked already.
			ds, _ := e.ReceiveDeferred(broker.PeekLock, d.SequenceNumber)
			l.hold(e, broker.PeekLock, ds)
			break
		}
	}
	l.note("receive deferred from " + e.Path())
}

func (l *life) hold(e *broker.Entity, mode broker.Mode, ds []*broker.Delivery) {
	for _, d := range ds {
		if mode == broker.PeekLock {
			l.locks = append(l.locks, lock{e, d})
		}
	}
}

func (l *life) settle() {
	if len(l.locks) == 0 {
		return
	}
	i := l.rand.IntN(len(l.locks))
	e, token := l.locks[i].entity, l.locks[i].delivery.Token
	l.locks = slices.Delete(l.locks, i, i+1)
	properties := map[string]any{"settled": int64(l.rand.IntN(3))}
	operations := []func() error{
		func() error { return e.Complete(token) },
		func() error { return e.Abandon(token, properties) },
		func() error { return e.Release(token) },
		func() error { return e.Defer(token, properties) },
		func() error { return e.DeadLetter(token, "reason", "description", properties) },
	}
	n := l.rand.IntN(len(operations))
	if e.Kind() == broker.DeadLetterQueue {
		n = 0
	}
	if err := operations[n](); err != nil && !errors.Is(err, broker.ErrLockLost) && !errors.Is(err, broker.ErrNotFound) {
		l.t.Fatalf("settle: %v", err)
	}
	l.note(fmt.Sprintf("settlement %d in %s", n, e.Path()))
}

func (l *life) cancel(e *broker.Entity) {
	for _, d := range e.Peek(0, 1000) {
		if d.State == broker.Scheduled {
			must(l.t, e.CancelScheduled(d.SequenceNumber))
			l.note("cancel in " + e.Path())
			return
		}
	}
}

// change creates or deletes a subscription, or changes one.
func (l *life) change() {
	const path = "t/Subscriptions/c"
	c, err := l.broker.Entity(path)
	switch n := l.rand.IntN(3); {
	case err != nil:
		must(l.t, l.broker.CreateSubscription("t", broker.SubscriptionConfig{Name: "c", LockDuration: lockDuration, MaxDeliveryCount: 2000}))
	case n == 0:
		must(l.t, l.broker.Delete(path))
		l.locks = slices.DeleteFunc(l.locks, func(held lock) bool { return strings.HasPrefix(held.entity.Path(), path) })
	case n == 1:
		must(l.t, c.CreateRule(broker.Rule{Name: fmt.Sprint("rule-", l.rand.Int()), Never: true}))
	default:
		must(l.t, c.Update(broker.QueueConfig{LockDuration: lockDuration, MaxDeliveryCount: 1000 + l.rand.IntN(1000)}))
	}
	l.note("change of " + path)
}

// note remembers the moment, and when it is acknowledged.
func (l *life) note(operation string) {
	now := visible(l.broker)
	for _, held := range l.locks {
		e := held.entity
		if !time.Now().Before(held.delivery.LockedUntil) || e.Kind() == broker.DeadLetterQueue {
			continue
		}
		for _, d := range now[e.Path()].Messages {
			if d.SequenceNumber == held.delivery.SequenceNumber {
				d.DeliveryCount++
			}
		}
	}
	l.past = append(l.past, moment{operation, now, maps.Clone(l.accepted)})
	index := int64(len(l.past) - 1)
	l.broker.WhenDurable(func(err error) {
		switch before := l.acknowledged.Load(); {
		case err != nil: // the crash came first
		case before > index:
			l.t.Errorf("operation %d is acknowledged after %d", index, before)
		default:
			l.acknowledged.Store(index)
		}
	})
}

func (l *life) crash() {
	must(l.t, l.broker.Kill())
	past, acknowledged, locks := l.past, int(l.acknowledged.Load()), l.locks
	l.open()
	now := visible(l.broker)
	is := len(past) - 1
	for is >= acknowledged && !cmp.Equal(past[is].visible, now, cmpopts.EquateEmpty()) {
		is--
	}
	if is < acknowledged {
		l.t.Fatalf("the state is none of those after operations %d (%s, acknowledged) to %d; from the first (-want +got):\n%s", acknowledged,
			past[acknowledged].operation, len(past)-1, cmp.Diff(past[acknowledged].visible, now, cmpopts.EquateEmpty()))
	}
	for _, held := range locks {
		if e, err := l.broker.Entity(held.entity.Path()); err == nil && e.Complete(held.delivery.Token) == nil {
			l.t.Fatalf("a lock of %s from before the crash still holds", e.Path())
		}
	}
	l.accepted = past[is].accepted
	for key, first := range l.accepted {
		path, id, _ := strings.Cut(key, " ")
		if !time.Now().Before(first.until) {
			continue
		}
		if number := send(l.t, entity(l.t, l.broker, path), &broker.Message{ID: id})[0]; number != first.number {
			l.t.Fatalf("a repeat of message %q in %s has number %d, want %d", id, path, number, first.number)
		}
	}
	l.note("open")
}

func (l *life) anyEntity() *broker.Entity {
	paths := []string{"q", "q", "q", "q/$DeadLetterQueue", "t/subscriptions/a", "t/subscriptions/a/$DeadLetterQueue", "t/subscriptions/b", "t/subscriptions/c"}
	e, err := l.broker.Entity(paths[l.rand.IntN(len(paths))])
	if err != nil {
		return entity(l.t, l.broker, "q") // instead of c, which comes and goes
	}
	return e
}
