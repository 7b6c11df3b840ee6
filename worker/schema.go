package worker

import (
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/invopop/jsonschema"

	"hsmsweep/deletion"
	"hsmsweep/internal/schema"
)

// cloudAttributes are the attributes of a CloudEvent by their names in JSON. messaging.CloudEvent, which reads them, has no tags, and
// takes a tenth of a worker's processor time to write them.
type cloudAttributes struct {
	SpecVersion     string    `json:"specversion"`
	ID              string    `json:"id"`
	Source          string    `json:"source"`
	Type            string    `json:"type"`
	Subject         string    `json:"subject,omitzero"`
	Time            time.Time `json:"time,omitzero"`
	DataContentType string    `json:"datacontenttype,omitzero"`
	DataSchema      string    `json:"dataschema,omitzero"`
	Data            any       `json:"data,omitzero"`
	DataBase64      string    `json:"data_base64,omitzero"`
	TraceParent     string    `json:"traceparent,omitzero"`
	TraceState      string    `json:"tracestate,omitzero"`
}

// gridAttributes are those of an EventGridEvent. Event Grid itself wants more of them than a worker needs.
type gridAttributes struct {
	ID              string    `json:"id,omitzero"`
	Topic           string    `json:"topic,omitzero"`
	Subject         string    `json:"subject,omitzero"`
	EventType       string    `json:"eventType"`
	EventTime       time.Time `json:"eventTime,omitzero"`
	Data            any       `json:"data,omitzero"`
	DataVersion     string    `json:"dataVersion,omitzero"`
	MetadataVersion string    `json:"metadataVersion,omitzero"`
}

// descriptions say what the fields of an envelope and of an event's data are for, by type and field.
var descriptions = schema.Descriptions{
	"cloudAttributes.SpecVersion":     "The version of CloudEvents.",
	"cloudAttributes.ID":              "The event's id. An event with an id that was seen before is the same event.",
	"cloudAttributes.Source":          "Where the event comes from; of an end, the pool's ARM id.",
	"cloudAttributes.Type":            "What happened.",
	"cloudAttributes.Subject":         "What it happened to; of an end, the connection's ARM id.",
	"cloudAttributes.Time":            "When.",
	"cloudAttributes.DataContentType": "The media type of data.",
	"cloudAttributes.DataSchema":      "The schema of data.",
	"cloudAttributes.Data":            "A native request, or anything else if the subject names what to delete.",
	"cloudAttributes.DataBase64":      "The same as bytes, instead of data.",
	"cloudAttributes.TraceParent":     "The trace that the event belongs to (W3C Trace Context).",
	"cloudAttributes.TraceState":      "What tracing systems add to traceparent.",

	"gridAttributes.ID":              "The event's id.",
	"gridAttributes.Topic":           "Where the event comes from.",
	"gridAttributes.Subject":         "What it happened to.",
	"gridAttributes.EventType":       "What happened.",
	"gridAttributes.EventTime":       "When.",
	"gridAttributes.Data":            "A native request, or anything else if the subject names what to delete.",
	"gridAttributes.DataVersion":     "The version of data's schema.",
	"gridAttributes.MetadataVersion": "The version of the envelope's schema.",

	"EventData.RequestID":       "The request's id: its own, else its event's, else its message's.",
	"EventData.ParentRequestID": "The id of the selector, or array of events, that this request came of.",
	"EventData.ConnectionID":    "ARM id of the connection that was to be deleted.",
	"EventData.Outcome":         "How the request ended.",
	"EventData.Reason":          "The requester's reason, its first 4 KB.",
	"EventData.RequestedBy":     "The requester, the first 4 KB.",
	"EventData.Ticket":          "The request's ticket, the first 4 KB of each text.",
	"EventData.RequestedAt":     "When the request's message was enqueued.",
	"EventData.StartedAt":       "When ARM was first asked to delete.",
	"EventData.FinishedAt":      "When the request ended.",
	"EventData.Attempts":        "DELETEs sent.",
	"EventData.Polls":           "Times that ARM was asked how the operation stands.",
	"EventData.DeliveryCount":   "Deliveries of the last message, and of those that it was parked apart from.",
	"EventData.HTTPStatus":      "Status of ARM's last answer.",
	"EventData.ARMRequestID":    "x-ms-request-id of ARM's last answer.",
	"EventData.Verified":        "The connection was read back, and is gone.",
	"EventData.Expected":        "What a guard wanted.",
	"EventData.Found":           "What was there instead.",
	"EventData.Children":        "The ids of the requests that this one became; of very many the last part.",
	"EventData.ChildCount":      "How many those are.",
	"EventData.Error":           "What went wrong: ARM's CloudError, or the worker's own words.",
	"EventError.Code":           "In one word; DeadLetterReason of the message in the dead-letter queue.",
	"EventError.Message":        "In a sentence; its DeadLetterErrorDescription.",
}

