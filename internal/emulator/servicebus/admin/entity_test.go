package admin_test

import (
	"testing"
	"time"

	sdk "github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus/admin"
	"github.com/google/go-cmp/cmp"

	"hsmsweep/internal/emulator/servicebus/broker"
)

const forever = "P10675199DT2H48M5.4775807S"

// defaultQueue and its like are what the service makes of a creation that says nothing.

func defaultQueue() sdk.QueueProperties {
	return sdk.QueueProperties{
		LockDuration: new("PT1M"), MaxSizeInMegabytes: new(int32(1024)), RequiresDuplicateDetection: new(false), RequiresSession: new(false),
		DefaultMessageTimeToLive: new(forever), DeadLetteringOnMessageExpiration: new(false), DuplicateDetectionHistoryTimeWindow: new("PT10M"),
		MaxDeliveryCount: new(int32(10)), EnableBatchedOperations: new(true), Status: new(sdk.EntityStatusActive), AutoDeleteOnIdle: new(forever),
		EnablePartitioning: new(false), MaxMessageSizeInKilobytes: new(int64(256)),
	}
}

func defaultTopic() sdk.TopicProperties {
	return sdk.TopicProperties{
		MaxSizeInMegabytes: new(int32(1024)), RequiresDuplicateDetection: new(false), DefaultMessageTimeToLive: new(forever),
		DuplicateDetectionHistoryTimeWindow: new("PT10M"), EnableBatchedOperations: new(true), Status: new(sdk.EntityStatusActive),
		AutoDeleteOnIdle: new(forever), EnablePartitioning: new(false), SupportOrdering: new(true), MaxMessageSizeInKilobytes: new(int64(256)),
	}
}

func defaultSubscription() sdk.SubscriptionProperties {
	return sdk.SubscriptionProperties{
		LockDuration: new("PT1M"), RequiresSession: new(false), DefaultMessageTimeToLive: new(forever), DeadLetteringOnMessageExpiration: new(false),
		EnableDeadLetteringOnFilterEvaluationExceptions: new(true), MaxDeliveryCount: new(int32(10)), Status: new(sdk.EntityStatusActive),
		AutoDeleteOnIdle: new(forever), EnableBatchedOperations: new(true),
	}
}

func TestQueue(t *testing.T) {
	b, client := start(t, broker.Config{})
	ctx := t.Context()

	created := must[sdk.CreateQueueResponse](t)(client.CreateQueue(ctx, "Plain/one", nil))
	if diff := cmp.Diff(defaultQueue(), created.QueueProperties); diff != "" {
		t.Errorf("created with defaults (-want +got):\n%s", diff)
	}

	want := defaultQueue()
	want.LockDuration = new("PT1M30.5S")
	want.MaxSizeInMegabytes = new(int32(2048))
	want.RequiresDuplicateDetection = new(true)
	want.DuplicateDetectionHistoryTimeWindow = new("P1DT2H")
	want.DefaultMessageTimeToLive = new("P14D")
	want.DeadLetteringOnMessageExpiration = new(true)
	want.MaxDeliveryCount = new(int32(7))
	want.EnableBatchedOperations = new(false)
	want.UserMetadata = new(" of <nobody>\n")
	want.MaxMessageSizeInKilobytes = new(int64(1024))
	full := must[sdk.CreateQueueResponse](t)(client.CreateQueue(ctx, "full", &sdk.CreateQueueOptions{Properties: &want}))
	if diff := cmp.Diff(want, full.QueueProperties); diff != "" {
		t.Errorf("created in full (-want +got):\n%s", diff)
	}
	settings := broker.QueueConfig{
		Name: "full", LockDuration: 90*time.Second + 500*time.Millisecond, DefaultMessageTTL: 14 * 24 * time.Hour, DuplicateDetectionWindow: 26 * time.Hour,
		MaxDeliveryCount: 7, DeadLetterOnExpiration: true, MaxMessageSize: 1 << 20, MaxSizeBytes: 2 << 30,
		Annotations: map[string]string{"EnableBatchedOperations": "false", "UserMetadata": " of <nobody>\n"},
	}
	if diff := cmp.Diff(settings, entity(t, b, "full").Describe().Config); diff != "" {
		t.Errorf("the broker's settings (-want +got):\n%s", diff)
	}

	// An update replaces everything: what it leaves out has its default again.
	want = defaultQueue()
	want.RequiresDuplicateDetection, want.MaxDeliveryCount = new(true), new(int32(3))
	updated := must[sdk.UpdateQueueResponse](t)(client.UpdateQueue(ctx, "full", sdk.QueueProperties{
		RequiresDuplicateDetection: new(true), MaxDeliveryCount: new(int32(3))}, nil))
	if diff := cmp.Diff(want, updated.QueueProperties); diff != "" {
		t.Errorf("updated (-want +got):\n%s", diff)
	}
	got := must[*sdk.GetQueueResponse](t)(client.GetQueue(ctx, "FULL", nil))
	if diff := cmp.Diff(want, got.QueueProperties); diff != "" {
		t.Errorf("got (-want +got):\n%s", diff)
	}
	// What was got can be put back.
	must[sdk.UpdateQueueResponse](t)(client.UpdateQueue(ctx, "full", got.QueueProperties, nil))

	must[sdk.DeleteQueueResponse](t)(client.DeleteQueue(ctx, "full", nil))
	if gone, err := client.GetQueue(ctx, "full", nil); gone != nil || err != nil {
		t.Errorf("after deletion: %v, error %v; want neither", gone, err)
	}
	_, err := client.DeleteQueue(ctx, "full", nil)
	wantRefusal(t, err, 404, "no such entity")
}

