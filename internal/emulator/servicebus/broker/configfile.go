package broker

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// LoadConfig reads the Config.json of Microsoft's Service Bus emulator, with the defaults of its schema
// (https://github.com/Azure/azure-service-bus-emulator-installer, Config-schema.json). The schema's limits,
// which are narrower than the service's, are not enforced. What the broker does not have (sessions,
// forwarding, SQL filters, rule actions, unknown members) is an error that names the entity and the setting.
func LoadConfig(r io.Reader) (Config, error) {
	var file configFile
	if err := json.UnmarshalRead(r, &file, json.RejectUnknownMembers(true)); err != nil {
		return Config{}, fmt.Errorf("emulator configuration: %w", err)
	}
	if n := len(file.UserConfig.Namespaces); n != 1 {
		return Config{}, fmt.Errorf("emulator configuration: UserConfig.Namespaces has %d entries, it must have one", n)
	}
	var (
		reader    configReader
		config    Config
		namespace = file.UserConfig.Namespaces[0]
	)
	for _, q := range namespace.Queues {
		config.Queues = append(config.Queues, reader.queue(q))
	}
	for _, t := range namespace.Topics {
		config.Topics = append(config.Topics, reader.topic(t))
	}
	if err := errors.Join(reader.faults...); err != nil {
		return Config{}, err
	}
	return config, nil
}

type configFile struct {
	UserConfig struct {
		Namespaces []struct {
			Name   string
			Queues []fileQueue
			Topics []fileTopic
		}
		Logging jsontext.Value // not ours
	}
}

type fileQueue struct {
	Name       string
	Properties struct {
		Receiver   receiverProperties  `json:",embed"`
		Duplicates duplicateProperties `json:",embed"`
	}
}

type fileTopic struct {
	Name       string
	Properties struct {
		DefaultMessageTimeToLive string
		Duplicates               duplicateProperties `json:",embed"`
	}
	Subscriptions []fileSubscription
}

type fileSubscription struct {
	Name       string
	Properties receiverProperties
	Rules      []fileRule
}

// receiverProperties are the members that queues and subscriptions have in common.
type receiverProperties struct {
	DeadLetteringOnMessageExpiration bool
	DefaultMessageTimeToLive         string
	ForwardDeadLetteredMessagesTo    string
	ForwardTo                        string
	LockDuration                     string
	MaxDeliveryCount                 int
	RequiresSession                  bool
}

// duplicateProperties are the members that queues and topics have in common.
type duplicateProperties struct {
	DuplicateDetectionHistoryTimeWindow string
	RequiresDuplicateDetection          bool
}

type fileRule struct {
	Name       string
	Properties struct {
		FilterType        string
		CorrelationFilter *fileCorrelationFilter
		SqlFilter, Action jsontext.Value
	}
}

type fileCorrelationFilter struct {
	ContentType, CorrelationId, Label, MessageId, ReplyTo, ReplyToSessionId, SessionId, To string

	Properties map[string]any
}

// A configReader turns parts of the file into parts of a Config and collects what is wrong with them.
type configReader struct {
	faults []error
}

func (c *configReader) queue(q fileQueue) QueueConfig {
	name := fmt.Sprintf("queue %q", q.Name)
	s := c.receiver(name, q.Properties.Receiver)
	return QueueConfig{
		Name:                     q.Name,
		LockDuration:             s.LockDuration,
		DefaultMessageTTL:        s.DefaultMessageTTL,
		DuplicateDetectionWindow: c.duplicateWindow(name, q.Properties.Duplicates),
		MaxDeliveryCount:         s.MaxDeliveryCount,
		DeadLetterOnExpiration:   s.DeadLetterOnExpiration,
	}
}

func (c *configReader) topic(t fileTopic) TopicConfig {
	name := fmt.Sprintf("topic %q", t.Name)
	config := TopicConfig{
		Name:                     t.Name,
		DefaultMessageTTL:        c.duration(name, "DefaultMessageTimeToLive", t.Properties.DefaultMessageTimeToLive, time.Hour),
		DuplicateDetectionWindow: c.duplicateWindow(name, t.Properties.Duplicates),
	}
	for _, s := range t.Subscriptions {
		name := fmt.Sprintf("%s subscription %q", name, s.Name)
		subscription := c.receiver(name, s.Properties)
		subscription.Name = s.Name
		for _, r := range s.Rules {
			subscription.Rules = append(subscription.Rules, c.rule(fmt.Sprintf("%s rule %q", name, r.Name), r))
		}
		config.Subscriptions = append(config.Subscriptions, subscription)
	}
	return config
}

