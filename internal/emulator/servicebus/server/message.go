package server

import (
	"cmp"
	"encoding/hex"
	"maps"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"hsmsweep/internal/emulator/servicebus/amqp"
	"hsmsweep/internal/emulator/servicebus/broker"
)

// Annotations that the broker stamps; what a sender says in their place is dropped.
const (
	annotationSequenceNumber amqp.Symbol = "x-opt-sequence-number"
	annotationEnqueuedTime   amqp.Symbol = "x-opt-enqueued-time"
	annotationEnqueuedNumber amqp.Symbol = "x-opt-enqueue-sequence-number"
	annotationLockedUntil    amqp.Symbol = "x-opt-locked-until"
	annotationState          amqp.Symbol = "x-opt-message-state"
	annotationDeadLetterFrom amqp.Symbol = "x-opt-deadletter-source"
	annotationLockToken      amqp.Symbol = "x-opt-lock-token"
)

const (
	annotationScheduledFor = "x-opt-scheduled-enqueue-time" // stamped by the sender
	maxMessageID           = 128                            // characters
)

var brokerAnnotations = []string{
	string(annotationSequenceNumber), string(annotationEnqueuedTime), string(annotationEnqueuedNumber),
	string(annotationLockedUntil), string(annotationState), string(annotationDeadLetterFrom),
}

// neverNull are the annotations with which the service refuses a message if they are null; the condition is unverified.
var neverNull = []string{annotationScheduledFor, string(annotationState), string(annotationEnqueuedNumber)}

// newMessage decodes a message as sent. The broker keeps the decoded message as
// its content; the sections that are the sender's stay byte for byte.
func newMessage(b []byte) (*broker.Message, error) {
	m, err := amqp.ParseMessage(b)
	if err != nil {
		return nil, err
	}
	result := &broker.Message{Size: len(b), Content: m}
	if m.Header != nil && m.Header.TTL != nil {
		result.TTL = time.Duration(*m.Header.TTL) * time.Millisecond
	}
	for _, e := range m.Annotations {
		if key, _ := amqp.Text(e.Key); e.Value == nil && slices.Contains(neverNull, key) {
			return nil, amqp.Errorf(amqp.CondNotAllowed, "the annotation %s is null; leave it out", key)
		}
	}
	result.ScheduledFor, _ = m.Annotations.Get(annotationScheduledFor).(time.Time)
	m.DeliveryAnnotations = slices.DeleteFunc(m.DeliveryAnnotations, func(e amqp.Entry) bool {
		key, _ := amqp.Text(e.Key)
		return key == string(annotationLockToken)
	})
	m.Annotations = slices.DeleteFunc(m.Annotations, func(e amqp.Entry) bool {
		key, _ := amqp.Text(e.Key)
		return slices.Contains(brokerAnnotations, key)
	})
	if p := m.Properties; p != nil {
		result.ID = idText(p.MessageID)
		result.Fields = broker.Fields{
			CorrelationID: idText(p.CorrelationID), To: p.To, ReplyTo: p.ReplyTo, Subject: p.Subject,
			SessionID: p.GroupID, ReplyToSessionID: p.ReplyToGroupID, ContentType: string(p.ContentType),
		}
	}
	if n := utf8.RuneCountInString(result.ID); n > maxMessageID { // the condition is unverified
		return nil, amqp.Errorf(amqp.CondNotAllowed, "a message id of %d characters, at most %d are allowed", n, maxMessageID)
	}
	result.Fields.Properties = propertiesOf(m.ApplicationProperties)
	return result, nil
}

// idText is a message or correlation id, of any of its types, as text.
func idText(id any) string {
	switch id := id.(type) {
	case string:
		return id
	case uint64:
		return strconv.FormatUint(id, 10)
	case amqp.UUID:
		return id.String()
	case []byte:
		return hex.EncodeToString(id)
	}
	return ""
}

