package admin

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"hsmsweep/internal/emulator/servicebus/broker"
)

// unnamed is the name of a rule that is created without one.
const unnamed = "$Default"

// serveRule serves the rules of a subscription; name is empty for all of them, or for a new one without a name.
func (h *handler) serveRule(r *http.Request, path, name string) (reply, error) {
	subscription, err := h.entity(path, broker.Subscription)
	if err != nil {
		return reply{}, err
	}
	switch {
	case r.Method == http.MethodPut:
		return putRule(r, subscription, name)
	case r.Method == http.MethodDelete:
		return reply{status: http.StatusOK}, subscription.DeleteRule(name)
	case name == "":
		return listRules(r, subscription)
	}
	return getRule(r, subscription, name, http.StatusOK)
}

func listRules(r *http.Request, subscription *broker.Entity) (reply, error) {
	d := subscription.Describe()
	from, to, err := page(r, len(d.Rules))
	if err != nil {
		return reply{}, err
	}
	var entries []element
	for _, rule := range d.Rules[from:to] {
		entries = append(entries, ruleEntry(r, d, rule))
	}
	return reply{http.StatusOK, feed(r, "Rules", entries)}, nil
}

func getRule(r *http.Request, subscription *broker.Entity, name string, status int) (reply, error) {
	d := subscription.Describe()
	i := slices.IndexFunc(d.Rules, func(rule broker.Rule) bool { return strings.EqualFold(rule.Name, name) })
	if i < 0 {
		return reply{}, fmt.Errorf("rule %q of %s: %w", name, d.Path, broker.ErrNotFound)
	}
	return reply{status, ruleEntry(r, d, d.Rules[i])}, nil
}

func putRule(r *http.Request, subscription *broker.Entity, name string) (reply, error) {
	description, err := readDescription(r)
	if err != nil {
		return reply{}, err
	}
	if got := description.XMLName.Local; got != "RuleDescription" {
		return reply{}, fmt.Errorf("%q is not a RuleDescription", got)
	}
	rule, err := readRule(description)
	if err != nil {
		return reply{}, err
	}
	rule.Name = cmp.Or(name, rule.Name)
	update, err := isUpdate(r)
	if err != nil {
		return reply{}, err
	}
	status := http.StatusCreated
	if update {
		status = http.StatusOK
		err = subscription.UpdateRule(rule)
	} else {
		err = subscription.CreateRule(rule)
	}
	if err != nil {
		return reply{}, err
	}
	return getRule(r, subscription, rule.Name, status)
}

func ruleEntry(r *http.Request, d broker.Description, rule broker.Rule) element {
	description := described("RuleDescription",
		describeFilter(rule),
		node("Action").with("i:type", "EmptyRuleAction"),
		textElement("Name", rule.Name))
	return entry(r, d.Path+"/Rules/"+rule.Name, rule.Name, description, d.CreatedAt, d.UpdatedAt)
}

func describeFilter(r broker.Rule) element {
	switch {
	case r.Never:
		return node("Filter", textElement("SqlExpression", "1=0"), textElement("CompatibilityLevel", "20")).with("i:type", "FalseFilter")
	case r.Filter == nil:
		return node("Filter", textElement("SqlExpression", "1=1"), textElement("CompatibilityLevel", "20")).with("i:type", "TrueFilter")
	}
	filter := node("Filter").with("i:type", "CorrelationFilter")
	for _, field := range correlationFields(r.Filter) {
		if *field.value != "" {
			filter.Children = append(filter.Children, textElement(field.name, *field.value))
		}
	}
	if len(r.Filter.Properties) > 0 {
		properties := node("Properties")
		for _, name := range slices.Sorted(maps.Keys(r.Filter.Properties)) {
			properties.Children = append(properties.Children,
				node("KeyValueOfstringanyType", textElement("Key", name), describeValue(r.Filter.Properties[name])))
		}
		filter.Children = append(filter.Children, properties)
	}
	return filter
}

// describeValue writes a value with the types that the Azure SDKs read, whatever the width of a number.
func describeValue(value any) element {
	kind, text := "string", fmt.Sprint(value)
	switch v := value.(type) {
	case bool:
		kind = "boolean"
	case int, int32, int64:
		kind = "int"
	case float32, float64:
		kind = "double"
	case time.Time:
		kind, text = "dateTime", v.UTC().Format(time.RFC3339Nano)
	}
	return textElement("Value", text).with("i:type", "l28:"+kind).with("xmlns:l28", typesNamespace)
}

