package admin

import (
	"errors"
	"fmt"
	"net/http"

	"hsmsweep/internal/emulator/servicebus/broker"
)

// descriptionNames are the elements that describe entities.
var descriptionNames = map[broker.Kind]string{
	broker.Queue:        "QueueDescription",
	broker.Topic:        "TopicDescription",
	broker.Subscription: "SubscriptionDescription",
}

func (h *handler) serveEntity(r *http.Request, path string) (reply, error) {
	switch r.Method {
	case http.MethodPut:
		return h.putEntity(r, path)
	case http.MethodDelete:
		return reply{status: http.StatusOK}, h.broker.Delete(path)
	}
	return h.getEntity(r, path, http.StatusOK)
}

func (h *handler) getEntity(r *http.Request, path string, status int) (reply, error) {
	e, err := h.entity(path, broker.Queue, broker.Topic, broker.Subscription)
	if err != nil {
		return reply{}, err
	}
	return reply{status, entityEntry(r, e.Describe())}, nil
}

// putEntity creates, or updates if the client says so. Both take the description whole: a setting that it
// leaves out has its default afterwards (https://learn.microsoft.com/rest/api/servicebus/update-entity).
func (h *handler) putEntity(r *http.Request, path string) (reply, error) {
	description, err := readDescription(r)
	if err != nil {
		return reply{}, err
	}
	kind, err := kindOf(description)
	if err != nil {
		return reply{}, err
	}
	c, err := readSettings(kind, description)
	if err != nil {
		return reply{}, err
	}
	update, err := isUpdate(r)
	if err != nil {
		return reply{}, err
	}
	status := http.StatusCreated
	if update {
		status = http.StatusOK
		err = h.updateEntity(path, kind, c, description)
	} else {
		err = h.createEntity(path, kind, c, description)
	}
	if err != nil {
		return reply{}, err
	}
	return h.getEntity(r, path, status)
}

func kindOf(description element) (broker.Kind, error) {
	for kind, name := range descriptionNames {
		if description.XMLName.Local == name {
			return kind, nil
		}
	}
	return 0, fmt.Errorf("%q is not a description of a queue, topic, subscription or rule that may be put here", description.XMLName.Local)
}

func isUpdate(r *http.Request) (bool, error) {
	switch match := r.Header.Get("If-Match"); match {
	case "":
		return false, nil
	case "*":
		return true, nil
	default:
		return false, fmt.Errorf("If-Match is %q; entity tags are not supported, send * to update or leave it out to create", match)
	}
}

func (h *handler) createEntity(path string, kind broker.Kind, c broker.QueueConfig, description element) error {
	place := subscriptionPath.FindStringSubmatch(path)
	if isBelow := place != nil && place[2] != ""; isBelow != (kind == broker.Subscription) {
		return fmt.Errorf("%q is not a path for a %v; a subscription is at topic/Subscriptions/name, all else elsewhere", path, kind)
	}
	switch kind {
	case broker.Queue:
		c.Name = path
		return h.broker.CreateQueue(c)
	case broker.Topic:
		return h.broker.CreateTopic(broker.TopicConfig{
			Name:                     path,
			DefaultMessageTTL:        c.DefaultMessageTTL,
			DuplicateDetectionWindow: c.DuplicateDetectionWindow,
			MaxMessageSize:           c.MaxMessageSize,
			MaxSizeBytes:             c.MaxSizeBytes,
			Status:                   c.Status,
			Annotations:              c.Annotations,
		})
	}
	var rules []broker.Rule
	if first, ok := description.child(defaultRuleElement); ok && len(first.Children) > 0 {
		rule, err := readRule(first)
		if err != nil {
			return err
		}
		rules = []broker.Rule{rule}
	}
	return h.broker.CreateSubscription(place[1], broker.SubscriptionConfig{
		Name:                   place[2],
		LockDuration:           c.LockDuration,
		DefaultMessageTTL:      c.DefaultMessageTTL,
		MaxDeliveryCount:       c.MaxDeliveryCount,
		DeadLetterOnExpiration: c.DeadLetterOnExpiration,
		Status:                 c.Status,
		Annotations:            c.Annotations,
		Rules:                  rules,
	})
}

func (h *handler) updateEntity(path string, kind broker.Kind, c broker.QueueConfig, description element) error {
	e, err := h.broker.Entity(path)
	if err != nil {
		return err
	}
	if e.Kind() != kind {
		return fmt.Errorf("%q is a %v and cannot become a %v", path, e.Kind(), kind)
	}
	if rule, ok := description.child(defaultRuleElement); ok && len(rule.Children) > 0 {
		return errors.New(defaultRuleElement + " is for creation only; update the rule at its own address")
	}
	return e.Update(c)
}

func entityEntry(r *http.Request, d broker.Description) element {
	return entry(r, d.Path, d.Name, describe(d), d.CreatedAt, d.UpdatedAt)
}
