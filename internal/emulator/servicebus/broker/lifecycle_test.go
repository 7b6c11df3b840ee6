package broker_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"hsmsweep/internal/emulator/servicebus/broker"
)

func TestCreate(t *testing.T) {
	tests := []struct {
		name   string
		create func(*broker.Broker) error
		path   string // that exists afterwards, if there is no error
		want   error  // nil and no path: any other error
	}{
		{"queue", func(b *broker.Broker) error { return b.CreateQueue(broker.QueueConfig{Name: "new"}) }, "new/$DeadLetterQueue", nil},
		{"queue that exists", func(b *broker.Broker) error { return b.CreateQueue(broker.QueueConfig{Name: "Q"}) }, "", broker.ErrExists},
		{"queue named as a topic", func(b *broker.Broker) error { return b.CreateQueue(broker.QueueConfig{Name: "t"}) }, "", broker.ErrExists},
		{"faulty queue", func(b *broker.Broker) error {
			return b.CreateQueue(broker.QueueConfig{Name: "new", LockDuration: time.Hour})
		}, "", nil},
		{"topic with a subscription", func(b *broker.Broker) error {
			return b.CreateTopic(broker.TopicConfig{Name: "new", Subscriptions: []broker.SubscriptionConfig{{Name: "s"}}})
		}, "new/Subscriptions/s", nil},
		{"topic with a subscription twice", func(b *broker.Broker) error {
			return b.CreateTopic(broker.TopicConfig{Name: "new", Subscriptions: []broker.SubscriptionConfig{{Name: "s"}, {Name: "S"}}})
		}, "", broker.ErrExists},
		{"topic with a rule twice", func(b *broker.Broker) error {
			return b.CreateTopic(broker.TopicConfig{Name: "new", Subscriptions: []broker.SubscriptionConfig{
				{Name: "s", Rules: []broker.Rule{{Name: "r"}, {Name: "R"}}}}})
		}, "", broker.ErrExists},
		{"subscription", func(b *broker.Broker) error { return b.CreateSubscription("T", broker.SubscriptionConfig{Name: "new"}) }, "t/Subscriptions/new", nil},
		{"subscription that exists", func(b *broker.Broker) error { return b.CreateSubscription("t", broker.SubscriptionConfig{Name: "s"}) }, "", broker.ErrExists},
		{"subscription of no topic", func(b *broker.Broker) error { return b.CreateSubscription("x", broker.SubscriptionConfig{Name: "s"}) }, "", broker.ErrNotFound},
		{"subscription of a queue", func(b *broker.Broker) error { return b.CreateSubscription("q", broker.SubscriptionConfig{Name: "s"}) }, "", broker.ErrNotAllowed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := newBroker(t, broker.Config{
				Queues: []broker.QueueConfig{{Name: "q"}},
				Topics: []broker.TopicConfig{{Name: "t", Subscriptions: []broker.SubscriptionConfig{{Name: "s"}}}},
			})
			err := test.create(b)
			if test.path != "" {
				must(t, err)
				entity(t, b, test.path)
				return
			}
			if err == nil || test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("error %v, want %v", err, test.want)
			}
			if n := len(b.Entities()); n != 3 {
				t.Errorf("%d entities after a creation that failed, want the 3 from before", n)
			}
		})
	}
}

func TestNewSubscriptionGetsWhatBecomesActiveFromNowOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, broker.Config{Topics: []broker.TopicConfig{{Name: "t"}}})
		topic := entity(t, b, "t")
		send(t, topic, &broker.Message{ID: "before"}, &broker.Message{ID: "scheduled", ScheduledFor: time.Now().Add(time.Minute)})
		must(t, b.CreateSubscription("t", broker.SubscriptionConfig{Name: "s"}))
		send(t, topic, &broker.Message{ID: "after"})
		pass(time.Minute)
		if got := consume(t, entity(t, b, "t/Subscriptions/s"), broker.PeekLock, 9).ids(); !cmp.Equal(got, []string{"after", "scheduled"}) {
			t.Errorf("got %v, want after and scheduled", got)
		}
	})
}

func TestUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, dead := newQueue(t, broker.QueueConfig{DuplicateDetectionWindow: time.Minute})
		sendIDs(t, q, "old")
		held := receive(t, q)
		must(t, q.Update(broker.QueueConfig{
			LockDuration: 10 * time.Second, DefaultMessageTTL: time.Hour, DuplicateDetectionWindow: time.Hour, MaxDeliveryCount: 1, MaxMessageSize: 5,
		}))
		if until, err := q.Renew(held.Token); err != nil || time.Until(until) != 10*time.Second {
			t.Errorf("renewed until %v, error %v; want 10s from now", until, err)
		}
		must(t, q.Abandon(held.Token, nil))
		wantCounts(t, q, broker.Counts{DeadLetter: 1, Bytes: 1})
		if d := receive(t, dead); time.Until(d.LockedUntil) != 10*time.Second {
			t.Errorf("lock in the dead-letter queue for %v, want 10s", time.Until(d.LockedUntil))
		}
		sendIDs(t, q, "new")
		if d := receive(t, q); time.Until(d.ExpiresAt) != time.Hour {
			t.Errorf("expires in %v, want an hour", time.Until(d.ExpiresAt))
		}
		pass(30 * time.Minute)
		if numbers := send(t, q, &broker.Message{ID: "old"}); numbers[0] != 1 {
			t.Errorf("a repeat inside the new window has number %d, want 1", numbers[0])
		}
		if got := q.MaxMessageSize(); got != 5 {
			t.Errorf("MaxMessageSize %d, want 5", got)
		}
	})
}

func TestUpdateOfATopicReachesItsSubscriptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		topic, subs := newTopic(t, broker.TopicConfig{Subscriptions: []broker.SubscriptionConfig{{Name: "s", DefaultMessageTTL: time.Hour}}})
		must(t, topic.Update(broker.QueueConfig{DefaultMessageTTL: time.Minute, MaxMessageSize: 7}))
		sendIDs(t, topic, "1")
		if d := receive(t, subs[0]); time.Until(d.ExpiresAt) != time.Minute {
			t.Errorf("expires in %v, want a minute", time.Until(d.ExpiresAt))
		}
		if got := subs[0].MaxMessageSize(); got != 7 {
			t.Errorf("MaxMessageSize of the subscription %d, want 7", got)
		}
	})
}

func TestUpdateRefuses(t *testing.T) {
	q, dead := newQueue(t, broker.QueueConfig{DuplicateDetectionWindow: time.Minute})
	plain, _ := newQueue(t, broker.QueueConfig{})
	tests := []struct {
		name   string
		entity *broker.Entity
		c      broker.QueueConfig
		want   error // nil = any other
	}{
		{"duplicate detection off", q, broker.QueueConfig{}, broker.ErrNotAllowed},
		{"duplicate detection on", plain, broker.QueueConfig{DuplicateDetectionWindow: time.Minute}, broker.ErrNotAllowed},
		{"dead-letter queue", dead, broker.QueueConfig{}, broker.ErrNotAllowed},
		{"faulty", plain, broker.QueueConfig{LockDuration: time.Hour}, nil},
	}
	for _, test := range tests {
		before := test.entity.Describe()
		if err := test.entity.Update(test.c); err == nil || test.want != nil && !errors.Is(err, test.want) {
			t.Errorf("%s: error %v, want %v", test.name, err, test.want)
		}
		if diff := cmp.Diff(before, test.entity.Describe()); diff != "" {
			t.Errorf("%s changed something (-before +after):\n%s", test.name, diff)
		}
	}
}

