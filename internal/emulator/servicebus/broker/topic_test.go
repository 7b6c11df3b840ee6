package broker_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"hsmsweep/internal/emulator/servicebus/broker"
)

// newTopic returns topic "t" and its subscriptions.
func newTopic(t testing.TB, c broker.TopicConfig) (topic *broker.Entity, subscriptions []*broker.Entity) {
	t.Helper()
	c.Name = "t"
	b := newBroker(t, broker.Config{Topics: []broker.TopicConfig{c}})
	for _, s := range c.Subscriptions {
		subscriptions = append(subscriptions, entity(t, b, "t/Subscriptions/"+s.Name))
	}
	return entity(t, b, "t"), subscriptions
}

func TestSubscriptionsHaveCopies(t *testing.T) {
	topic, subs := newTopic(t, broker.TopicConfig{Subscriptions: []broker.SubscriptionConfig{
		{Name: "all"},
		{Name: "some", Rules: []broker.Rule{{Filter: &broker.CorrelationFilter{Subject: "yes"}}}},
	}})
	send(t, topic, &broker.Message{ID: "1", Size: 3})
	numbers := send(t, topic, &broker.Message{ID: "2", Size: 3, Fields: broker.Fields{Subject: "yes"}})
	if diff := cmp.Diff([]int64{2}, numbers); diff != "" {
		t.Errorf("numbers in the topic (-want +got):\n%s", diff)
	}
	wantCounts(t, topic, broker.Counts{Bytes: 9})
	if got := consume(t, subs[0], broker.PeekLock, 9).ids(); !cmp.Equal(got, []string{"1", "2"}) {
		t.Errorf("all got %v, want 1 2", got)
	}
	d := receive(t, subs[1])
	if d.Message.ID != "2" || d.SequenceNumber != 1 || d.EnqueuedSequenceNumber != 2 {
		t.Errorf("some got %q with number %d, in the topic %d; want 2, 1, 2", d.Message.ID, d.SequenceNumber, d.EnqueuedSequenceNumber)
	}
	must(t, subs[1].Complete(d.Token))
	wantCounts(t, subs[0], broker.Counts{Active: 2, Bytes: 6})
	wantCounts(t, subs[1], broker.Counts{})
}

func TestRules(t *testing.T) {
	message := &broker.Message{ID: "id", Fields: broker.Fields{
		CorrelationID: "c", To: "to", ReplyTo: "r", Subject: "s", SessionID: "session", ReplyToSessionID: "rs", ContentType: "ct",
		Properties: map[string]any{"text": "x", "int": int32(5), "ulong": uint64(7), "yes": true, "bytes": []byte{1}},
	}}
	rule := func(f broker.CorrelationFilter) []broker.Rule { return []broker.Rule{{Filter: &f}} }
	property := func(name string, value any) []broker.Rule {
		return rule(broker.CorrelationFilter{Properties: map[string]any{name: value}})
	}
	tests := []struct {
		name  string
		rules []broker.Rule
		want  bool
	}{
		{"no rule", nil, true},
		{"no filter", []broker.Rule{{}}, true},
		{"every field", rule(broker.CorrelationFilter{CorrelationID: "c", MessageID: "id", To: "to", ReplyTo: "r", Subject: "s",
			SessionID: "session", ReplyToSessionID: "rs", ContentType: "ct"}), true},
		{"one field of two differs", rule(broker.CorrelationFilter{CorrelationID: "c", Subject: "S"}), false},
		{"message id", rule(broker.CorrelationFilter{MessageID: "other"}), false},
		{"one rule of two", append(rule(broker.CorrelationFilter{To: "other"}), rule(broker.CorrelationFilter{To: "to"})...), true},
		{"two rules, one copy", append(rule(broker.CorrelationFilter{To: "to"}), broker.Rule{}), true},
		{"text property", property("text", "x"), true},
		{"other text", property("text", "y"), false},
		{"number from JSON", property("int", 5.0), true},
		{"unsigned number", property("ulong", 7.0), true},
		{"other number", property("int", 6.0), false},
		{"a number is no text", property("int", "5"), false},
		{"text is no number", property("text", 5.0), false},
		{"bool", property("yes", true), true},
		{"bytes", property("bytes", []byte{1}), true},
		{"missing", property("missing", nil), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			topic, subs := newTopic(t, broker.TopicConfig{Subscriptions: []broker.SubscriptionConfig{{Name: "s", Rules: test.rules}}})
			send(t, topic, message)
			want := 0
			if test.want {
				want = 1
			}
			if got := subs[0].Counts().Active; got != want {
				t.Errorf("%d copies, want %d", got, want)
			}
		})
	}
}

