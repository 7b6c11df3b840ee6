package broker_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"hsmsweep/internal/emulator/servicebus/broker"
)

const lockDuration = 30 * time.Second

func TestEntityIsFoundByPath(t *testing.T) {
	b := newBroker(t, broker.Config{
		Queues: []broker.QueueConfig{{Name: "Orders"}},
		Topics: []broker.TopicConfig{{Name: "events/all", Subscriptions: []broker.SubscriptionConfig{{Name: "Audit"}}}},
	})
	tests := []struct {
		path, want       string // want "" = not found
		canSend, canRecv bool
	}{
		{"Orders", "Orders", true, true},
		{"/orders", "Orders", true, true},
		{"ORDERS/$deadletterqueue", "Orders/$DeadLetterQueue", false, true},
		{"events/all", "events/all", true, false},
		{"Events/All/subscriptions/audit", "events/all/Subscriptions/Audit", false, true},
		{"events/all/Subscriptions/Audit/$DeadLetterQueue", "events/all/Subscriptions/Audit/$DeadLetterQueue", false, true},
		{"events/all/$DeadLetterQueue", "", false, false},
		{"orders/$DeadLetterQueue/$DeadLetterQueue", "", false, false},
		{"events/all/Subscriptions/none", "", false, false},
		{"", "", false, false},
	}
	for _, test := range tests {
		e, err := b.Entity(test.path)
		if test.want == "" {
			if !errors.Is(err, broker.ErrNotFound) {
				t.Errorf("Entity(%q): error %v, want ErrNotFound", test.path, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("Entity(%q): %v", test.path, err)
			continue
		}
		if e.Path() != test.want || e.CanSend() != test.canSend || e.CanReceive() != test.canRecv {
			t.Errorf("Entity(%q) = %q, send %v, receive %v; want %q, %v, %v", test.path,
				e.Path(), e.CanSend(), e.CanReceive(), test.want, test.canSend, test.canRecv)
		}
	}
	var paths []string
	for _, e := range b.Entities() {
		paths = append(paths, e.Path())
	}
	if diff := cmp.Diff([]string{"Orders", "events/all", "events/all/Subscriptions/Audit"}, paths); diff != "" {
		t.Errorf("Entities (-want +got):\n%s", diff)
	}
}

func TestOperationsOnTheWrongKindOfEntity(t *testing.T) {
	b := newBroker(t, broker.DefaultConfig())
	message := &broker.Message{ID: "m"}
	for _, path := range []string{"connection-events/Subscriptions/all", "connection-deletes/$DeadLetterQueue"} {
		if _, err := entity(t, b, path).Send(message); !errors.Is(err, broker.ErrNotAllowed) {
			t.Errorf("Send to %s: error %v, want ErrNotAllowed", path, err)
		}
	}
	if _, err := entity(t, b, "connection-events").Consume(broker.PeekLock, nil); !errors.Is(err, broker.ErrNotAllowed) {
		t.Errorf("Consume from a topic: error %v, want ErrNotAllowed", err)
	}
}

func TestNewNamesEveryFault(t *testing.T) {
	_, err := broker.New(broker.Config{
		Queues: []broker.QueueConfig{
			{Name: "slow", LockDuration: 6 * time.Minute, DuplicateDetectionWindow: 8 * 24 * time.Hour},
			{Name: "twice"},
			{Name: "bad name"},
		},
		Topics: []broker.TopicConfig{
			{Name: "TWICE", DefaultMessageTTL: -time.Second},
			{Name: "t", Subscriptions: []broker.SubscriptionConfig{{Name: "s", MaxDeliveryCount: -1}}},
		},
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		`queue "slow": LockDuration is 6m0s`,
		`queue "slow": DuplicateDetectionWindow is 192h0m0s`,
		`queue "bad name": a name has`,
		`TWICE: the name is taken`,
		`topic "TWICE": DefaultMessageTTL is -1s`,
		`topic "t" subscription "s": MaxDeliveryCount is -1`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %q:\n%v", want, err)
		}
	}
}

func TestAfterCloseNothingHappensByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, broker.DefaultConfig())
		topic, subscription := entity(t, b, "connection-events"), entity(t, b, "connection-events/Subscriptions/all")
		box := consume(t, subscription, broker.PeekLock, 2)
		send(t, topic, &broker.Message{ScheduledFor: time.Now().Add(time.Hour)})
		b.Close()
		send(t, topic, &broker.Message{ScheduledFor: time.Now().Add(time.Minute)})
		pass(time.Hour)
		if len(box.got()) > 0 {
			t.Error("a timer ran after Close")
		}
		// Nor do operations rely on timers: this one brings topic and subscription up to the present.
		wantCounts(t, subscription, broker.Counts{Active: 2})
	})
}