func (c *configReader) receiver(entity string, p receiverProperties) SubscriptionConfig {
	if p.RequiresSession {
		c.fault(entity, "RequiresSession", "sessions are not supported; set it to false")
	}
	if p.ForwardTo != "" {
		c.fault(entity, "ForwardTo", "forwarding is not supported; leave it empty")
	}
	if p.ForwardDeadLetteredMessagesTo != "" {
		c.fault(entity, "ForwardDeadLetteredMessagesTo", "forwarding is not supported; leave it empty")
	}
	const schemaDefault = 3
	if p.MaxDeliveryCount == 0 {
		p.MaxDeliveryCount = schemaDefault
	}
	return SubscriptionConfig{
		LockDuration:           c.duration(entity, "LockDuration", p.LockDuration, time.Minute),
		DefaultMessageTTL:      c.duration(entity, "DefaultMessageTimeToLive", p.DefaultMessageTimeToLive, time.Hour),
		MaxDeliveryCount:       p.MaxDeliveryCount,
		DeadLetterOnExpiration: p.DeadLetteringOnMessageExpiration,
	}
}

func (c *configReader) duplicateWindow(entity string, p duplicateProperties) time.Duration {
	window := c.duration(entity, "DuplicateDetectionHistoryTimeWindow", p.DuplicateDetectionHistoryTimeWindow, 20*time.Second)
	if !p.RequiresDuplicateDetection {
		return 0
	}
	return window
}

func (c *configReader) rule(rule string, r fileRule) Rule {
	f := r.Properties.CorrelationFilter
	switch {
	case r.Properties.SqlFilter != nil || r.Properties.FilterType != "Correlation":
		c.fault(rule, "FilterType", fmt.Sprintf("%q is not supported; use Correlation", r.Properties.FilterType))
		return Rule{}
	case f == nil:
		c.fault(rule, "CorrelationFilter", "it is missing")
		return Rule{}
	case r.Properties.Action != nil:
		c.fault(rule, "Action", "actions are not supported; leave it out")
	}
	return Rule{Name: r.Name, Filter: &CorrelationFilter{
		CorrelationID:    f.CorrelationId,
		MessageID:        f.MessageId,
		To:               f.To,
		ReplyTo:          f.ReplyTo,
		Subject:          f.Label,
		SessionID:        f.SessionId,
		ReplyToSessionID: f.ReplyToSessionId,
		ContentType:      f.ContentType,
		Properties:       f.Properties,
	}}
}

func (c *configReader) duration(entity, setting, text string, absent time.Duration) time.Duration {
	if text == "" {
		return absent
	}
	d, ok := ParseDuration(text)
	if !ok || d == 0 {
		c.fault(entity, setting, fmt.Sprintf("%q is not a duration of days, hours, minutes and seconds such as P1DT12H or PT30S", text))
	}
	return d
}

func (c *configReader) fault(entity, setting, problem string) {
	c.faults = append(c.faults, fmt.Errorf("%s: %s: %s", entity, setting, problem))
}

// Century is the longest duration there is.
const Century = 36525 * 24 * time.Hour

var iso8601 = regexp.MustCompile(`^P(?:(\d+)D)?(?:T((?:\d+H)?(?:\d+M)?(?:\d+(?:\.\d+)?S)?))?$`)

// ParseDuration reads an ISO 8601 duration without years and months, which have no fixed length. Longer
// than Century is Century: the service writes its largest duration, P10675199DT2H48M5.4775807S, for ever.
func ParseDuration(text string) (d time.Duration, ok bool) {
	const day = 24 * time.Hour
	parts := iso8601.FindStringSubmatch(text)
	if parts == nil {
		return 0, false
	}
	days, clock := parts[1], parts[2]
	if clock != "" {
		var err error
		if d, err = time.ParseDuration(strings.ToLower(clock)); err != nil {
			return 0, false
		}
	}
	if days != "" {
		n, err := strconv.ParseInt(days, 10, 64)
		if err != nil {
			return 0, false
		}
		d = min(d, Century) + time.Duration(min(n, int64(Century/day)))*day
	}
	return min(d, Century), true
}
