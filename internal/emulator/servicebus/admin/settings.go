package admin

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"hsmsweep/internal/emulator/servicebus/broker"
)

// A setting is one element of descriptions: how it is shown and, unless only the service sets it, how a client
// sets it.
type setting struct {
	name  string
	kinds int // of entities that have it, a bit each
	show  func(d *broker.Description) element
	set   func(c *broker.QueueConfig, text string) error
}

const (
	queues        = 1 << broker.Queue
	topics        = 1 << broker.Topic
	subscriptions = 1 << broker.Subscription
	receivable    = queues | subscriptions
	sendable      = queues | topics
	everything    = queues | topics | subscriptions
)

const (
	defaultRuleElement = "DefaultRuleDescription"
	windowElement      = "DuplicateDetectionHistoryTimeWindow"

	defaultWindow    = 10 * time.Minute
	defaultMegabytes = 1024
	maxMegabytes     = 80 << 10 // of the Premium tier; shown where there is no limit
)

// settings are the elements of descriptions in the order of a queue's, with the defaults of the Standard tier.
var settings = []setting{
	{"LockDuration", receivable,
		text(func(d *broker.Description) string { return formatDuration(d.Config.LockDuration) }),
		func(c *broker.QueueConfig, s string) (err error) { c.LockDuration, err = parseDuration(s); return err }},
	{"MaxSizeInMegabytes", sendable,
		text(func(d *broker.Description) string { return strconv.FormatInt(megabytes(d.Config.MaxSizeBytes), 10) }),
		func(c *broker.QueueConfig, s string) error {
			n, err := parseNumber(s, maxMegabytes)
			c.MaxSizeBytes = n << 20
			return err
		}},
	{"RequiresDuplicateDetection", sendable,
		text(func(d *broker.Description) string { return strconv.FormatBool(d.Config.DuplicateDetectionWindow > 0) }),
		func(c *broker.QueueConfig, s string) error {
			on, err := parseBool(s)
			if on {
				c.DuplicateDetectionWindow = defaultWindow
			}
			return err
		}},
	off("RequiresSession", receivable, "message sessions are not supported"),
	{"DefaultMessageTimeToLive", everything,
		text(func(d *broker.Description) string { return formatDuration(d.Config.DefaultMessageTTL) }),
		func(c *broker.QueueConfig, s string) error {
			ttl, err := parseDuration(s)
			if ttl < broker.Century {
				c.DefaultMessageTTL = ttl
			}
			return err
		}},
	{"DeadLetteringOnMessageExpiration", receivable,
		text(func(d *broker.Description) string { return strconv.FormatBool(d.Config.DeadLetterOnExpiration) }),
		func(c *broker.QueueConfig, s string) (err error) {
			c.DeadLetterOnExpiration, err = parseBool(s)
			return err
		}},
	// Filters that can fail in their evaluation do not exist here.
	kept("DeadLetteringOnFilterEvaluationExceptions", subscriptions, "true", anyBool),
	{windowElement, sendable, text(showWindow), setWindow},
	{"MaxDeliveryCount", receivable,
		text(func(d *broker.Description) string { return strconv.Itoa(d.Config.MaxDeliveryCount) }),
		func(c *broker.QueueConfig, s string) error {
			n, err := parseNumber(s, math.MaxInt32)
			c.MaxDeliveryCount = int(n)
			return err
		}},
	// How the service writes to its store cannot be seen from outside.
	kept("EnableBatchedOperations", everything, "true", anyBool),
	shown("SizeInBytes", sendable, func(d *broker.Description) string { return strconv.FormatInt(d.Counts.Bytes, 10) }),
	off("FilteringMessagesBeforePublishing", topics, "messages are filtered after they are accepted"),
	// That deferred messages are counted here and nowhere else is unverified.
	shown("MessageCount", receivable, func(d *broker.Description) string {
		return strconv.Itoa(d.Counts.Active + d.Counts.Scheduled + d.Counts.Deferred + d.Counts.DeadLetter)
	}),
	off("IsAnonymousAccessible", sendable, "every token is accepted, but there must be one"),
	{"Status", everything,
		text(func(d *broker.Description) string { return cmp.Or(string(d.Config.Status), "Active") }),
		func(c *broker.QueueConfig, s string) error {
			if c.Status = broker.Status(s); s == "Active" {
				c.Status = broker.Enabled
			}
			return nil
		}},
	shown("CreatedAt", everything, func(d *broker.Description) string { return formatTime(d.CreatedAt) }),
	shown("UpdatedAt", everything, func(d *broker.Description) string { return formatTime(d.UpdatedAt) }),
	shown("AccessedAt", everything, func(d *broker.Description) string { return formatTime(d.AccessedAt) }),
	// Topics keep the order whether it is asked for or not.
	kept("SupportOrdering", sendable, "true", anyBool),
	{"CountDetails", everything, showCounts, nil},
	shown("SubscriptionCount", topics, func(d *broker.Description) string { return strconv.Itoa(d.Subscriptions) }),
	{"AutoDeleteOnIdle", everything, text(always(forever)), func(_ *broker.QueueConfig, s string) error {
		if idle, err := parseDuration(s); err != nil || idle < broker.Century {
			return errors.Join(err, errors.New("idle entities are never deleted; leave it out"))
		}
		return nil
	}},
	off("EnablePartitioning", sendable, "partitions are not supported"),
	shown("EntityAvailabilityStatus", everything, always("Available")),
	off("EnableSubscriptionPartitioning", topics, "partitions are not supported"),
	off("EnableExpress", sendable, "express entities are not supported"),
	{"ForwardTo", receivable, nil, only("", "forwarding is not supported")},
	{"ForwardDeadLetteredMessagesTo", receivable, nil, only("", "forwarding is not supported")},
	kept("UserMetadata", everything, "", func(string) error { return nil }),
	{"MaxMessageSizeInKilobytes", sendable,
		text(func(d *broker.Description) string { return strconv.Itoa((d.Config.MaxMessageSize + 1023) / 1024) }),
		func(c *broker.QueueConfig, s string) error {
			n, err := parseNumber(s, math.MaxInt32)
			c.MaxMessageSize = int(n << 10)
			return err
		}},
	// True and false filters are SQL filters to the service.
	shown("SqlFilterCount", topics, func(d *broker.Description) string { return strconv.Itoa(len(d.Rules) - correlations(d)) }),
	shown("CorrelationFilterCount", topics, func(d *broker.Description) string { return strconv.Itoa(correlations(d)) }),
}

