package broker

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// validRuleName leaves out what would need escaping in the URL of a rule (unverified).
var validRuleName = regexp.MustCompile(`^[\w\-.$]{1,50}$`)

// CreateRule adds a rule to a subscription; it holds for messages that become active from now on. Errors are
// ErrExists, ErrNotFound, ErrNotAllowed if e is no subscription, or name what is wrong with the rule.
func (e *Entity) CreateRule(r Rule) error {
	return e.changeRules(r.Name, func(i int) error {
		if i >= 0 {
			return ErrExists
		}
		if !validRuleName.MatchString(r.Name) {
			return fmt.Errorf("the name of a rule has 1 to 50 letters, digits and - . _ $")
		}
		e.rules = append(e.rules, r)
		return nil
	})
}

// UpdateRule replaces the rule of that name. Errors are ErrNotFound, and ErrNotAllowed if e is no subscription.
func (e *Entity) UpdateRule(r Rule) error {
	return e.changeRules(r.Name, func(i int) error {
		if i < 0 {
			return ErrNotFound
		}
		r.Name = e.rules[i].Name
		e.rules[i] = r
		return nil
	})
}

// DeleteRule removes the rule of that name. A subscription without rules takes no message. Errors are as those
// of UpdateRule.
func (e *Entity) DeleteRule(name string) error {
	return e.changeRules(name, func(i int) error {
		if i < 0 {
			return ErrNotFound
		}
		e.rules = slices.Delete(e.rules, i, i+1)
		return nil
	})
}

// changeRules has change do its work with the index of the rule of that name, -1 if there is none.
func (e *Entity) changeRules(name string, change func(i int) error) error {
	if e.kind != Subscription {
		return fmt.Errorf("%s %q has no rules, only subscriptions have: %w", e.kind, e.path, ErrNotAllowed)
	}
	// The messages that are due by now are for the old rules.
	e.enter()
	defer e.leave()
	if err := e.alive(); err != nil {
		return err
	}
	i := slices.IndexFunc(e.rules, func(r Rule) bool { return strings.EqualFold(r.Name, name) })
	if err := change(i); err != nil {
		return fmt.Errorf("rule %q of %s: %w", name, e.path, err)
	}
	e.noteEntity()
	return nil
}
