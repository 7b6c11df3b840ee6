package broker

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Config names the entities of a namespace. Zero values of the fields mean the defaults given with them.
type Config struct {
	Queues []QueueConfig
	Topics []TopicConfig
}

// A QueueConfig describes a queue.
type QueueConfig struct {
	Name                     string
	LockDuration             time.Duration // default 1 minute, at most 5
	DefaultMessageTTL        time.Duration // longest life of a message; 0 = for ever
	DuplicateDetectionWindow time.Duration // 0 = no duplicate detection; at most 7 days
	MaxDeliveryCount         int           // failed deliveries before a message is dead-lettered; default 10
	DeadLetterOnExpiration   bool          // dead-letter what expires instead of dropping it
	MaxMessageSize           int           // bytes; default 262144 (256 KiB, the Standard tier)
	MaxSizeBytes             int64         // of all messages with the dead-letter queue's; 0 = unlimited
	Status                   Status

	// Annotations are settings without an effect here, such as UserMetadata, by name, kept for whoever asks.
	// The map must not be changed.
	Annotations map[string]string
}

// A TopicConfig describes a topic and its subscriptions. What a field shares with QueueConfig means the same.
type TopicConfig struct {
	Name                     string
	DefaultMessageTTL        time.Duration
	DuplicateDetectionWindow time.Duration
	MaxMessageSize           int
	MaxSizeBytes             int64 // of all copies in all subscriptions
	Status                   Status
	Annotations              map[string]string
	Subscriptions            []SubscriptionConfig
}

// A SubscriptionConfig describes a subscription. What a field shares with QueueConfig means the same.
type SubscriptionConfig struct {
	Name                   string
	LockDuration           time.Duration
	DefaultMessageTTL      time.Duration // the topic's applies as well; the shorter wins
	MaxDeliveryCount       int
	DeadLetterOnExpiration bool
	Status                 Status
	Annotations            map[string]string
	Rules                  []Rule // a message that matches any of them is taken; none = $Default, which takes every message
}

// A Status says what an entity does not do at present. Its scheduled messages become active all the same.
type Status string

const (
	Enabled         Status = "" // Service Bus says Active
	Disabled        Status = "Disabled"
	SendDisabled    Status = "SendDisabled"
	ReceiveDisabled Status = "ReceiveDisabled"
)

func (s Status) sends() bool    { return s != Disabled && s != SendDisabled }
func (s Status) receives() bool { return s != Disabled && s != ReceiveDisabled }

func (s Status) check() error {
	if !slices.Contains([]Status{Enabled, Disabled, SendDisabled, ReceiveDisabled}, s) {
		return fmt.Errorf("status %q is none of Active, Disabled, SendDisabled, ReceiveDisabled", string(s))
	}
	return nil
}

// A Rule lets messages into a subscription.
type Rule struct {
	Name   string             // unique in its subscription, whatever the case
	Filter *CorrelationFilter // nil = every message
	Never  bool               // no message, whatever the filter
}

// A CorrelationFilter matches a message that equals it in every field which is not empty.
type CorrelationFilter struct {
	CorrelationID, MessageID, To, ReplyTo, Subject, SessionID, ReplyToSessionID, ContentType string

	Properties map[string]any // application properties; numbers compare by value, whatever their types
}

// DefaultConfig has the entities that hsmsweep uses by default, with duplicate detection.
func DefaultConfig() Config {
	const window = 10 * time.Minute
	return Config{
		Queues: []QueueConfig{{Name: "connection-deletes", DuplicateDetectionWindow: window}},
		Topics: []TopicConfig{{
			Name:                     "connection-events",
			DuplicateDetectionWindow: window,
			Subscriptions:            []SubscriptionConfig{{Name: "all"}},
		}},
	}
}

// Defaults and limits of the service, of its Standard tier where not said otherwise
// (https://learn.microsoft.com/azure/service-bus-messaging/service-bus-quotas).
const (
	defaultLockDuration     = time.Minute
	defaultMaxDeliveryCount = 10
	defaultMaxMessageSize   = 256 << 10

	maxLockDuration           = 5 * time.Minute
	maxDuplicateWindow        = 7 * 24 * time.Hour
	maxMaxDeliveryCount       = 2000
	maxMaxMessageSize         = 100 << 20 // Premium
	maxNameLength             = 260
	maxSubscriptionNameLength = 50
)

