package broker_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"hsmsweep/internal/emulator/servicebus/broker"
)

// everySetting has a queue, a topic and rules in which nothing has its default.
func everySetting() broker.Config {
	return broker.Config{
		Queues: []broker.QueueConfig{{
			Name: "Q", LockDuration: lockDuration, DefaultMessageTTL: 24 * time.Hour, DuplicateDetectionWindow: time.Hour, MaxDeliveryCount: 3,
			DeadLetterOnExpiration: true, MaxMessageSize: 1000, MaxSizeBytes: 1e6, Annotations: map[string]string{"UserMetadata": "mine"},
		}},
		Topics: []broker.TopicConfig{{
			Name: "T", DefaultMessageTTL: 24 * time.Hour, DuplicateDetectionWindow: time.Hour, MaxMessageSize: 1000, MaxSizeBytes: 1e6,
			Subscriptions: []broker.SubscriptionConfig{
				{Name: "All", LockDuration: lockDuration, DefaultMessageTTL: time.Hour, MaxDeliveryCount: 2, DeadLetterOnExpiration: true},
				{Name: "Some", Rules: []broker.Rule{
					{Name: "fields", Filter: &broker.CorrelationFilter{Subject: "s", MessageID: "m", To: "t", ReplyTo: "r", ContentType: "c"}},
					{Name: "properties", Filter: &broker.CorrelationFilter{Properties: map[string]any{"n": int64(7), "on": true, "text": "x"}}},
					{Name: "never", Never: true},
				}},
			},
		}},
	}
}