func TestTopicAndSubscription(t *testing.T) {
	b, client := start(t, broker.Config{})
	ctx := t.Context()

	topic := must[sdk.CreateTopicResponse](t)(client.CreateTopic(ctx, "t", nil))
	if diff := cmp.Diff(defaultTopic(), topic.TopicProperties); diff != "" {
		t.Errorf("topic with defaults (-want +got):\n%s", diff)
	}
	wantTopic := defaultTopic()
	wantTopic.SupportOrdering, wantTopic.DefaultMessageTimeToLive, wantTopic.DuplicateDetectionHistoryTimeWindow = new(false), new("PT1H"), new("PT20S")
	updated := must[sdk.UpdateTopicResponse](t)(client.UpdateTopic(ctx, "t", wantTopic, nil))
	if diff := cmp.Diff(wantTopic, updated.TopicProperties); diff != "" {
		t.Errorf("updated topic (-want +got):\n%s", diff)
	}
	got := must[*sdk.GetTopicResponse](t)(client.GetTopic(ctx, "t", nil))
	if diff := cmp.Diff(wantTopic, got.TopicProperties); diff != "" {
		t.Errorf("got topic (-want +got):\n%s", diff)
	}

	s := must[sdk.CreateSubscriptionResponse](t)(client.CreateSubscription(ctx, "t", "s", nil))
	if diff := cmp.Diff(defaultSubscription(), s.SubscriptionProperties); diff != "" {
		t.Errorf("subscription with defaults (-want +got):\n%s", diff)
	}
	want := defaultSubscription()
	want.LockDuration, want.MaxDeliveryCount, want.DefaultMessageTimeToLive = new("PT5M"), new(int32(2000)), new("PT1S")
	want.DeadLetteringOnMessageExpiration, want.EnableDeadLetteringOnFilterEvaluationExceptions = new(true), new(false)
	want.UserMetadata = new("note")
	sent := want
	sent.DefaultRule = &sdk.RuleProperties{Name: "mine", Filter: &sdk.CorrelationFilter{Subject: new("x")}}
	full := must[sdk.CreateSubscriptionResponse](t)(client.CreateSubscription(ctx, "t", "full", &sdk.CreateSubscriptionOptions{Properties: &sent}))
	if diff := cmp.Diff(want, full.SubscriptionProperties); diff != "" {
		t.Errorf("subscription in full (-want +got):\n%s", diff)
	}
	rules := entity(t, b, "t/Subscriptions/full").Describe().Rules
	if diff := cmp.Diff([]broker.Rule{{Name: "mine", Filter: &broker.CorrelationFilter{Subject: "x"}}}, rules); diff != "" {
		t.Errorf("its rules (-want +got):\n%s", diff)
	}
	want.LockDuration = new("PT10S")
	us := must[sdk.UpdateSubscriptionResponse](t)(client.UpdateSubscription(ctx, "t", "full", want, nil))
	if diff := cmp.Diff(want, us.SubscriptionProperties); diff != "" {
		t.Errorf("updated subscription (-want +got):\n%s", diff)
	}
	gs := must[*sdk.GetSubscriptionResponse](t)(client.GetSubscription(ctx, "t", "full", nil))
	if diff := cmp.Diff(want, gs.SubscriptionProperties); diff != "" {
		t.Errorf("got subscription (-want +got):\n%s", diff)
	}
	if after := entity(t, b, "t/Subscriptions/full").Describe().Rules; !cmp.Equal(rules, after) {
		t.Errorf("an update of the subscription changed its rules to %v", after)
	}

	must[sdk.DeleteSubscriptionResponse](t)(client.DeleteSubscription(ctx, "t", "s", nil))
	must[sdk.DeleteTopicResponse](t)(client.DeleteTopic(ctx, "t", nil))
	if gone, err := client.GetTopic(ctx, "t", nil); gone != nil || err != nil {
		t.Errorf("topic after deletion: %v, error %v; want neither", gone, err)
	}
	if gone, err := client.GetSubscription(ctx, "t", "full", nil); gone != nil || err != nil {
		t.Errorf("subscription after the topic's deletion: %v, error %v; want neither", gone, err)
	}
}