// propertiesOf is a map with text keys; other keys are left out.
func propertiesOf(m amqp.Map) map[string]any {
	properties := make(map[string]any, len(m))
	for _, e := range m {
		if key, ok := amqp.Text(e.Key); ok {
			properties[key] = e.Value
		}
	}
	return properties
}

// A view says what a reader of a message gets to see of its lock.
type view int

const (
	peekView    view = iota // nothing
	receiveView             // until when it is locked, and the token
)

// encodeDelivery appends the encoding of a message with what the broker knows
// of it. It cannot fail: every value in it was decoded from AMQP or is made here.
func encodeDelivery(b []byte, d *broker.Delivery, v view) []byte {
	m := *d.Message.Content.(*amqp.Message)
	m.Header = deliveryHeader(m.Header, d)
	m.Annotations = append(slices.Clip(m.Annotations),
		amqp.Entry{Key: annotationSequenceNumber, Value: d.SequenceNumber},
		amqp.Entry{Key: annotationEnqueuedTime, Value: d.EnqueuedTime})
	if d.EnqueuedSequenceNumber != 0 {
		m.Annotations = append(m.Annotations, amqp.Entry{Key: annotationEnqueuedNumber, Value: d.EnqueuedSequenceNumber})
	}
	if v == peekView || d.State != broker.Active {
		m.Annotations = append(m.Annotations, amqp.Entry{Key: annotationState, Value: int32(d.State)})
	}
	if d.DeadLetterSource != "" {
		m.Annotations = append(m.Annotations, amqp.Entry{Key: annotationDeadLetterFrom, Value: d.DeadLetterSource})
	}
	if v != peekView && !d.LockedUntil.IsZero() {
		m.Annotations = append(m.Annotations, amqp.Entry{Key: annotationLockedUntil, Value: d.LockedUntil})
		m.DeliveryAnnotations = append(slices.Clip(m.DeliveryAnnotations), amqp.Entry{Key: annotationLockToken, Value: amqp.UUID(d.Token)})
	}
	if d.Message.ID == "" {
		assignID(&m, cmp.Or(d.EnqueuedSequenceNumber, d.SequenceNumber))
	}
	if len(d.Properties) > 0 {
		m.ApplicationProperties = mergeProperties(m.ApplicationProperties, d.Properties)
		m.Raw.ApplicationProperties = nil
	}
	encoded, err := m.Append(b)
	if err != nil {
		return b
	}
	return encoded
}

// assignID gives a message without an id one, as the service does; its form is unverified. The number is that of the first entity
// it was in, so that it stays the same, and duplicate detection, which came before, knows nothing of it.
func assignID(m *amqp.Message, number int64) {
	p := amqp.Properties{}
	if m.Properties != nil {
		p = *m.Properties
	}
	p.MessageID = strconv.FormatInt(number, 10)
	m.Properties, m.Raw.Properties = &p, nil
}

func deliveryHeader(sent *amqp.Header, d *broker.Delivery) *amqp.Header {
	h := &amqp.Header{DeliveryCount: uint32(d.DeliveryCount)}
	if sent != nil {
		h.Durable, h.Priority, h.TTL = sent.Durable, sent.Priority, sent.TTL
	}
	if !d.ExpiresAt.IsZero() {
		h.TTL = new(milliseconds(d.ExpiresAt.Sub(d.EnqueuedTime)))
	}
	return h
}

// mergeProperties returns the sender's properties with changes, whose keys come last in order.
func mergeProperties(sent amqp.Map, changes map[string]any) amqp.Map {
	merged := make(amqp.Map, 0, len(sent)+len(changes))
	for _, e := range sent {
		key, _ := amqp.Text(e.Key)
		if _, changed := changes[key]; !changed {
			merged = append(merged, e)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(changes)) {
		merged = append(merged, amqp.Entry{Key: key, Value: changes[key]})
	}
	return merged
}