// TestStateSurvivesACrash compares everything a client can see before and after.
func TestStateSurvivesACrash(t *testing.T) {
	tests := []struct {
		name string
		do   func(*testing.T, *broker.Broker)
		path string // of an entity that must hold want
		want broker.Counts
	}{
		{"nothing", func(*testing.T, *broker.Broker) {}, "q", broker.Counts{}},
		{"active messages", func(t *testing.T, b *broker.Broker) {
			sendIDs(t, entity(t, b, "q"), "1", "2", "3")
			send(t, entity(t, b, "q"), &broker.Message{ID: "4", TTL: time.Minute, Size: 7, Content: "text",
				Fields: broker.Fields{CorrelationID: "c", Properties: map[string]any{"p": int64(1)}}})
		}, "q", broker.Counts{Active: 4, Bytes: 10}},
		{"completed and deleted", func(t *testing.T, b *broker.Broker) {
			q := entity(t, b, "q")
			sendIDs(t, q, "1", "2", "3")
			must(t, b.Sync())
			must(t, q.Complete(receive(t, q).Token))
			consume(t, q, broker.ReceiveAndDelete, 1).consumer.Close()
		}, "q", broker.Counts{Active: 1, Bytes: 1}},
		{"scheduled and cancelled", func(t *testing.T, b *broker.Broker) {
			q := entity(t, b, "q")
			later := func(id string) *broker.Message {
				return &broker.Message{ID: id, ScheduledFor: time.Now().UTC().Add(time.Hour)}
			}
			numbers := send(t, q, later("1"), later("2"), later("3"))
			must(t, q.CancelScheduled(numbers[1]))
			send(t, entity(t, b, "t"), later("1"))
		}, "q", broker.Counts{Scheduled: 2}},
		{"active after its schedule", func(t *testing.T, b *broker.Broker) {
			send(t, entity(t, b, "q"), &broker.Message{ID: "1", ScheduledFor: time.Now().Add(time.Minute)})
			pass(2 * time.Minute)
		}, "q", broker.Counts{Active: 1}},
		{"abandoned with properties", func(t *testing.T, b *broker.Broker) {
			q := entity(t, b, "q")
			sendIDs(t, q, "1")
			must(t, q.Abandon(receive(t, q).Token, map[string]any{"tried": true, "n": int64(1)}))
			must(t, b.Sync())
			must(t, q.Abandon(receive(t, q).Token, map[string]any{"n": int64(2)}))
		}, "q", broker.Counts{Active: 1, Bytes: 1}},
		{"released", func(t *testing.T, b *broker.Broker) {
			q := entity(t, b, "q")
			sendIDs(t, q, "1")
			d := receive(t, q)
			must(t, b.Sync())
			must(t, q.Release(d.Token))
		}, "q", broker.Counts{Active: 1, Bytes: 1}},
		{"lock expired", func(t *testing.T, b *broker.Broker) {
			sendIDs(t, entity(t, b, "q"), "1")
			receive(t, entity(t, b, "q"))
			pass(lockDuration)
		}, "q", broker.Counts{Active: 1, Bytes: 1}},
		{"deferred", func(t *testing.T, b *broker.Broker) {
			q := entity(t, b, "q")
			sendIDs(t, q, "1", "2")
			must(t, q.Defer(receive(t, q).Token, map[string]any{"why": "later"}))
		}, "q", broker.Counts{Active: 1, Deferred: 1, Bytes: 2}},
		{"dead-lettered", func(t *testing.T, b *broker.Broker) {
			q := entity(t, b, "q")
			sendIDs(t, q, "1", "2")
			must(t, q.DeadLetter(receive(t, q).Token, "Broken", "It is broken.", map[string]any{"n": int64(1)}))
			must(t, q.Abandon(receive(t, q).Token, nil))
			must(t, q.Abandon(receive(t, q).Token, nil))
			must(t, q.Abandon(receive(t, q).Token, nil))
		}, "q", broker.Counts{DeadLetter: 2, Bytes: 2}},
		{"a dead letter completed", func(t *testing.T, b *broker.Broker) {
			q, deadLetters := entity(t, b, "q"), entity(t, b, "q/$DeadLetterQueue")
			sendIDs(t, q, "1")
			must(t, q.DeadLetter(receive(t, q).Token, "", "", nil))
			must(t, b.Sync())
			must(t, deadLetters.Complete(receive(t, deadLetters).Token))
		}, "q", broker.Counts{}},
		{"expired", func(t *testing.T, b *broker.Broker) {
			send(t, entity(t, b, "q"), &broker.Message{ID: "1", TTL: time.Minute})
			must(t, b.Sync())
			pass(time.Minute)
		}, "q", broker.Counts{DeadLetter: 1}},
		{"copies of a topic", func(t *testing.T, b *broker.Broker) {
			sendIDs(t, entity(t, b, "t"), "1", "2")
			s := entity(t, b, "t/subscriptions/all")
			must(t, s.DeadLetter(receive(t, s).Token, "Broken", "", nil))
			send(t, entity(t, b, "t"), &broker.Message{Fields: broker.Fields{Properties: map[string]any{"n": int64(7), "on": true, "text": "x"}}})
		}, "t/subscriptions/all", broker.Counts{Active: 2, DeadLetter: 1, Bytes: 2}},
		{"created", func(t *testing.T, b *broker.Broker) {
			must(t, b.CreateQueue(broker.QueueConfig{Name: "New"}))
			must(t, b.CreateTopic(broker.TopicConfig{Name: "News", Subscriptions: []broker.SubscriptionConfig{{Name: "a"}}}))
			must(t, b.CreateSubscription("news", broker.SubscriptionConfig{Name: "b"}))
			sendIDs(t, entity(t, b, "news"), "1")
		}, "news/subscriptions/b", broker.Counts{Active: 1, Bytes: 1}},
		{"updated", func(t *testing.T, b *broker.Broker) {
			pass(time.Second)
			must(t, entity(t, b, "q").Update(broker.QueueConfig{DuplicateDetectionWindow: time.Minute, MaxDeliveryCount: 9}))
			some := entity(t, b, "t/subscriptions/some")
			must(t, some.CreateRule(broker.Rule{Name: "new", Filter: &broker.CorrelationFilter{To: "x"}}))
			must(t, some.UpdateRule(broker.Rule{Name: "fields"}))
			must(t, some.DeleteRule("never"))
			sendIDs(t, entity(t, b, "t"), "1")
		}, "t/subscriptions/some", broker.Counts{Active: 1, Bytes: 1}},
		{"deleted and created again", func(t *testing.T, b *broker.Broker) {
			must(t, b.CreateQueue(broker.QueueConfig{Name: "again"}))
			sendIDs(t, entity(t, b, "again"), "1", "2", "3")
			must(t, b.Sync())
			must(t, b.Delete("again"))
			must(t, b.CreateQueue(broker.QueueConfig{Name: "Again"}))
			sendIDs(t, entity(t, b, "again"), "4")
		}, "again", broker.Counts{Active: 1, Bytes: 1}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				file := stateFile(t)
				b := openBroker(t, file, everySetting())
				test.do(t, b)
				before := visible(b)
				must(t, b.Sync())
				must(t, b.Kill())
				b = openBroker(t, file, everySetting())
				if diff := cmp.Diff(before, visible(b), cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("state (-before +after):\n%s", diff)
				}
				wantCounts(t, entity(t, b, test.path), test.want)
			})
		})
	}
}

func TestDeletedStaysDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := stateFile(t)
		b := openBroker(t, file, broker.Config{})
		must(t, b.CreateTopic(broker.TopicConfig{Name: "t", Subscriptions: []broker.SubscriptionConfig{{Name: "a"}, {Name: "b"}}}))
		must(t, b.CreateQueue(broker.QueueConfig{Name: "q"}))
		must(t, b.Sync())
		must(t, b.Delete("q"))
		must(t, b.Delete("t/subscriptions/a"))
		b = crash(t, b, file, broker.Config{})
		for _, path := range []string{"q", "q/$DeadLetterQueue", "t/subscriptions/a"} {
			if _, err := b.Entity(path); !errors.Is(err, broker.ErrNotFound) {
				t.Errorf("Entity(%q): error %v, want ErrNotFound", path, err)
			}
		}
		sendIDs(t, entity(t, b, "t"), "1")
		wantCounts(t, entity(t, b, "t/subscriptions/b"), broker.Counts{Active: 1, Bytes: 1})
	})
}