func TestRuntimeProperties(t *testing.T) {
	before := time.Now().Add(-time.Second)
	b, client := start(t, broker.Config{
		Queues: []broker.QueueConfig{{Name: "q"}},
		Topics: []broker.TopicConfig{{Name: "t", Subscriptions: []broker.SubscriptionConfig{
			{Name: "s"},
			{Name: "picky", Rules: []broker.Rule{{Name: "a", Filter: &broker.CorrelationFilter{Subject: "x"}}, {Name: "b", Never: true}}},
		}}},
	})
	ctx := t.Context()
	fresh := must[*sdk.GetQueueRuntimePropertiesResponse](t)(client.GetQueueRuntimeProperties(ctx, "q", nil))
	if !fresh.AccessedAt.IsZero() || fresh.CreatedAt.Before(before) || !fresh.UpdatedAt.Equal(fresh.CreatedAt) {
		t.Errorf("times of a fresh queue %+v, want created and updated just now, never accessed", fresh.QueueRuntimeProperties)
	}

	for _, path := range []string{"q", "t"} {
		later := time.Now().Add(time.Hour)
		if _, err := entity(t, b, path).Send(&broker.Message{Size: 1}, &broker.Message{Size: 2}, &broker.Message{Size: 3},
			&broker.Message{Size: 4, ScheduledFor: later}, &broker.Message{Size: 5, ScheduledFor: later}); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"q", "t/Subscriptions/s"} {
		e := entity(t, b, path)
		var first *broker.Delivery
		c := must[*broker.Consumer](t)(e.Consume(broker.PeekLock, func(d *broker.Delivery) { first = d }))
		c.SetCredit(1)
		c.Close()
		if err := e.DeadLetter(first.Token, "r", "d", nil); err != nil {
			t.Fatal(err)
		}
	}

	q := must[*sdk.GetQueueRuntimePropertiesResponse](t)(client.GetQueueRuntimeProperties(ctx, "q", nil))
	if q.AccessedAt.Before(before) {
		t.Errorf("AccessedAt %v after a receive, want just now", q.AccessedAt)
	}
	want := sdk.QueueRuntimeProperties{
		SizeInBytes: 15, TotalMessageCount: 5, ActiveMessageCount: 2, DeadLetterMessageCount: 1, ScheduledMessageCount: 2,
		CreatedAt: q.CreatedAt, UpdatedAt: q.UpdatedAt, AccessedAt: q.AccessedAt,
	}
	if diff := cmp.Diff(want, q.QueueRuntimeProperties); diff != "" {
		t.Errorf("queue (-want +got):\n%s", diff)
	}
	listed := must[sdk.ListQueuesRuntimePropertiesResponse](t)(client.NewListQueuesRuntimePropertiesPager(nil).NextPage(ctx))
	if diff := cmp.Diff([]sdk.QueueRuntimePropertiesItem{{QueueName: "q", QueueRuntimeProperties: want}}, listed.QueueRuntimeProperties); diff != "" {
		t.Errorf("listed queue (-want +got):\n%s", diff)
	}

	topic := must[*sdk.GetTopicRuntimePropertiesResponse](t)(client.GetTopicRuntimeProperties(ctx, "t", nil))
	wantTopic := sdk.TopicRuntimeProperties{
		SizeInBytes: 15, SubscriptionCount: 2, SQLFilterCount: 2, CorrelationFilterCount: 1, ScheduledMessageCount: 2,
		CreatedAt: topic.CreatedAt, UpdatedAt: topic.UpdatedAt, AccessedAt: topic.AccessedAt,
	}
	if diff := cmp.Diff(wantTopic, topic.TopicRuntimeProperties); diff != "" {
		t.Errorf("topic (-want +got):\n%s", diff)
	}
	topics := must[sdk.ListTopicsRuntimePropertiesResponse](t)(client.NewListTopicsRuntimePropertiesPager(nil).NextPage(ctx))
	if diff := cmp.Diff([]sdk.TopicRuntimePropertiesItem{{TopicName: "t", TopicRuntimeProperties: wantTopic}}, topics.TopicRuntimeProperties); diff != "" {
		t.Errorf("listed topic (-want +got):\n%s", diff)
	}

	s := must[*sdk.GetSubscriptionRuntimePropertiesResponse](t)(client.GetSubscriptionRuntimeProperties(ctx, "t", "s", nil))
	wantSubscription := sdk.SubscriptionRuntimeProperties{
		TotalMessageCount: 3, ActiveMessageCount: 2, DeadLetterMessageCount: 1,
		CreatedAt: s.CreatedAt, UpdatedAt: s.UpdatedAt, AccessedAt: s.AccessedAt,
	}
	if diff := cmp.Diff(wantSubscription, s.SubscriptionRuntimeProperties); diff != "" {
		t.Errorf("subscription (-want +got):\n%s", diff)
	}
	subscriptions := must[sdk.ListSubscriptionsRuntimePropertiesResponse](t)(client.NewListSubscriptionsRuntimePropertiesPager("t", nil).NextPage(ctx))
	var names []string
	for _, item := range subscriptions.SubscriptionRuntimeProperties {
		names = append(names, item.SubscriptionName)
	}
	if diff := cmp.Diff([]string{"picky", "s"}, names); diff != "" {
		t.Errorf("listed subscriptions (-want +got):\n%s", diff)
	}
	for _, get := range []func() (bool, error){
		func() (bool, error) {
			got, err := client.GetQueueRuntimeProperties(ctx, "none", nil)
			return got == nil, err
		},
		func() (bool, error) {
			got, err := client.GetSubscriptionRuntimeProperties(ctx, "t", "none", nil)
			return got == nil, err
		},
	} {
		if absent, err := get(); !absent || err != nil {
			t.Errorf("runtime properties of what is not there: absent %v, error %v", absent, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	_, client := start(t, broker.Config{
		Queues: []broker.QueueConfig{{Name: "q"}, {Name: "dedup", DuplicateDetectionWindow: time.Minute}},
		Topics: []broker.TopicConfig{{Name: "t", Subscriptions: []broker.SubscriptionConfig{{Name: "s"}}}},
	})
	ctx := t.Context()
	createQueue := func(p sdk.QueueProperties) error {
		_, err := client.CreateQueue(ctx, "new", &sdk.CreateQueueOptions{Properties: &p})
		return err
	}
	createTopic := func(p sdk.TopicProperties) error {
		_, err := client.CreateTopic(ctx, "new", &sdk.CreateTopicOptions{Properties: &p})
		return err
	}
	createSubscription := func(topic, name string, p sdk.SubscriptionProperties) error {
		_, err := client.CreateSubscription(ctx, topic, name, &sdk.CreateSubscriptionOptions{Properties: &p})
		return err
	}
	updateQueue := func(name string, p sdk.QueueProperties) error {
		_, err := client.UpdateQueue(ctx, name, p, nil)
		return err
	}
	exists := func(name string) error {
		_, err := client.CreateQueue(ctx, name, nil)
		return err
	}
	tests := []struct {
		name   string
		err    error
		status int
		words  string
	}{
		{"queue that exists", exists("Q"), 409, "the name is taken"},
		{"queue named as a topic", exists("t"), 409, "the name is taken"},
		{"subscription that exists", createSubscription("t", "s", sdk.SubscriptionProperties{}), 409, "the name is taken"},
		{"subscription of no topic", createSubscription("none", "s", sdk.SubscriptionProperties{}), 404, "no such entity"},
		{"update of nothing", updateQueue("none", sdk.QueueProperties{}), 404, "no such entity"},
		{"update of a topic as a queue", updateQueue("t", sdk.QueueProperties{}), 400, "is a topic and cannot become a queue"},
		{"duplicate detection on", updateQueue("q", sdk.QueueProperties{RequiresDuplicateDetection: new(true)}), 400, "duplicate detection is switched on or off at creation only"},
		{"duplicate detection left out", updateQueue("dedup", sdk.QueueProperties{}), 400, "duplicate detection is switched on or off at creation only"},
		{"sessions", createQueue(sdk.QueueProperties{RequiresSession: new(true)}), 400, "RequiresSession is &#34;true&#34;: message sessions are not supported"},
		{"sessions of a subscription", createSubscription("t", "x", sdk.SubscriptionProperties{RequiresSession: new(true)}), 400, "RequiresSession"},
		{"sessions by update", updateQueue("q", sdk.QueueProperties{RequiresSession: new(true)}), 400, "RequiresSession"},
		{"partitions", createQueue(sdk.QueueProperties{EnablePartitioning: new(true)}), 400, "EnablePartitioning is &#34;true&#34;: partitions are not supported"},
		{"partitions of a topic", createTopic(sdk.TopicProperties{EnablePartitioning: new(true)}), 400, "EnablePartitioning"},
		{"forwarding", createQueue(sdk.QueueProperties{ForwardTo: new("q")}), 400, "ForwardTo is &#34;q&#34;: forwarding is not supported"},
		{"forwarding of dead letters", createQueue(sdk.QueueProperties{ForwardDeadLetteredMessagesTo: new("q")}), 400, "ForwardDeadLetteredMessagesTo"},
		{"forwarding of a subscription", createSubscription("t", "x", sdk.SubscriptionProperties{ForwardTo: new("q")}), 400, "ForwardTo"},
		{"no status", createQueue(sdk.QueueProperties{Status: new(sdk.EntityStatus("Asleep"))}), 400, "status &#34;Asleep&#34; is none of"},
		{"deleted when idle", createQueue(sdk.QueueProperties{AutoDeleteOnIdle: new("PT1H")}), 400, "AutoDeleteOnIdle is &#34;PT1H&#34;"},
		{"authorization rules", createQueue(sdk.QueueProperties{AuthorizationRules: []sdk.AuthorizationRule{{KeyName: new("k")}}}), 400, "AuthorizationRules"},
		{"bad duration", createQueue(sdk.QueueProperties{LockDuration: new("P1M")}), 400, "LockDuration is &#34;P1M&#34;: it must be a duration"},
		{"long lock", createQueue(sdk.QueueProperties{LockDuration: new("PT6M")}), 400, "LockDuration is 6m0s"},
		{"long lock by update", updateQueue("q", sdk.QueueProperties{LockDuration: new("PT6M")}), 400, "LockDuration is 6m0s"},
		{"bad window", createQueue(sdk.QueueProperties{DuplicateDetectionHistoryTimeWindow: new("10")}), 400, "DuplicateDetectionHistoryTimeWindow is &#34;10&#34;"},
		{"long window", createQueue(sdk.QueueProperties{RequiresDuplicateDetection: new(true), DuplicateDetectionHistoryTimeWindow: new("P8D")}), 400, "DuplicateDetectionWindow is 192h0m0s"},
		{"many deliveries", createQueue(sdk.QueueProperties{MaxDeliveryCount: new(int32(2001))}), 400, "MaxDeliveryCount is 2001"},
		{"no size", createQueue(sdk.QueueProperties{MaxSizeInMegabytes: new(int32(0))}), 400, "MaxSizeInMegabytes is &#34;0&#34;"},
		{"large messages", createQueue(sdk.QueueProperties{MaxMessageSizeInKilobytes: new(int64(102401))}), 400, "MaxMessageSize is 104858624"},
		{"default rule with an SQL filter", createSubscription("t", "x", sdk.SubscriptionProperties{
			DefaultRule: &sdk.RuleProperties{Filter: &sdk.SQLFilter{Expression: "a = 1"}}}), 400, "SQL filters are not supported"},
		{"default rule by update", func() error {
			_, err := client.UpdateSubscription(ctx, "t", "s", sdk.SubscriptionProperties{DefaultRule: &sdk.RuleProperties{}}, nil)
			return err
		}(), 400, "DefaultRuleDescription is for creation only"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { wantRefusal(t, test.err, test.status, test.words) })
	}
	if q, err := client.GetQueue(ctx, "new", nil); q != nil || err != nil {
		t.Errorf("a refused creation left %v, error %v", q, err)
	}
}

func TestUnlimitedSizeIsShownAsTheLargest(t *testing.T) {
	b, client := start(t, broker.Config{Queues: []broker.QueueConfig{{Name: "q"}, {Name: "small", MaxSizeBytes: 1<<20 + 1}}})
	for name, want := range map[string]int32{"q": 81920, "small": 2} {
		got := must[*sdk.GetQueueResponse](t)(client.GetQueue(t.Context(), name, nil))
		if *got.MaxSizeInMegabytes != want {
			t.Errorf("%s: MaxSizeInMegabytes %d, want %d", name, *got.MaxSizeInMegabytes, want)
		}
		must[sdk.UpdateQueueResponse](t)(client.UpdateQueue(t.Context(), name, got.QueueProperties, nil))
		if size := entity(t, b, name).Describe().Config.MaxSizeBytes; size != int64(want)<<20 {
			t.Errorf("%s: MaxSizeBytes %d once it was put back, want %d", name, size, int64(want)<<20)
		}
	}
}
