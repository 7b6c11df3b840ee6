package broker

import (
	"reflect"
	"slices"
)

func newTopic(b *Broker, c TopicConfig) *Entity {
	e := newEntity(b, QueueConfig{
		Name:                     c.Name,
		DefaultMessageTTL:        c.DefaultMessageTTL,
		DuplicateDetectionWindow: c.DuplicateDetectionWindow,
		MaxMessageSize:           c.MaxMessageSize,
		MaxSizeBytes:             c.MaxSizeBytes,
	}.withDefaults())
	e.topic = true
	return e
}

func newSubscription(topic *Entity, c SubscriptionConfig) *Entity {
	e := newQueue(topic.broker, QueueConfig{
		Name:                   topic.path + "/Subscriptions/" + c.Name,
		LockDuration:           c.LockDuration,
		DefaultMessageTTL:      shorter(topic.config.DefaultMessageTTL, c.DefaultMessageTTL),
		MaxDeliveryCount:       c.MaxDeliveryCount,
		DeadLetterOnExpiration: c.DeadLetterOnExpiration,
		MaxMessageSize:         topic.config.MaxMessageSize,
	})
	e.parent = topic
	e.rules = c.Rules
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
	return len(e.rules) == 0 || slices.ContainsFunc(e.rules, func(r Rule) bool {
		return r.Filter == nil || r.Filter.matches(m)
	})
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