func TestTopicSeesDuplicatesBeforeItsSubscriptions(t *testing.T) {
	topic, subs := newTopic(t, broker.TopicConfig{
		DuplicateDetectionWindow: time.Minute,
		Subscriptions: []broker.SubscriptionConfig{
			{Name: "yes", Rules: []broker.Rule{{Filter: &broker.CorrelationFilter{Subject: "yes"}}}},
		},
	})
	send(t, topic, &broker.Message{ID: "1", Fields: broker.Fields{Subject: "no"}})
	if got := send(t, topic, &broker.Message{ID: "1", Fields: broker.Fields{Subject: "yes"}}); got[0] != 1 {
		t.Errorf("the repeat has number %d, want 1", got[0])
	}
	wantCounts(t, subs[0], broker.Counts{})
}

func TestTopicKeepsScheduledMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		topic, subs := newTopic(t, broker.TopicConfig{Subscriptions: []broker.SubscriptionConfig{{Name: "a"}, {Name: "b"}}})
		due := time.Now().Add(time.Hour)
		send(t, topic, &broker.Message{ID: "cancelled", ScheduledFor: due}, &broker.Message{ID: "kept", ScheduledFor: due, Size: 1})
		box := consume(t, subs[0], broker.PeekLock, 1)
		wantCounts(t, topic, broker.Counts{Scheduled: 2, Bytes: 1})
		must(t, topic.CancelScheduled(1))
		if ds := topic.Peek(0, 9); len(ds) != 1 || ds[0].Message.ID != "kept" || ds[0].State != broker.Scheduled {
			t.Errorf("peek finds %v, want the kept one, scheduled", ds)
		}
		pass(time.Hour)
		if len(box.got()) != 1 || !box.times()[0].Equal(due) || !box.got()[0].EnqueuedTime.Equal(due) {
			t.Errorf("delivered %v at %v, want kept at %v", box.ids(), box.times(), due)
		}
		wantCounts(t, topic, broker.Counts{Bytes: 2})
		wantCounts(t, subs[1], broker.Counts{Active: 1, Bytes: 1})
	})
}

func TestSubscriptionTimeToLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		topic, subs := newTopic(t, broker.TopicConfig{
			DefaultMessageTTL: 2 * time.Minute,
			Subscriptions: []broker.SubscriptionConfig{
				{Name: "shorter", DefaultMessageTTL: time.Minute},
				{Name: "longer", DefaultMessageTTL: 3 * time.Minute},
				{Name: "none"},
			},
		})
		send(t, topic, &broker.Message{}, &broker.Message{TTL: time.Second})
		for i, want := range []time.Duration{time.Minute, 2 * time.Minute, 2 * time.Minute} {
			var left []time.Duration
			for _, d := range subs[i].Peek(0, 9) {
				left = append(left, time.Until(d.ExpiresAt))
			}
			if diff := cmp.Diff([]time.Duration{want, time.Second}, left); diff != "" {
				t.Errorf("life left in %s (-want +got):\n%s", subs[i].Path(), diff)
			}
		}
	})
}

func TestTopicWithoutSubscriptionsDropsMessages(t *testing.T) {
	topic, _ := newTopic(t, broker.TopicConfig{})
	send(t, topic, &broker.Message{Size: 5})
	wantCounts(t, topic, broker.Counts{})
}
