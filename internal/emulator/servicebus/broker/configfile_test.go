package broker_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hsmsweep/internal/emulator/servicebus/broker"
)

func TestLoadConfig(t *testing.T) {
	got, err := broker.LoadConfig(strings.NewReader(`{
	  "UserConfig": {
	    "Namespaces": [{
	      "Name": "sbemulatorns",
	      "Queues": [
	        {"Name": "queue.1", "Properties": {
	          "DeadLetteringOnMessageExpiration": true,
	          "DefaultMessageTimeToLive": "P14D",
	          "DuplicateDetectionHistoryTimeWindow": "PT5M",
	          "ForwardDeadLetteredMessagesTo": "",
	          "ForwardTo": "",
	          "LockDuration": "PT1M30S",
	          "MaxDeliveryCount": 5,
	          "RequiresDuplicateDetection": true,
	          "RequiresSession": false}},
	        {"Name": "defaults"}
	      ],
	      "Topics": [{
	        "Name": "topic.1",
	        "Properties": {
	          "DefaultMessageTimeToLive": "P10675199DT2H48M5.4775807S",
	          "DuplicateDetectionHistoryTimeWindow": "PT20S",
	          "RequiresDuplicateDetection": false},
	        "Subscriptions": [
	          {"Name": "subscription.1",
	           "Properties": {"DeadLetteringOnMessageExpiration": true, "LockDuration": "PT0.5S", "MaxDeliveryCount": 7, "RequiresSession": false},
	           "Rules": [
	             {"Name": "all-fields", "Properties": {"FilterType": "Correlation", "CorrelationFilter": {
	               "ContentType": "application/text", "CorrelationId": "id1", "Label": "subject1", "MessageId": "msgid1",
	               "ReplyTo": "someQueue", "ReplyToSessionId": "sessionId", "SessionId": "session1", "To": "xyz"}}},
	             {"Name": "properties", "Properties": {"FilterType": "Correlation", "CorrelationFilter": {
	               "Properties": {"prop1": "value1", "prop2": 2}}}}
	           ]},
	          {"Name": "subscription.2"}
	        ]}]
	    }],
	    "Logging": {"Type": "File"}
	  }
	}`))
	if err != nil {
		t.Fatal(err)
	}
	want := broker.Config{
		Queues: []broker.QueueConfig{
			{Name: "queue.1", LockDuration: 90 * time.Second, DefaultMessageTTL: 14 * 24 * time.Hour,
				DuplicateDetectionWindow: 5 * time.Minute, MaxDeliveryCount: 5, DeadLetterOnExpiration: true},
			{Name: "defaults", LockDuration: time.Minute, DefaultMessageTTL: time.Hour, MaxDeliveryCount: 3},
		},
		Topics: []broker.TopicConfig{{
			Name:              "topic.1",
			DefaultMessageTTL: 36525 * 24 * time.Hour,
			Subscriptions: []broker.SubscriptionConfig{
				{Name: "subscription.1", LockDuration: time.Second / 2, DefaultMessageTTL: time.Hour, MaxDeliveryCount: 7,
					DeadLetterOnExpiration: true, Rules: []broker.Rule{
						{Name: "all-fields", Filter: &broker.CorrelationFilter{CorrelationID: "id1", MessageID: "msgid1", To: "xyz",
							ReplyTo: "someQueue", Subject: "subject1", SessionID: "session1", ReplyToSessionID: "sessionId",
							ContentType: "application/text"}},
						{Name: "properties", Filter: &broker.CorrelationFilter{Properties: map[string]any{"prop1": "value1", "prop2": 2.0}}},
					}},
				{Name: "subscription.2", LockDuration: time.Minute, DefaultMessageTTL: time.Hour, MaxDeliveryCount: 3},
			},
		}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	newBroker(t, got)
}

func TestLoadConfigNamesWhatIsWrong(t *testing.T) {
	queue := func(properties string) string {
		return fmt.Sprintf(`{"UserConfig":{"Namespaces":[{"Queues":[{"Name":"q","Properties":{%s}}]}]}}`, properties)
	}
	subscription := func(members string) string {
		return fmt.Sprintf(`{"UserConfig":{"Namespaces":[{"Topics":[{"Name":"t","Subscriptions":[{"Name":"s",%s}]}]}]}}`, members)
	}
	tests := []struct {
		name, file string
		want       []string
	}{
		{"not JSON", `UserConfig`, []string{"emulator configuration"}},
		{"no namespace", `{"UserConfig":{"Namespaces":[]}}`, []string{"Namespaces has 0 entries"}},
		{"unknown member", queue(`"LockDurations":"PT1M"`), []string{"/UserConfig/Namespaces/0/Queues/0/Properties", "LockDurations"}},
		{"receiver setting on a topic", `{"UserConfig":{"Namespaces":[{"Topics":[{"Name":"t","Properties":{"LockDuration":"PT1M"}}]}]}}`, []string{"LockDuration"}},
		{"wrong type", queue(`"MaxDeliveryCount":"ten"`), []string{"/Queues/0/Properties/MaxDeliveryCount"}},
		{"sessions", queue(`"RequiresSession":true`), []string{`queue "q": RequiresSession`}},
		{"two faults", queue(`"ForwardTo":"x","ForwardDeadLetteredMessagesTo":"y"`), []string{`queue "q": ForwardTo`, `queue "q": ForwardDeadLetteredMessagesTo`}},
		{"subscription forwards", subscription(`"Properties":{"ForwardTo":"x"}`), []string{`topic "t" subscription "s": ForwardTo`}},
		{"SQL filter", subscription(`"Rules":[{"Name":"r","Properties":{"FilterType":"Sql","SqlFilter":{"SqlExpression":"1=1"}}}]`),
			[]string{`topic "t" subscription "s" rule "r": FilterType: "Sql"`}},
		{"rule action", subscription(`"Rules":[{"Name":"r","Properties":{"FilterType":"Correlation","CorrelationFilter":{"To":"x"},"Action":{"SqlExpression":"SET x=1"}}}]`),
			[]string{`rule "r": Action`}},
		{"no filter", subscription(`"Rules":[{"Name":"r","Properties":{"FilterType":"Correlation"}}]`), []string{`rule "r": CorrelationFilter`}},
		{"no duration", queue(`"LockDuration":"60"`), []string{`queue "q": LockDuration: "60"`}},
		{"empty duration", queue(`"LockDuration":"PT"`), []string{`LockDuration: "PT"`}},
		{"zero duration", queue(`"LockDuration":"PT0S"`), []string{`LockDuration: "PT0S"`}},
		{"months", queue(`"LockDuration":"P1M"`), []string{`LockDuration: "P1M"`}},
		{"wrong order", queue(`"LockDuration":"PT1S1M"`), []string{`LockDuration: "PT1S1M"`}},
		{"too large to read", queue(`"LockDuration":"PT99999999999999H"`), []string{`LockDuration: "PT99999999999999H"`}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := broker.LoadConfig(strings.NewReader(test.file))
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error lacks %q: %v", want, err)
				}
			}
		})
	}
}

func TestDefaultConfig(t *testing.T) {
	b := newBroker(t, broker.DefaultConfig())
	for _, path := range []string{"connection-deletes", "connection-events", "connection-events/Subscriptions/all"} {
		if got := entity(t, b, path).MaxMessageSize(); got != 262144 {
			t.Errorf("%s takes messages of %d bytes, want 262144", path, got)
		}
	}
	for _, path := range []string{"connection-deletes", "connection-events"} {
		e := entity(t, b, path)
		if first, second := send(t, e, &broker.Message{ID: "m"}), send(t, e, &broker.Message{ID: "m"}); first[0] != second[0] {
			t.Errorf("%s does not detect duplicates", path)
		}
	}
}
