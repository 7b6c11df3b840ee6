package worker

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/messaging"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"hsmsweep/deletion"
)

// An envelope is what stands around a request in a body: nothing, a CloudEvent, or an Event Grid event.
type envelope struct {
	ID, Type, Subject       string
	Data                    []byte // the native request, or what an event carries instead
	events                  []jsontext.Value
	event                   bool
	version                 string // of CloudEvents; empty for the others
	traceparent, tracestate string
}

var errNoData = errors.New("the message has no body of one AMQP data section: send the JSON as bytes, not as an AMQP value or sequence")

// open takes the envelope off a body. CloudEvents' binary mode has it in the properties.
func open(body []byte, properties map[string]any) (envelope, error) {
	if body == nil {
		return envelope{}, errNoData
	}
	if e, ok := binaryMode(body, properties); ok {
		return e, nil
	}
	body = bytes.TrimSpace(body)
	switch events, err := array(body); {
	case err != nil:
		return envelope{}, err
	case len(events) == 1: // Event Grid may deliver either
		body = events[0]
	case len(events) > 1:
		return envelope{events: events}, nil
	}
	var shape struct {
		SpecVersion *jsontext.Value `json:"specversion"`
		EventType   *jsontext.Value `json:"eventType"`
	}
	if json.Unmarshal(body, &shape, jsontext.AllowDuplicateNames(true)) != nil || shape.SpecVersion == nil && shape.EventType == nil {
		return envelope{Data: body}, nil // the native decoder says what is wrong
	}
	// The libraries below would take the last of two values for one name, and with it the wrong guard.
	if err := deletion.CheckJSON(body); err != nil {
		return envelope{}, err
	}
	if err := checkAttributes(body); err != nil {
		return envelope{}, err
	}
	if shape.SpecVersion != nil {
		return cloudEvent(body)
	}
	return gridEvent(body)
}

// checkAttributes says in words what is wrong with an event's envelope, and finds what stands there and was meant for its data: a guard
// that nobody would see.
func checkAttributes(event []byte) error {
	var attributes map[string]jsontext.Value
	if err := json.Unmarshal(event, &attributes); err != nil {
		return err
	}
	if attributes["data"] != nil && attributes["data_base64"] != nil {
		return errors.New("data_base64: cannot stand beside data")
	}
	for _, name := range []string{"specversion", "id", "source", "type", "subject", "time", "data_base64", "eventType"} {
		if v, ok := attributes[name]; ok && v.Kind() != '"' {
			return fmt.Errorf("%s: expected text, found %s", name, cut(string(v), 40))
		}
	}
	var at time.Time
	if t, ok := attributes["time"]; ok && json.Unmarshal(t, &at) != nil {
		return fmt.Errorf("time: expected an RFC 3339 time such as 2026-01-31T08:00:00Z, found %s", cut(string(t), 40))
	}
	for name := range attributes {
		if name != "data" && strings.EqualFold(name, "data") {
			return fmt.Errorf("%q: no such attribute; it is data", name)
		}
	}
	if deletion.LooksLikeRequest(event) {
		return errors.New("a field of a request stands in the event itself: put it into data, where it counts")
	}
	return nil
}

func cloudEvent(body []byte) (envelope, error) {
	var ce messaging.CloudEvent
	if err := ce.UnmarshalJSON(body); err != nil {
		return envelope{}, fmt.Errorf("not a CloudEvent: %w", err)
	}
	e := envelope{ID: ce.ID, Type: ce.Type, event: true, version: ce.SpecVersion}
	if ce.Subject != nil {
		e.Subject = *ce.Subject
	}
	e.Data, _ = ce.Data.([]byte)
	e.traceparent, _ = ce.Extensions["traceparent"].(string)
	e.tracestate, _ = ce.Extensions["tracestate"].(string)
	return e, nil
}