func TestDelete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, oneQueue(broker.QueueConfig{DuplicateDetectionWindow: time.Hour}))
		q, dead := entity(t, b, "q"), entity(t, b, "q/$DeadLetterQueue")
		box := consume(t, q, broker.PeekLock, 1)
		sendIDs(t, q, "locked", "ready")
		send(t, q, &broker.Message{ID: "scheduled", ScheduledFor: time.Now().Add(time.Hour)})
		held := box.got()[0]
		deferred := receive(t, q)
		must(t, q.Defer(deferred.Token, nil))

		must(t, b.Delete("Q"))
		if _, err := b.Entity("q/$DeadLetterQueue"); !errors.Is(err, broker.ErrNotFound) {
			t.Errorf("the dead-letter queue is still there, error %v", err)
		}
		_, errSend := q.Send(&broker.Message{})
		_, errConsume := dead.Consume(broker.PeekLock, nil)
		_, errRenew := q.Renew(held.Token)
		_, errDeferred := q.ReceiveDeferred(broker.PeekLock, deferred.SequenceNumber)
		for name, err := range map[string]error{
			"Send": errSend, "Consume": errConsume, "Renew": errRenew, "Complete": q.Complete(held.Token),
			"ReceiveDeferred": errDeferred, "CancelScheduled": q.CancelScheduled(3),
			"Update": q.Update(broker.QueueConfig{DuplicateDetectionWindow: time.Hour}), "Delete": b.Delete("q"),
		} {
			if !errors.Is(err, broker.ErrNotFound) {
				t.Errorf("%s of the deleted queue: error %v, want ErrNotFound", name, err)
			}
		}
		wantCounts(t, q, broker.Counts{})

		// A new queue of that name has nothing of the old one: no message, no duplicate window, no consumer.
		must(t, b.CreateQueue(broker.QueueConfig{Name: "q", DuplicateDetectionWindow: time.Hour}))
		box.consumer.SetCredit(5)
		renewed := entity(t, b, "q")
		sendIDs(t, renewed, "locked")
		pass(2 * time.Hour)
		wantCounts(t, renewed, broker.Counts{Active: 1, Bytes: 1})
		if got := len(box.got()); got != 1 {
			t.Errorf("the old consumer got %d messages, want the one from before", got)
		}
		if v := b.Violations(); v != (broker.Violations{}) {
			t.Errorf("violations %+v, want none: nobody did anything wrong", v)
		}
	})
}

func TestDeleteRefuses(t *testing.T) {
	b := newBroker(t, broker.DefaultConfig())
	for path, want := range map[string]error{"none": broker.ErrNotFound, "connection-deletes/$DeadLetterQueue": broker.ErrNotAllowed} {
		if err := b.Delete(path); !errors.Is(err, want) {
			t.Errorf("Delete(%q): error %v, want %v", path, err, want)
		}
	}
}

func TestOnClose(t *testing.T) {
	config := broker.Config{Topics: []broker.TopicConfig{{Name: "t", Subscriptions: []broker.SubscriptionConfig{{Name: "a"}, {Name: "b"}}}}}
	tests := []struct {
		delete string
		want   []string
	}{
		{"t", []string{"t", "t/Subscriptions/a", "t/Subscriptions/a/$DeadLetterQueue", "t/Subscriptions/b"}},
		{"t/Subscriptions/a", []string{"t/Subscriptions/a", "t/Subscriptions/a/$DeadLetterQueue"}},
		{"t/Subscriptions/b", []string{"t/Subscriptions/b"}},
	}
	for _, test := range tests {
		t.Run(test.delete, func(t *testing.T) {
			b := newBroker(t, config)
			var told []string
			for _, path := range []string{"t", "t/Subscriptions/a", "t/Subscriptions/a/$DeadLetterQueue", "t/Subscriptions/b"} {
				e := entity(t, b, path)
				e.OnClose(func(bool) {
					told = append(told, path)
					e.Counts() // the broker may be called
				})
				stop := e.OnClose(func(bool) { t.Errorf("%s: told in spite of stop", path) })
				stop()
			}
			gone := entity(t, b, test.delete)
			must(t, b.Delete(test.delete))
			slices.Sort(told)
			if diff := cmp.Diff(test.want, told); diff != "" {
				t.Errorf("told (-want +got):\n%s", diff)
			}
			late := false
			gone.OnClose(func(deleted bool) { late = deleted })()
			if !late {
				t.Error("who asks after the deletion is not told")
			}
		})
	}
}

func TestDeletedSubscriptionGetsNoMore(t *testing.T) {
	b := newBroker(t, broker.Config{Topics: []broker.TopicConfig{{Name: "t", Subscriptions: []broker.SubscriptionConfig{{Name: "a"}, {Name: "b"}}}}})
	topic := entity(t, b, "t")
	must(t, b.Delete("t/subscriptions/A"))
	sendIDs(t, topic, "1")
	wantCounts(t, topic, broker.Counts{Bytes: 1})
	var left []string
	for _, s := range topic.Subscriptions() {
		left = append(left, s.Path())
	}
	if diff := cmp.Diff([]string{"t/Subscriptions/b"}, left); diff != "" {
		t.Errorf("subscriptions (-want +got):\n%s", diff)
	}
}