func (c QueueConfig) withDefaults() QueueConfig {
	c.LockDuration = cmp.Or(c.LockDuration, defaultLockDuration)
	c.MaxDeliveryCount = cmp.Or(c.MaxDeliveryCount, defaultMaxDeliveryCount)
	c.MaxMessageSize = cmp.Or(c.MaxMessageSize, defaultMaxMessageSize)
	return c
}

// settings returns what applies to a topic, in the form in which an Entity has it.
func (c TopicConfig) settings() QueueConfig {
	return QueueConfig{
		Name:                     c.Name,
		DefaultMessageTTL:        c.DefaultMessageTTL,
		DuplicateDetectionWindow: c.DuplicateDetectionWindow,
		MaxMessageSize:           c.MaxMessageSize,
		MaxSizeBytes:             c.MaxSizeBytes,
		Status:                   c.Status,
		Annotations:              c.Annotations,
	}
}

func (c SubscriptionConfig) settings() QueueConfig {
	return QueueConfig{
		Name:                   c.Name,
		LockDuration:           c.LockDuration,
		DefaultMessageTTL:      c.DefaultMessageTTL,
		MaxDeliveryCount:       c.MaxDeliveryCount,
		DeadLetterOnExpiration: c.DeadLetterOnExpiration,
		Status:                 c.Status,
		Annotations:            c.Annotations,
	}
}

func (c QueueConfig) check() error {
	return faults("queue", c.Name, append(c.checkSettings(), checkName(c.Name, maxNameLength))...)
}

func (c TopicConfig) check() error {
	all := []error{faults("topic", c.Name, append(c.settings().checkSettings(), checkName(c.Name, maxNameLength))...)}
	for _, s := range c.Subscriptions {
		all = append(all, s.check(c.Name))
	}
	return errors.Join(all...)
}

func (c SubscriptionConfig) check(topic string) error {
	all := append(c.settings().checkSettings(), checkName(c.Name, maxSubscriptionNameLength))
	seen := make(map[string]bool)
	for _, r := range c.Rules {
		if key := strings.ToLower(r.Name); key != "" && seen[key] {
			all = append(all, fmt.Errorf("rule %q: %w", r.Name, ErrExists))
		} else {
			seen[key] = true
		}
	}
	return faults("topic "+strconv.Quote(topic)+" subscription", c.Name, all...)
}

func (c QueueConfig) checkSettings() []error {
	return []error{
		within("LockDuration", c.LockDuration, maxLockDuration),
		within("DefaultMessageTTL", c.DefaultMessageTTL, math.MaxInt64),
		within("DuplicateDetectionWindow", c.DuplicateDetectionWindow, maxDuplicateWindow),
		within("MaxDeliveryCount", c.MaxDeliveryCount, maxMaxDeliveryCount),
		within("MaxMessageSize", c.MaxMessageSize, maxMaxMessageSize),
		within("MaxSizeBytes", c.MaxSizeBytes, math.MaxInt64),
		c.Status.check(),
	}
}

// validName is the pattern of Microsoft's emulator for names.
var validName = regexp.MustCompile(`^[A-Za-z0-9]([\w\-./]*[A-Za-z0-9])?$`)

func checkName(name string, maxLength int) error {
	if len(name) > maxLength || !validName.MatchString(name) {
		return fmt.Errorf("a name has 1 to %d letters, digits and - . _ /, and begins and ends with a letter or digit", maxLength)
	}
	return nil
}

// faults names the entity in every error.
func faults(kind, name string, errs ...error) error {
	for i, err := range errs {
		if err != nil {
			errs[i] = fmt.Errorf("%s %q: %w", kind, name, err)
		}
	}
	return errors.Join(errs...)
}

func within[T int | int64 | time.Duration](setting string, value, most T) error {
	if value < 0 || value > most {
		return fmt.Errorf("%s is %v; it must be from 0 (the default) to %v", setting, value, most)
	}
	return nil
}
