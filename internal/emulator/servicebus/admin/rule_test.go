package admin_test

import (
	"testing"
	"time"

	sdk "github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus/admin"
	"github.com/google/go-cmp/cmp"

	"hsmsweep/internal/emulator/servicebus/broker"
)

func oneSubscription() broker.Config {
	return broker.Config{Topics: []broker.TopicConfig{{Name: "t", Subscriptions: []broker.SubscriptionConfig{{Name: "s"}}}}}
}

func TestRules(t *testing.T) {
	when := time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC)
	tests := []struct {
		name   string
		filter sdk.RuleFilter
		want   broker.Rule
		shown  sdk.RuleFilter // nil: as it was sent
	}{
		{"none", nil, broker.Rule{}, &sdk.TrueFilter{}},
		{"true", &sdk.TrueFilter{}, broker.Rule{}, nil},
		{"false", &sdk.FalseFilter{}, broker.Rule{Never: true}, nil},
		{"every-field", &sdk.CorrelationFilter{
			CorrelationID: new("c"), MessageID: new("m"), To: new("t"), ReplyTo: new("r"), Subject: new(" s "),
			SessionID: new("si"), ReplyToSessionID: new("rs"), ContentType: new("ct"),
		}, broker.Rule{Filter: &broker.CorrelationFilter{
			CorrelationID: "c", MessageID: "m", To: "t", ReplyTo: "r", Subject: " s ", SessionID: "si", ReplyToSessionID: "rs", ContentType: "ct",
		}}, nil},
		{"properties", &sdk.CorrelationFilter{ApplicationProperties: map[string]any{
			"text": " a<b ", "empty": "", "yes": true, "int": int64(1) << 40, "double": 1.5, "when": when,
		}}, broker.Rule{Filter: &broker.CorrelationFilter{Properties: map[string]any{
			"text": " a<b ", "empty": "", "yes": true, "int": int64(1) << 40, "double": 1.5, "when": when,
		}}}, nil},
	}
	b, client := start(t, oneSubscription())
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			want := sdk.RuleProperties{Name: test.name, Filter: test.filter}
			if test.shown != nil {
				want.Filter = test.shown
			}
			created := must[sdk.CreateRuleResponse](t)(client.CreateRule(t.Context(), "t", "s", &sdk.CreateRuleOptions{Name: &test.name, Filter: test.filter}))
			if diff := cmp.Diff(want, created.RuleProperties); diff != "" {
				t.Errorf("created (-want +got):\n%s", diff)
			}
			got := must[*sdk.GetRuleResponse](t)(client.GetRule(t.Context(), "t", "s", test.name, nil))
			if diff := cmp.Diff(want, got.RuleProperties); diff != "" {
				t.Errorf("got (-want +got):\n%s", diff)
			}
			rules := entity(t, b, "t/Subscriptions/s").Describe().Rules
			test.want.Name = test.name
			if diff := cmp.Diff(test.want, rules[len(rules)-1]); diff != "" {
				t.Errorf("the broker's rule (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRulesDecideAtOnce(t *testing.T) {
	b, client := start(t, oneSubscription())
	ctx := t.Context()
	topic, s := entity(t, b, "t"), entity(t, b, "t/Subscriptions/s")
	wantTaken := func(why string, want bool) {
		t.Helper()
		before := s.Counts().Active
		if _, err := topic.Send(&broker.Message{Fields: broker.Fields{Properties: map[string]any{"n": int32(5)}}}); err != nil {
			t.Fatal(err)
		}
		if got := s.Counts().Active > before; got != want {
			t.Errorf("%s: message taken %v, want %v", why, got, want)
		}
	}
	filter := func(n int) sdk.RuleFilter {
		return &sdk.CorrelationFilter{ApplicationProperties: map[string]any{"n": n}}
	}
	wantTaken("as created", true)
	must[sdk.DeleteRuleResponse](t)(client.DeleteRule(ctx, "t", "s", "$Default", nil))
	wantTaken("without a rule", false)
	must[sdk.CreateRuleResponse](t)(client.CreateRule(ctx, "t", "s", &sdk.CreateRuleOptions{Name: new("five"), Filter: filter(5)}))
	wantTaken("with a rule that matches", true)
	must[sdk.UpdateRuleResponse](t)(client.UpdateRule(ctx, "t", "s", sdk.RuleProperties{Name: "five", Filter: filter(6)}))
	wantTaken("with a rule that does not match", false)
	unnamed := must[sdk.CreateRuleResponse](t)(client.CreateRule(ctx, "t", "s", &sdk.CreateRuleOptions{}))
	if unnamed.Name != "$Default" {
		t.Errorf("a rule without a name is called %q, want $Default", unnamed.Name)
	}
	wantTaken("with the default rule again", true)
}

func TestRuleRefusals(t *testing.T) {
	_, client := start(t, oneSubscription())
	ctx := t.Context()
	create := func(topic string, o sdk.CreateRuleOptions) error {
		_, err := client.CreateRule(ctx, topic, "s", &o)
		return err
	}
	_, errUpdate := client.UpdateRule(ctx, "t", "s", sdk.RuleProperties{Name: "none"})
	_, errDelete := client.DeleteRule(ctx, "t", "s", "none", nil)
	tests := []struct {
		name   string
		err    error
		status int
		words  string
	}{
		{"that exists", create("t", sdk.CreateRuleOptions{Name: new("$default")}), 409, "the name is taken"},
		{"of no subscription", create("none", sdk.CreateRuleOptions{}), 404, "no such entity"},
		{"update of none", errUpdate, 404, "rule &#34;none&#34;"},
		{"delete of none", errDelete, 404, "rule &#34;none&#34;"},
		{"SQL", create("t", sdk.CreateRuleOptions{Name: new("r"), Filter: &sdk.SQLFilter{Expression: "1=1"}}), 400, "SQL filters are not supported"},
		{"action", create("t", sdk.CreateRuleOptions{Name: new("r"), Action: &sdk.SQLAction{Expression: "SET a=1"}}), 400, "rule actions are not supported"},
		{"no condition", create("t", sdk.CreateRuleOptions{Name: new("r"), Filter: &sdk.CorrelationFilter{}}), 400, "at least one condition"},
		{"empty condition", create("t", sdk.CreateRuleOptions{Name: new("r"), Filter: &sdk.CorrelationFilter{To: new("")}}), 400, "To has no text"},
		{"bad name", create("t", sdk.CreateRuleOptions{Name: new("a@b")}), 400, "the name of a rule has 1 to 50"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { wantRefusal(t, test.err, test.status, test.words) })
	}
	if got, err := client.GetRule(ctx, "t", "s", "none", nil); got != nil || err != nil {
		t.Errorf("a rule that is not there: %v, error %v; want neither", got, err)
	}
}

func TestRulesOfTheConfigurationAreShown(t *testing.T) {
	_, client := start(t, broker.Config{Topics: []broker.TopicConfig{{Name: "t", Subscriptions: []broker.SubscriptionConfig{
		{Name: "s", Rules: []broker.Rule{{Filter: &broker.CorrelationFilter{Properties: map[string]any{"n": 5.0, "null": nil}}}}},
	}}}})
	got := must[*sdk.GetRuleResponse](t)(client.GetRule(t.Context(), "t", "s", "rule-1", nil))
	want := sdk.RuleProperties{Name: "rule-1", Filter: &sdk.CorrelationFilter{ApplicationProperties: map[string]any{"n": 5.0, "null": "<nil>"}}}
	if diff := cmp.Diff(want, got.RuleProperties); diff != "" {
		t.Errorf("rule (-want +got):\n%s", diff)
	}
}