// RequestSchema is the JSON Schema (2020-12) of the bodies that a worker takes: a native request, a CloudEvent, an
// EventGridEvent, or an array of events. It is a little stricter than the worker: nothing may be null.
func RequestSchema() *jsonschema.Schema {
	definitions := deletion.Definitions()
	definitions["cloudEvent"] = cloudEventSchema()
	definitions["eventGridEvent"] = gridEventSchema()
	definitions["events"] = &jsonschema.Schema{
		Description: "Several events in one message; an array of one is that event.",
		Type:        "array", MinItems: new(uint64(1)),
		Items: schema.AnyOf("cloudEvent", "eventGridEvent"),
	}
	s := schema.AnyOf("request", "cloudEvent", "eventGridEvent", "events")
	s.Version, s.Title, s.Description = jsonschema.Version, "hsmsweep request", "The body of a message on the request queue."
	s.Definitions = definitions
	return s
}

// cloudEventSchema cannot look into data_base64.
func cloudEventSchema() *jsonschema.Schema {
	s := schema.Of(cloudAttributes{}, descriptions, nil)
	s.Description = "A CloudEvent 1.0, structured."
	s.AdditionalProperties = nil // extensions
	schema.Field(s, "specversion").Const = "1.0"
	for _, name := range []string{"id", "source", "type"} {
		schema.Field(s, name).MinLength = new(uint64(1))
	}
	schema.Field(s, "data_base64").ContentEncoding = "base64"
	schema.Field(s, "data_base64").Pattern = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
	s.Not = &jsonschema.Schema{Required: []string{"data", "data_base64"}}
	asksFor(s, "type", &jsonschema.Schema{Required: []string{"data_base64"}})
	return s
}

func gridEventSchema() *jsonschema.Schema {
	s := schema.Of(gridAttributes{}, descriptions, nil)
	s.Description = "An EventGridEvent."
	s.AdditionalProperties = nil
	s.Properties.Set("specversion", jsonschema.FalseSchema) // which makes it a CloudEvent
	asksFor(s, "eventType")
	return s
}

// asksFor adds to an envelope's schema what makes it a request: see envelope.request. Its event type is in the field typeName.
func asksFor(s *jsonschema.Schema, typeName string, otherwise ...*jsonschema.Schema) {
	s.PropertyNames = schema.Ref("otherName") // see misplaced
	s.PatternProperties = map[string]*jsonschema.Schema{"^(D[aA][tT][aA]|d(A[tT][aA]|aT[aA]|atA))$": jsonschema.FalseSchema}
	s.If = schema.With(typeName, &jsonschema.Schema{Pattern: `^Microsoft\.`})
	s.Then = &jsonschema.Schema{AllOf: []*jsonschema.Schema{
		schema.With(typeName, &jsonschema.Schema{Const: typeResourceDeleted}),
		schema.With("subject", schema.AnyOf("privateEndpointId", "connectionId")),
	}}
	named := schema.With("subject", schema.Ref("connectionId"))
	named.Properties.Set("data", schema.Ref("notRequest"))
	s.Else = &jsonschema.Schema{AnyOf: append([]*jsonschema.Schema{schema.With("data", schema.Ref("request")), named}, otherwise...)}
}

// EventSchema is the JSON Schema (2020-12) of the events that tell how requests ended.
func EventSchema() *jsonschema.Schema {
	s := schema.Of(cloudAttributes{}, descriptions, nil)
	s.Version, s.Title, s.Description = jsonschema.Version, "hsmsweep event", "How a request ended: the body of a message on the events' topic."
	s.AdditionalProperties = nil // extensions that others may add on the way
	s.Properties.Delete("data_base64")
	s.Properties.Delete("dataschema")
	s.Required = append(s.Required, "time", "datacontenttype", "data")
	schema.Field(s, "specversion").Const = "1.0"
	schema.Field(s, "datacontenttype").Const = "application/json"
	schema.Refer(s, "subject", "connectionId")

	data := schema.Of(EventData{}, descriptions, map[reflect.Type]string{reflect.TypeFor[deletion.Ticket](): "ticket"})
	schema.Refer(data, "connectionId", "connectionId")
	schema.Field(data, "requestId").MinLength = new(uint64(1))
	s.Properties.Set("data", data)

	for _, outcome := range slices.Sorted(maps.Keys(eventTypes)) {
		schema.Field(data, "outcome").Enum = append(schema.Field(data, "outcome").Enum, outcome)
	}
	for _, eventType := range slices.Compact(slices.Sorted(maps.Values(eventTypes))) {
		schema.Field(s, "type").Enum = append(schema.Field(s, "type").Enum, eventType)
		s.AllOf = append(s.AllOf, &jsonschema.Schema{
			If:   schema.With("type", &jsonschema.Schema{Const: eventType}),
			Then: schema.With("data", dataOf(eventType)),
		})
	}
	all := deletion.Definitions()
	s.Definitions = jsonschema.Definitions{"connectionId": all["connectionId"], "ticket": all["ticket"]}
	return s
}

// dataOf is what sets the data of one type of events apart: its outcomes, and an error where the request failed.
func dataOf(eventType string) *jsonschema.Schema {
	outcomes := new(jsonschema.Schema)
	for _, outcome := range slices.Sorted(maps.Keys(eventTypes)) {
		if eventTypes[outcome] == eventType {
			outcomes.Enum = append(outcomes.Enum, outcome)
		}
	}
	s := schema.With("outcome", outcomes)
	if eventType == typeFailed {
		s.Required = append(s.Required, "error")
	}
	return s
}