// describe writes what an entity is and holds.
func describe(d broker.Description) element {
	var children []element
	for _, s := range settings {
		if s.show == nil || s.kinds&(1<<d.Kind) == 0 {
			continue
		}
		if e := s.show(&d); e.Text != "" || len(e.Children) > 0 {
			e.XMLName.Local = s.name
			children = append(children, e)
		}
	}
	return described(descriptionNames[d.Kind], children...)
}

// readSettings reads a description. An empty element is as good as none, and so is a value that only the service
// sets: clients send back what they got.
func readSettings(kind broker.Kind, description element) (broker.QueueConfig, error) {
	sent := make(map[string]element)
	var faults []error
	for _, e := range description.Children {
		if _, twice := sent[e.XMLName.Local]; twice {
			faults = append(faults, fmt.Errorf("%s is there more than once", e.XMLName.Local))
		}
		sent[e.XMLName.Local] = e
	}
	// AuthorizationRules hold elements, not text, and default rules are read with the rules.
	if len(sent["AuthorizationRules"].Children) > 0 {
		faults = append(faults, errors.New("AuthorizationRules: every token is accepted; leave the rules out"))
	}
	delete(sent, "AuthorizationRules")
	if kind == broker.Subscription {
		delete(sent, defaultRuleElement)
	}
	c := broker.QueueConfig{Annotations: make(map[string]string)}
	if kind != broker.Subscription {
		c.MaxSizeBytes = defaultMegabytes << 20
	}
	for _, s := range settings {
		e, ok := sent[s.name]
		if !ok || s.kinds&(1<<kind) == 0 {
			continue
		}
		delete(sent, s.name)
		switch {
		case s.set == nil:
		case len(e.Children) > 0:
			faults = append(faults, fmt.Errorf("%s has elements in it; it is a text", s.name))
		case e.Text != "":
			if err := s.set(&c, e.Text); err != nil {
				faults = append(faults, fmt.Errorf("%s is %q: %w", s.name, e.Text, err))
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(sent)) {
		faults = append(faults, fmt.Errorf("%s is not a setting of a %v", name, kind))
	}
	return c, errors.Join(faults...)
}

func text(value func(*broker.Description) string) func(*broker.Description) element {
	return func(d *broker.Description) element { return element{Text: value(d)} }
}

func always(value string) func(*broker.Description) string {
	return func(*broker.Description) string { return value }
}

// shown is a setting that only the service sets.
func shown(name string, kinds int, value func(*broker.Description) string) setting {
	return setting{name, kinds, text(value), nil}
}

// off is a setting that cannot be switched on.
func off(name string, kinds int, why string) setting {
	return setting{name, kinds, text(always("false")), func(_ *broker.QueueConfig, s string) error {
		if on, err := parseBool(s); on || err != nil {
			return errors.Join(err, fmt.Errorf("%s; set it to false", why))
		}
		return nil
	}}
}

// only returns how a setting with a single value is set.
func only(value, why string) func(*broker.QueueConfig, string) error {
	return func(_ *broker.QueueConfig, s string) error {
		if strings.TrimSpace(s) != value {
			return fmt.Errorf("%s; leave it out", why)
		}
		return nil
	}
}

// kept is a setting without an effect here.
func kept(name string, kinds int, absent string, check func(string) error) setting {
	return setting{name, kinds,
		text(func(d *broker.Description) string {
			if value, ok := d.Config.Annotations[name]; ok {
				return value
			}
			return absent
		}),
		func(c *broker.QueueConfig, s string) error {
			c.Annotations[name] = s
			return check(s)
		}}
}

func anyBool(s string) error {
	_, err := parseBool(s)
	return err
}

// showWindow and setWindow keep the window of an entity without duplicate detection as one without an effect.

func showWindow(d *broker.Description) string {
	switch kept, ok := d.Config.Annotations[windowElement]; {
	case d.Config.DuplicateDetectionWindow > 0:
		return formatDuration(d.Config.DuplicateDetectionWindow)
	case ok:
		return kept
	}
	return formatDuration(defaultWindow)
}

func setWindow(c *broker.QueueConfig, s string) error {
	window, err := parseDuration(s)
	if c.DuplicateDetectionWindow > 0 && window > 0 {
		c.DuplicateDetectionWindow = window
	} else {
		c.Annotations[windowElement] = s
	}
	return err
}

func showCounts(d *broker.Description) element {
	count := func(name string, n int) element { return textElement("d2p1:"+name, strconv.Itoa(n)) }
	return node("",
		count("ActiveMessageCount", d.Counts.Active),
		count("DeadLetterMessageCount", d.Counts.DeadLetter),
		count("ScheduledMessageCount", d.Counts.Scheduled),
		count("TransferMessageCount", 0),
		count("TransferDeadLetterMessageCount", 0),
	).with("xmlns:d2p1", countsNamespace)
}

func correlations(d *broker.Description) (n int) {
	for _, r := range d.Rules {
		if r.Filter != nil {
			n++
		}
	}
	return n
}
