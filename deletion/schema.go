package deletion

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"unicode"

	"github.com/invopop/jsonschema"

	"hsmsweep/internal/schema"
)

// descriptions say what the fields of a request are for, by type and field.
var descriptions = schema.Descriptions{
	"body.ConnectionID":      "The private endpoint connection to delete.",
	"body.PrivateEndpointID": "Alone: delete every connection on the searched pools that belongs to this private endpoint. Beside connectionId a guard: delete only if the connection still belongs to it.",
	"body.ManagedHSMID":      "Delete every connection of this pool whose link is in one of the states of status.",
	"body.Status":            "A guard: delete only connections whose link is in one of these states.",
	"body.RequestID":         "The caller's own id. Without it the event's id, then the message's id stands in.",
	"body.Reason":            "Why; goes back with every event.",
	"body.RequestedBy":       "Who asked; goes back with every event.",
	"body.Ticket":            "What the request came from; goes back with every event.",
	"body.NotBefore":         "Not before this time, in RFC 3339 with a zone.",
	"body.DryRun":            "Decide and report, delete nothing.",
	"body.Force":             "Overrides --protect-last-approved, and nothing else.",
	"Ticket.System":          "The ticket system.",
	"Ticket.ID":              "The ticket's number or key.",
	"Ticket.URL":             "Where a person finds the ticket.",
}

// Definitions are the JSON Schemas (2020-12) of a native request and of its parts, as $defs that refer to each other: request,
// ticket, connectionId, privateEndpointId and managedHsmId. Three more tell an event's data from a request: notRequest takes what
// LooksLikeRequest and MentionsRequest find nothing in, otherName and silent are its parts for names and text.
func Definitions() jsonschema.Definitions {
	return jsonschema.Definitions{
		"request":           requestSchema(),
		"ticket":            schema.Of(Ticket{}, descriptions, nil),
		"connectionId":      idSchema("private endpoint connection", connectionType, poolName, connectionName),
		"privateEndpointId": idSchema("private endpoint", endpointType, endpointName),
		"managedHsmId":      idSchema("managed HSM pool", poolType, poolName),
		"notRequest": {
			If:   &jsonschema.Schema{Type: "object"},
			Then: &jsonschema.Schema{PropertyNames: schema.Ref("otherName")},
			Else: schema.Ref("silent"),
		},
		"otherName": {Not: &jsonschema.Schema{Pattern: "^(" + anyField() + ")$"}},
		"silent": {
			Not:                  &jsonschema.Schema{Type: "string", Pattern: anyField()},
			Items:                schema.Ref("silent"),
			PropertyNames:        schema.Ref("silent"),
			AdditionalProperties: schema.Ref("silent"),
		},
	}
}

func requestSchema() *jsonschema.Schema {
	s := schema.Of(body{}, descriptions, map[reflect.Type]string{reflect.TypeFor[Ticket](): "ticket"})
	s.Description = "A native request."
	for _, id := range []string{"connectionId", "privateEndpointId", "managedHsmId"} {
		schema.Refer(s, id, id)
	}

	status := schema.Field(s, "status")
	states := make([]string, len(LinkStatuses))
	for i, state := range LinkStatuses {
		states[i] = inAnyCase(string(state), unicode.MaxASCII)
		status.Items.Examples = append(status.Items.Examples, state)
	}
	status.MinItems = new(uint64(1))
	status.Items.Pattern = "^(" + strings.Join(states, "|") + ")$"

	requestID := schema.Field(s, "requestId")
	requestID.MinLength, requestID.MaxLength, requestID.Pattern = new(uint64(1)), new(uint64(128)), printableText
	schema.Field(s, "notBefore").Pattern = timeToWaitFor

	s.OneOf = []*jsonschema.Schema{
		{Title: "one connection", Required: []string{"connectionId"}, Not: schema.WithOneOf("managedHsmId")},
		{Title: "all of a private endpoint", Required: []string{"privateEndpointId"}, Not: schema.WithOneOf("connectionId", "managedHsmId")},
		{Title: "all of a pool in some states", Required: []string{"managedHsmId", "status"}, Not: schema.WithOneOf("connectionId", "privateEndpointId")},
	}
	return s
}

const (
	// printableText is what checkRequestID takes.
	printableText = `^\P{Cc}*[^\p{Cc}\p{Z}]\P{Cc}*$`
	// timeToWaitFor has a zone, and a year from 1970 to 2999.
	timeToWaitFor = `^(19[7-9]|2[0-9]{2})[0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9](\.[0-9]+)?(Z|[+-][0-2][0-9]:[0-5][0-9])$`
)

// idSchema takes what parseResource takes.
func idSchema(of, wantType string, rules ...rule) *jsonschema.Schema {
	literal := func(s string) string { return inAnyCase(s, unicode.MaxASCII) }
	namespace, kinds, _ := strings.Cut(wantType, "/")
	id := literal("/subscriptions/") + subscriptionName.bounded() + literal("/resourceGroups/") + groupName.bounded() + literal("/providers/"+namespace)
	form := "/subscriptions/{id}/resourceGroups/{group}/providers/" + namespace
	for i, kind := range strings.Split(kinds, "/") {
		id += literal("/"+kind+"/") + rules[i].bounded()
		form += "/" + kind + "/{" + rules[i].of + ": " + rules[i].words + "}"
	}
	return &jsonschema.Schema{Type: "string", Description: "ARM id of a " + of + ", in any case: " + form, Pattern: "^" + id + "$"}
}

// bounded is what a rule allows, its longest length included, to stand in a longer expression. Every rule repeats one thing
// without a bound, or nothing.
func (r rule) bounded() string {
	s := strings.TrimSuffix(strings.TrimPrefix(r.allowed.String(), "^"), "$")
	s = strings.Replace(s, "]*", fmt.Sprintf("]{0,%d}", r.longest-1), 1)
	return strings.Replace(s, ",}", fmt.Sprintf(",%d}", r.longest), 1)
}

// anyField is the name of any field of a request, as LooksLikeRequest compares it.
func anyField() string {
	names := make([]string, len(fieldNames))
	for i, name := range fieldNames {
		names[i] = inAnyCase(name, unicode.MaxRune)
	}
	return strings.Join(names, "|")
}

// inAnyCase is an expression for a word without regard to case, with the letters up to last: beyond ASCII the Kelvin sign is a
// k, too. Flags would do that, but JSON Schema has none.
func inAnyCase(word string, last rune) string {
	var out strings.Builder
	for _, r := range word {
		spellings := string(r)
		for s := unicode.SimpleFold(r); s != r; s = unicode.SimpleFold(s) {
			if s <= last {
				spellings += string(s)
			}
		}
		if spellings == string(r) {
			out.WriteString(regexp.QuoteMeta(spellings))
		} else {
			out.WriteString("[" + spellings + "]")
		}
	}
	return out.String()
}