func TestLocksDoNotSurvive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := stateFile(t)
		b := openBroker(t, file, everySetting())
		for restarts := range 2 {
			q, deadLetters := entity(t, b, "q"), entity(t, b, "q/$DeadLetterQueue")
			if restarts == 0 {
				sendIDs(t, q, "dead", "deferred", "active")
				must(t, q.DeadLetter(receive(t, q).Token, "", "", nil))
				must(t, q.Defer(receive(t, q).Token, nil))
			}
			locks := []*broker.Delivery{receive(t, deadLetters), receive(t, q)}
			ds, err := q.ReceiveDeferred(broker.PeekLock, 2)
			must(t, err)
			locks = append(locks, ds...)
			wantDeliveryCounts := []int{0, restarts, restarts} // a dead-letter queue does not count
			b = crash(t, b, file, everySetting())
			b = crash(t, b, file, everySetting()) // which counts nothing: there are no locks
			for i, e := range []*broker.Entity{entity(t, b, "q/$DeadLetterQueue"), entity(t, b, "q"), entity(t, b, "q")} {
				if got := locks[i].DeliveryCount; got != wantDeliveryCounts[i] {
					t.Errorf("message %q after %d restarts: delivery count %d, want %d", locks[i].Message.ID, restarts, got, wantDeliveryCounts[i])
				}
				if err := e.Complete(locks[i].Token); !errors.Is(err, broker.ErrLockLost) {
					t.Errorf("complete %q with a lock from before: error %v, want ErrLockLost", locks[i].Message.ID, err)
				}
			}
		}
		// That was the second of three deliveries, of which the third is the last.
		receive(t, entity(t, b, "q"))
		b = crash(t, b, file, everySetting())
		wantEmpty(t, entity(t, b, "q"))
		d := entity(t, b, "q/$DeadLetterQueue").Peek(2, 1)[0]
		if d.Message.ID != "active" || d.Properties["DeadLetterReason"] != "MaxDeliveryCountExceeded" {
			t.Errorf("dead letter %q for %v, want %q for MaxDeliveryCountExceeded", d.Message.ID, d.Properties["DeadLetterReason"], "active")
		}
	})
}

func TestTimeGoesOnAcrossARestart(t *testing.T) {
	const window = time.Hour // of duplicates in everySetting
	synctest.Test(t, func(t *testing.T) {
		file := stateFile(t)
		b := openBroker(t, file, everySetting())
		in := func(d time.Duration) time.Time { return time.Now().UTC().Add(d) }
		send(t, entity(t, b, "q"),
			&broker.Message{ID: "soon", ScheduledFor: in(10 * time.Minute)},
			&broker.Message{ID: "late", ScheduledFor: in(30 * time.Minute)},
			&broker.Message{ID: "short", TTL: 5 * time.Minute},
			&broker.Message{ID: "long", TTL: 40 * time.Minute})
		send(t, entity(t, b, "t"), &broker.Message{ID: "topic", ScheduledFor: in(30 * time.Minute)})
		must(t, b.Sync())
		must(t, b.Kill())
		pass(20 * time.Minute) // nothing runs

		b = openBroker(t, file, everySetting())
		q, all := entity(t, b, "q"), entity(t, b, "t/subscriptions/all")
		wantCounts(t, q, broker.Counts{Active: 2, Scheduled: 1, DeadLetter: 1}) // soon, long; late; short
		box := consume(t, all, broker.PeekLock, 1)
		pass(10*time.Minute - 1)
		wantCounts(t, q, broker.Counts{Active: 2, Scheduled: 1, DeadLetter: 1})
		pass(1)
		wantCounts(t, q, broker.Counts{Active: 3, DeadLetter: 1})
		if diff := cmp.Diff([]string{"topic"}, box.ids()); diff != "" {
			t.Errorf("delivered by the topic (-want +got):\n%s", diff)
		}
		pass(10 * time.Minute)
		wantCounts(t, q, broker.Counts{Active: 2, DeadLetter: 2})

		pass(window - 40*time.Minute - 1)
		if numbers := send(t, q, &broker.Message{ID: "soon"}); numbers[0] != 1 {
			t.Errorf("a duplicate inside the window has number %d, want that of the first, 1", numbers[0])
		}
		pass(1)
		if numbers := send(t, q, &broker.Message{ID: "soon"}); numbers[0] != 7 {
			t.Errorf("a message after the window has number %d, want the next, 7: two have become active and got new ones", numbers[0])
		}
		b = crash(t, b, file, everySetting())
		if numbers := send(t, entity(t, b, "q"), &broker.Message{ID: "soon"}, &broker.Message{ID: "new"}); numbers[0] != 7 || numbers[1] != 8 {
			t.Errorf("a duplicate and a new message after another restart have numbers %v, want 7 and 8", numbers)
		}
	})
}