func gridEvent(body []byte) (envelope, error) {
	var ge struct {
		ID      string         `json:"id"`
		Type    string         `json:"eventType"`
		Subject string         `json:"subject"`
		Data    jsontext.Value `json:"data"`
	}
	if err := json.Unmarshal(body, &ge); err != nil {
		return envelope{}, fmt.Errorf("not an Event Grid event: %w", err)
	}
	return envelope{ID: ge.ID, Type: ge.Type, Subject: ge.Subject, Data: ge.Data, event: true}, nil
}

// binaryMode reads a CloudEvent whose attributes are application properties; AMQP's binding prefixes them with
// cloudEvents: or cloudEvents_.
func binaryMode(body []byte, properties map[string]any) (envelope, bool) {
	for _, prefix := range []string{"cloudEvents:", "cloudEvents_"} {
		attribute := func(name string) string { s, _ := properties[prefix+name].(string); return s }
		if version := attribute("specversion"); version != "" {
			return envelope{version: version, ID: attribute("id"), Type: attribute("type"), Subject: attribute("subject"), Data: body, event: true,
				traceparent: attribute("traceparent"), tracestate: attribute("tracestate")}, true
		}
	}
	return envelope{}, false
}

// request reads the native request that an envelope holds. An event without one is a request all the same when its subject is
// a connection, but only if its data cannot have been meant as one: that would drop its guards. Azure's own events never
// are requests: this worker's deletions raise them too.
func (e envelope) request() (deletion.Request, error) {
	switch {
	case len(e.events) > 0:
		return deletion.Request{}, nil
	case !e.event:
		return deletion.DecodeRequest(e.Data)
	}
	connection, err := deletion.ParseConnectionID(e.Subject)
	switch {
	case e.version != "" && e.version != "1.0":
		return deletion.Request{}, fmt.Errorf("specversion: CloudEvents 1.0 is expected, this is %q", e.version)
	case e.Type == typeResourceDeleted:
		return e.deletedResource()
	case strings.HasPrefix(e.Type, "Microsoft."):
		return deletion.Request{}, fmt.Errorf("%w: %s", errUnsupportedEvent, e.Type)
	case deletion.LooksLikeRequest(e.Data):
		return deletion.DecodeRequest(e.Data)
	case err != nil:
		return deletion.Request{}, fmt.Errorf("%w: the data of this %q is no request, and its subject names no connection (%w)", errUnsupportedEvent, e.Type, err)
	case !e.saysNothing():
		return deletion.Request{}, errors.New("data: the subject names a connection, but the data is neither a request nor clearly something else, so that a guard in it could be missed")
	}
	return deletion.Request{Connection: connection}, nil
}

// typeResourceDeleted is Azure's own event of a resource that was deleted.
const typeResourceDeleted = "Microsoft.Resources.ResourceDeleteSuccess"

// deletedResource is the request that such an event makes. A private endpoint that is gone leaves connections behind. A connection that
// is gone, perhaps by this program, leaves nothing to do: it is read, so that the event is not a lie, and never deleted.
func (e envelope) deletedResource() (deletion.Request, error) {
	if endpoint, err := deletion.ParseEndpointID(e.Subject); err == nil {
		return deletion.Request{Endpoint: &endpoint}, nil
	}
	if connection, err := deletion.ParseConnectionID(e.Subject); err == nil {
		return deletion.Request{Connection: connection, Reported: true}, nil
	}
	return deletion.Request{}, fmt.Errorf("%w: %s of %+q, which is neither a private endpoint nor a connection of a managed HSM pool", errUnsupportedEvent, e.Type, cut(e.Subject, 300))
}

// saysNothing tells whether an event's data, which does not look like a request, is none: a whole object, or something that
// mentions no field of a request.
func (e envelope) saysNothing() bool {
	data := bytes.TrimSpace(e.Data)
	return bytes.HasPrefix(data, []byte("{")) && deletion.CheckJSON(data) == nil || !deletion.MentionsRequest(data)
}

func (e envelope) trace() map[string]string {
	if e.traceparent == "" {
		return nil
	}
	return map[string]string{"traceparent": e.traceparent, "tracestate": e.tracestate}
}

var errUnsupportedEvent = errors.New("not an event that hsmsweep acts upon")