// readRule reads a RuleDescription or DefaultRuleDescription. Without a filter it is for every message.
func readRule(description element) (broker.Rule, error) {
	rule := broker.Rule{Name: unnamed}
	if name, ok := description.child("Name"); ok {
		rule.Name = cmp.Or(strings.TrimSpace(name.Text), unnamed)
	}
	if action, ok := description.child("Action"); ok {
		if kind := action.instanceType(); kind != "EmptyRuleAction" && (kind != "" || len(action.Children) > 0) {
			return rule, fmt.Errorf("rule %q: Action is a %s: rule actions are not supported; leave it out", rule.Name, kind)
		}
	}
	filter, ok := description.child("Filter")
	if !ok {
		return rule, nil
	}
	var err error
	switch kind := filter.instanceType(); kind {
	case "TrueFilter":
	case "FalseFilter":
		rule.Never = true
	case "CorrelationFilter":
		rule.Filter, err = readCorrelation(filter)
	case "SqlFilter":
		err = errors.New("the Filter is a SqlFilter: SQL filters are not supported; use a correlation, true or false filter")
	default:
		err = fmt.Errorf("the Filter has type %q; use a correlation, true or false filter", kind)
	}
	if err != nil {
		return rule, fmt.Errorf("rule %q: %w", rule.Name, err)
	}
	return rule, nil
}

func readCorrelation(filter element) (*broker.CorrelationFilter, error) {
	f := &broker.CorrelationFilter{}
	fields := correlationFields(f)
	var faults []error
	for _, e := range filter.Children {
		name := e.XMLName.Local
		i := slices.IndexFunc(fields, func(field correlationField) bool { return field.name == name })
		switch {
		case name == "Properties":
			properties, err := readProperties(e)
			f.Properties = properties
			faults = append(faults, err)
		case i < 0:
			faults = append(faults, fmt.Errorf("%s is not a condition of a correlation filter", name))
		case e.Text == "" || len(e.Children) > 0:
			faults = append(faults, fmt.Errorf("%s has no text: leave it out, an empty value is no condition", name))
		default:
			*fields[i].value = e.Text
		}
	}
	if len(filter.Children) == 0 {
		faults = append(faults, errors.New("a correlation filter needs at least one condition"))
	}
	return f, errors.Join(faults...)
}

type correlationField struct {
	name  string
	value *string
}

func correlationFields(f *broker.CorrelationFilter) []correlationField {
	return []correlationField{
		{"CorrelationId", &f.CorrelationID},
		{"MessageId", &f.MessageID},
		{"To", &f.To},
		{"ReplyTo", &f.ReplyTo},
		{"Label", &f.Subject},
		{"SessionId", &f.SessionID},
		{"ReplyToSessionId", &f.ReplyToSessionID},
		{"ContentType", &f.ContentType},
	}
}

func readProperties(list element) (map[string]any, error) {
	properties := make(map[string]any)
	for _, pair := range list.Children {
		key, hasKey := pair.child("Key")
		value, hasValue := pair.child("Value")
		if !hasKey || !hasValue || key.Text == "" {
			return nil, errors.New("a property needs a Key and a Value")
		}
		v, err := readValue(value)
		if err != nil {
			return nil, fmt.Errorf("property %q: %w", key.Text, err)
		}
		properties[key.Text] = v
	}
	return properties, nil
}

func readValue(e element) (v any, err error) {
	switch kind := e.instanceType(); kind {
	case "string":
		return e.Text, nil
	case "boolean":
		v, err = parseBool(e.Text)
	case "int", "long", "short", "byte":
		v, err = strconv.ParseInt(e.Text, 10, 64)
	case "double", "float":
		v, err = strconv.ParseFloat(e.Text, 64)
	case "dateTime":
		v, err = time.Parse(time.RFC3339Nano, e.Text)
	default:
		return nil, fmt.Errorf("type %q is not supported; use string, boolean, int, double or dateTime", kind)
	}
	if err != nil {
		return nil, fmt.Errorf("%q: %w", e.Text, err)
	}
	return v, nil
}