// TestMessageWithoutBytes has a message whose encoding is empty.
func TestMessageWithoutBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := stateFile(t)
		for restarts := range 2 {
			b, err := broker.Open(file, emptyCodec{}, oneQueue(broker.QueueConfig{}))
			must(t, err)
			if restarts == 0 {
				send(t, entity(t, b, "q"), &broker.Message{Size: 3})
			}
			b.Close()
			wantCounts(t, entity(t, b, "q"), broker.Counts{Active: 1, Bytes: 3})
		}
	})
}

func TestNumbersAreNotGivenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := stateFile(t)
		b := openBroker(t, file, oneQueue(broker.QueueConfig{}))
		sendIDs(t, entity(t, b, "q"), "1", "2")
		consume(t, entity(t, b, "q"), broker.ReceiveAndDelete, 2)
		b = crash(t, b, file, oneQueue(broker.QueueConfig{}))
		if numbers := send(t, entity(t, b, "q"), &broker.Message{}); numbers[0] != 3 {
			t.Errorf("the third message of an empty queue has number %d", numbers[0])
		}
	})
}

func TestFileWinsOverConfig(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := stateFile(t)
		b := openBroker(t, file, broker.Config{
			Queues: []broker.QueueConfig{{Name: "kept", MaxDeliveryCount: 2}, {Name: "queue"}, {Name: "deleted"}},
			Topics: []broker.TopicConfig{{Name: "t", Subscriptions: []broker.SubscriptionConfig{{Name: "a", MaxDeliveryCount: 2}}}},
		})
		must(t, b.Delete("deleted"))
		b = crash(t, b, file, broker.Config{
			Queues: []broker.QueueConfig{{Name: "KEPT", MaxDeliveryCount: 5}, {Name: "new"}, {Name: "deleted"}, {Name: "t"}},
			Topics: []broker.TopicConfig{
				{Name: "T", Subscriptions: []broker.SubscriptionConfig{{Name: "A", MaxDeliveryCount: 5}, {Name: "b"}}},
				{Name: "queue", Subscriptions: []broker.SubscriptionConfig{{Name: "c"}}},
			},
		})
		var paths []string
		for _, e := range b.Entities() {
			paths = append(paths, e.Path())
		}
		if diff := cmp.Diff([]string{"deleted", "kept", "new", "queue", "t", "t/Subscriptions/a", "t/Subscriptions/b"}, paths); diff != "" {
			t.Errorf("entities (-want +got):\n%s", diff)
		}
		for _, path := range []string{"kept", "t/subscriptions/a"} {
			if n := entity(t, b, path).Describe().Config.MaxDeliveryCount; n != 2 {
				t.Errorf("%s: MaxDeliveryCount %d, want 2 as it was", path, n)
			}
		}
		sendIDs(t, entity(t, b, "t"), "1")
		wantCounts(t, entity(t, b, "t/subscriptions/b"), broker.Counts{Active: 1, Bytes: 1})
	})
}

func TestOpenNamesWhatIsWrong(t *testing.T) {
	foreign := stateFile(t)
	if err := os.WriteFile(foreign, []byte(strings.Repeat("text", 10_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	file := stateFile(t)
	b := openBroker(t, file, oneQueue(broker.QueueConfig{}))
	sendIDs(t, entity(t, b, "q"), "1")
	b.Close()
	bad := broker.QueueConfig{MaxDeliveryCount: -1}
	tests := []struct {
		name, file string
		config     broker.Config
		codec      broker.Codec
		want       []string
	}{
		{"a foreign file", foreign, broker.Config{}, gobCodec{}, []string{foreign}},
		{"messages that the codec does not know", file, broker.Config{}, otherCodec{}, []string{file, "not mine"}},
		{"a faulty setting", stateFile(t), oneQueue(bad), gobCodec{}, []string{`queue "q": MaxDeliveryCount is -1`}},
		{"a faulty setting of what the file has", file, oneQueue(bad), gobCodec{}, []string{`queue "q": MaxDeliveryCount is -1`}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := broker.Open(test.file, test.codec, test.config)
			if err == nil {
				t.Fatal("no error")
			}
			for _, part := range test.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error lacks %q: %v", part, err)
				}
			}
		})
	}
	openBroker(t, file, oneQueue(broker.QueueConfig{})) // the failed attempt let go of the file
}
