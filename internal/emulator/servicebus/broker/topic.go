package broker

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"time"
)

// defaultRule is the name of the rule that a subscription has unless it is created with others.
const defaultRule = "$Default"

func newTopic(b *Broker, c TopicConfig) *Entity {
	e := newEntity(b, Topic, c.settings().withDefaults())
	for _, s := range c.Subscriptions {
		e.subscriptions = append(e.subscriptions, newSubscription(e, s))
	}
	return e
}

func newSubscription(topic *Entity, c SubscriptionConfig) *Entity {
	settings := c.settings()
	settings.Name = topic.path + subscriptionsInfix + c.Name
	e := newQueue(topic.broker, Subscription, settings)
	e.parent = topic
	for i, r := range c.Rules {
		r.Name = cmp.Or(r.Name, fmt.Sprintf("rule-%d", i+1))
		e.rules = append(e.rules, r)
	}
	if len(c.Rules) == 0 {
		e.rules = []Rule{{Name: defaultRule}}
	}
	return e
}

// fanOut gives every subscription that wants it a copy of m. If none does, m is dropped.
func (e *Entity) fanOut(m *Message, number int64) {
	for _, s := range e.subscriptions {
		if s.wants(m) {
			r := &record{message: m, originalNumber: number}
			s.add(r)
			s.activate(r)
		}
	}
}

func (e *Entity) wants(m *Message) bool {
	return slices.ContainsFunc(e.rules, func(r Rule) bool { return r.matches(m) })
}

func (r Rule) matches(m *Message) bool {
	return !r.Never && (r.Filter == nil || r.Filter.matches(m))
}

func (f *CorrelationFilter) matches(m *Message) bool {
	for _, field := range [...]struct{ want, got string }{
		{f.CorrelationID, m.Fields.CorrelationID},
		{f.MessageID, m.ID},
		{f.To, m.Fields.To},
		{f.ReplyTo, m.Fields.ReplyTo},
		{f.Subject, m.Fields.Subject},
		{f.SessionID, m.Fields.SessionID},
		{f.ReplyToSessionID, m.Fields.ReplyToSessionID},
		{f.ContentType, m.Fields.ContentType},
	} {
		if field.want != "" && field.want != field.got {
			return false
		}
	}
	for name, want := range f.Properties {
		if got, ok := m.Fields.Properties[name]; !ok || !sameValue(want, got) {
			return false
		}
	}
	return true
}

// sameValue compares numbers by value (unverified): one in a JSON file is a float64 whatever the sender's type is.
func sameValue(x, y any) bool {
	if a, ok := number(x); ok {
		b, ok := number(y)
		return ok && a == b
	}
	if a, ok := x.(time.Time); ok {
		b, ok := y.(time.Time)
		return ok && a.Equal(b)
	}
	return reflect.DeepEqual(x, y)
}

func number(x any) (float64, bool) {
	switch v := reflect.ValueOf(x); {
	case v.CanInt():
		return float64(v.Int()), true
	case v.CanUint():
		return float64(v.Uint()), true
	case v.CanFloat():
		return v.Float(), true
	}
	return 0, false
}