// What the tests share.

func newBroker(t testing.TB, c broker.Config) *broker.Broker {
	t.Helper()
	b, err := broker.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// oneQueue is a namespace with c as queue "q" with a lock duration of lockDuration.
func oneQueue(c broker.QueueConfig) broker.Config {
	c.Name, c.LockDuration = "q", lockDuration
	return broker.Config{Queues: []broker.QueueConfig{c}}
}

// newQueue returns queue "q" with settings c, and its dead-letter queue.
func newQueue(t testing.TB, c broker.QueueConfig) (queue, deadLetter *broker.Entity) {
	t.Helper()
	b := newBroker(t, oneQueue(c))
	return entity(t, b, "q"), entity(t, b, "q/$DeadLetterQueue")
}

func entity(t testing.TB, b *broker.Broker, path string) *broker.Entity {
	t.Helper()
	e, err := b.Entity(path)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func send(t testing.TB, e *broker.Entity, messages ...*broker.Message) []int64 {
	t.Helper()
	numbers, err := e.Send(messages...)
	if err != nil {
		t.Fatalf("send: %v", err)
	}
	return numbers
}

func sendIDs(t testing.TB, e *broker.Entity, ids ...string) {
	t.Helper()
	for _, id := range ids {
		send(t, e, &broker.Message{ID: id, Size: 1})
	}
}

// An inbox holds what a consumer got. Deliveries by a timer are seen after pass.
type inbox struct {
	consumer *broker.Consumer

	mu         sync.Mutex
	deliveries []*broker.Delivery
	arrivals   []time.Time
}

func consume(t testing.TB, e *broker.Entity, mode broker.Mode, credit int) *inbox {
	t.Helper()
	box := &inbox{}
	c, err := e.Consume(mode, func(d *broker.Delivery) {
		box.mu.Lock()
		defer box.mu.Unlock()
		box.deliveries = append(box.deliveries, d)
		box.arrivals = append(box.arrivals, time.Now())
	})
	if err != nil {
		t.Fatalf("consume: %v", err)
	}
	box.consumer = c
	c.SetCredit(credit)
	return box
}

func (b *inbox) got() []*broker.Delivery {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.deliveries)
}

func (b *inbox) times() []time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.arrivals)
}

func (b *inbox) ids() []string {
	var ids []string
	for _, d := range b.got() {
		ids = append(ids, d.Message.ID)
	}
	return ids
}

// receive locks the next message there is.
func receive(t testing.TB, e *broker.Entity) *broker.Delivery {
	t.Helper()
	d := tryReceive(t, e)
	if d == nil {
		t.Fatalf("%s has no message to receive", e.Path())
	}
	return d
}

func tryReceive(t testing.TB, e *broker.Entity) *broker.Delivery {
	t.Helper()
	box := consume(t, e, broker.PeekLock, 1)
	box.consumer.Close()
	if len(box.got()) == 0 {
		return nil
	}
	return box.got()[0]
}

func wantEmpty(t testing.TB, e *broker.Entity) {
	t.Helper()
	if d := tryReceive(t, e); d != nil {
		t.Errorf("%s delivers %q, want nothing", e.Path(), d.Message.ID)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantCounts(t testing.TB, e *broker.Entity, want broker.Counts) {
	t.Helper()
	if diff := cmp.Diff(want, e.Counts()); diff != "" {
		t.Errorf("counts of %s (-want +got):\n%s", e.Path(), diff)
	}
}

// pass lets d go by in virtual time, and whatever happens in it happen.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}
