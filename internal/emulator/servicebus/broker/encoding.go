package broker

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"
)

// A Codec turns into bytes what the broker does not look into, and back. Its methods must not keep or change what they
// are given, and are called by several goroutines.
type Codec interface {
	// EncodeMessage encodes a message; only Size need not be in it.
	EncodeMessage(*Message) ([]byte, error)
	DecodeMessage([]byte) (*Message, error)

	// EncodeProperties encodes properties of messages, as given to Abandon, Defer and DeadLetter, and of rules.
	EncodeProperties(map[string]any) ([]byte, error)
	DecodeProperties([]byte) (map[string]any, error)
}

// Each entity has a table in the store, by its path in lower case, with values of these kinds. They are loaded in this order.
const (
	entityKey   byte = iota // a storedEntity
	acceptedKey             // of a sequence number: the acceptance of its message
	messageKey              // of a sequence number: the message, which never changes
	stateKey                // of a sequence number: a storedRecord, which does
)

func keyOf(kind byte, number int64) []byte {
	return binary.BigEndian.AppendUint64([]byte{kind}, uint64(number))
}

func parseKey(key []byte) (kind byte, number int64, err error) {
	if len(key) != 9 {
		return 0, 0, fmt.Errorf("a key of %d bytes", len(key))
	}
	return key[0], int64(binary.BigEndian.Uint64(key[1:])), nil
}

// A storedEntity is an entity without its contents.
type storedEntity struct {
	Kind       Kind
	Topic      string `json:",omitzero"` // of a subscription
	Config     QueueConfig
	Rules      []storedRule `json:",omitzero"`
	CreatedAt  time.Time
	UpdatedAt  time.Time
	AccessedAt time.Time `json:",omitzero"`
	LastNumber int64
}

// A storedRule has the properties of its filter beside it.
type storedRule struct {
	Rule
	Properties []byte `json:",omitzero"`
}

// A storedRecord is a record without its message. Of its lock there is only that it has one.
type storedRecord struct {
	State          State
	Locked         bool `json:",omitzero"`
	OriginalNumber int64
	EnqueuedAt     time.Time
	ExpiresAt      time.Time `json:",omitzero"`
	Deliveries     int       `json:",omitzero"`
	Properties     []byte    `json:",omitzero"`
	Source         string    `json:",omitzero"`
	Size           int       // of the message
}

func encodeEntity(e *Entity, c Codec) ([]byte, error) {
	stored := storedEntity{
		Kind:       e.kind,
		Config:     e.config,
		CreatedAt:  e.createdAt,
		UpdatedAt:  e.updatedAt,
		AccessedAt: e.accessedAt,
		LastNumber: e.lastNumber,
	}
	if e.kind == Subscription {
		stored.Topic = e.parent.path
	}
	for _, r := range e.rules {
		rule := storedRule{Rule: r}
		if r.Filter != nil && len(r.Filter.Properties) > 0 {
			var err error
			if rule.Properties, err = c.EncodeProperties(r.Filter.Properties); err != nil {
				return nil, fmt.Errorf("rule %q of %s: %w", r.Name, e.path, err)
			}
			filter := *r.Filter
			filter.Properties, rule.Filter = nil, &filter
		}
		stored.Rules = append(stored.Rules, rule)
	}
	return json.Marshal(stored)
}

func (s storedRule) decode(c Codec) (Rule, error) {
	if len(s.Properties) == 0 {
		return s.Rule, nil
	}
	var err error
	s.Filter.Properties, err = c.DecodeProperties(s.Properties)
	return s.Rule, err
}

func encodeRecord(r *record, c Codec) ([]byte, error) {
	stored := storedRecord{
		State:          r.state,
		Locked:         r.locked(),
		OriginalNumber: r.originalNumber,
		EnqueuedAt:     r.enqueuedAt,
		ExpiresAt:      r.expiresAt,
		Deliveries:     r.deliveries,
		Source:         r.source,
		Size:           r.message.Size,
	}
	if len(r.properties) > 0 {
		var err error
		if stored.Properties, err = c.EncodeProperties(r.properties); err != nil {
			return nil, fmt.Errorf("properties of message %d: %w", r.number, err)
		}
	}
	return json.Marshal(stored)
}

// decodeRecord fills in r, which has its message and number, and reports whether it was locked.
func decodeRecord(r *record, b []byte, c Codec) (wasLocked bool, err error) {
	var stored storedRecord
	if err := json.Unmarshal(b, &stored); err != nil {
		return false, err
	}
	if stored.State < Active || stored.State > Scheduled {
		return false, fmt.Errorf("unknown state %d", stored.State)
	}
	r.state, r.originalNumber, r.deliveries, r.source = stored.State, stored.OriginalNumber, stored.Deliveries, stored.Source
	r.enqueuedAt, r.expiresAt = stored.EnqueuedAt, stored.ExpiresAt
	r.message.Size = stored.Size
	if len(stored.Properties) > 0 {
		r.properties, err = c.DecodeProperties(stored.Properties)
	}
	return stored.Locked, err
}

// An acceptance is the beginning of a duplicate window.
type acceptance struct {
	id string
	at time.Time
}

func (a acceptance) encode() []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(a.at.UnixNano())), a.id...)
}

func decodeAcceptance(b []byte) (acceptance, error) {
	if len(b) < 8 {
		return acceptance{}, fmt.Errorf("an accepted message id of %d bytes", len(b))
	}
	return acceptance{id: string(b[8:]), at: time.Unix(0, int64(binary.BigEndian.Uint64(b))).UTC()}, nil
}