func TestDescribe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now().UTC()
		notes := map[string]string{"UserMetadata": "x"}
		topic, subs := newTopic(t, broker.TopicConfig{DuplicateDetectionWindow: time.Minute, Annotations: notes, Subscriptions: []broker.SubscriptionConfig{
			{Name: "a", DefaultMessageTTL: time.Hour}, {Name: "b", Rules: []broker.Rule{{Never: true}, {Name: "all"}}},
		}})
		pass(time.Minute)
		must(t, subs[0].Update(broker.QueueConfig{DefaultMessageTTL: 2 * time.Hour, MaxDeliveryCount: 4}))
		pass(time.Minute)
		sendIDs(t, topic, "1")
		want := []broker.Description{
			{
				Kind: broker.Topic, Path: "t", Name: "t", Subscriptions: 2,
				Config: broker.QueueConfig{Name: "t", LockDuration: time.Minute, DuplicateDetectionWindow: time.Minute, MaxDeliveryCount: 10, MaxMessageSize: 256 << 10, Annotations: notes},
				Rules:  []broker.Rule{{Name: "$Default"}, {Name: "rule-1", Never: true}, {Name: "all"}},
				Counts: broker.Counts{Bytes: 2}, CreatedAt: start, UpdatedAt: start, AccessedAt: start.Add(2 * time.Minute),
			},
			{
				Kind: broker.Subscription, Path: "t/Subscriptions/a", Name: "a",
				Config: broker.QueueConfig{Name: "t/Subscriptions/a", LockDuration: time.Minute, DefaultMessageTTL: 2 * time.Hour, MaxDeliveryCount: 4, MaxMessageSize: 256 << 10},
				Rules:  []broker.Rule{{Name: "$Default"}},
				Counts: broker.Counts{Active: 1, Bytes: 1}, CreatedAt: start, UpdatedAt: start.Add(time.Minute), AccessedAt: start,
			},
		}
		if diff := cmp.Diff(want, []broker.Description{topic.Describe(), subs[0].Describe()}); diff != "" {
			t.Errorf("descriptions (-want +got):\n%s", diff)
		}
		consume(t, subs[0], broker.PeekLock, 1)
		if got := subs[0].Describe().AccessedAt; !got.Equal(time.Now()) {
			t.Errorf("AccessedAt %v after a receive, want now", got)
		}
	})
}

func TestChangingRules(t *testing.T) {
	yes := broker.Rule{Name: "yes", Filter: &broker.CorrelationFilter{Subject: "yes"}}
	topic, subs := newTopic(t, broker.TopicConfig{Subscriptions: []broker.SubscriptionConfig{{Name: "s"}}})
	s := subs[0]
	wantTaken := func(why string, want bool) {
		t.Helper()
		before := s.Counts().Active
		send(t, topic, &broker.Message{Fields: broker.Fields{Subject: "yes"}})
		if got := s.Counts().Active > before; got != want {
			t.Errorf("%s: message taken %v, want %v", why, got, want)
		}
	}
	wantTaken("the default rule", true)
	must(t, s.CreateRule(yes))
	must(t, s.DeleteRule("$default"))
	wantTaken("a rule that matches", true)
	must(t, s.UpdateRule(broker.Rule{Name: "YES", Filter: &broker.CorrelationFilter{Subject: "no"}}))
	wantTaken("a rule that does not match", false)
	must(t, s.UpdateRule(broker.Rule{Name: "yes", Never: true}))
	wantTaken("a rule that never matches", false)
	must(t, s.DeleteRule("yes"))
	wantTaken("no rule", false)
}

func TestChangingRulesRefuses(t *testing.T) {
	topic, subs := newTopic(t, broker.TopicConfig{Subscriptions: []broker.SubscriptionConfig{{Name: "s"}}})
	tests := []struct {
		name string
		err  error
		want string
	}{
		{"rule that exists", subs[0].CreateRule(broker.Rule{Name: "$DEFAULT"}), broker.ErrExists.Error()},
		{"bad name", subs[0].CreateRule(broker.Rule{Name: "a/b"}), "the name of a rule has 1 to 50"},
		{"no name", subs[0].CreateRule(broker.Rule{}), "the name of a rule has 1 to 50"},
		{"update of no rule", subs[0].UpdateRule(broker.Rule{Name: "none"}), broker.ErrNotFound.Error()},
		{"delete of no rule", subs[0].DeleteRule("none"), broker.ErrNotFound.Error()},
		{"rule of a topic", topic.CreateRule(broker.Rule{Name: "r"}), broker.ErrNotAllowed.Error()},
	}
	for _, test := range tests {
		if test.err == nil || !strings.Contains(test.err.Error(), test.want) {
			t.Errorf("%s: error %v, want %q in it", test.name, test.err, test.want)
		}
	}
}
