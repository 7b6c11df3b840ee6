package worker

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/messaging"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"hsmsweep/deletion"
	"hsmsweep/queue"
)

// A task is a delivery understood: what is asked for, and how far it has come.
type task struct {
	delivery   *queue.Delivery
	deliveries int // of this message, this one included
	failures   int // of those before this one: nobody settled them
	request    deletion.Request
	events     []jsontext.Value // an array of several: each becomes a request of its own
	attempt    Attempt
	fault      *fault            // the request cannot be carried out; request then holds what could be read
	trace      map[string]string // traceparent and tracestate as they came
}

// now is the time by the broker's clock.
func (t task) now() time.Time { return t.delivery.Now() }

// A fault is what is wrong with a message, as its author is told.
type fault struct{ code, message string }

// Check says what the worker would say of a body, before it is sent.
func Check(body []byte) error {
	e, err := open(body, nil)
	if err == nil {
		_, err = e.request()
	}
	for i, event := range e.events {
		if fault := Check(event); fault != nil {
			err = errors.Join(err, fmt.Errorf("event %d of %d: %w", i+1, len(e.events), fault))
		}
	}
	return err
}

// RequestIDOf is the id that a request with this body and message id goes by.
func RequestIDOf(body []byte, messageID string) string {
	e, _ := open(body, nil) // what cannot be read has no id of its own
	r, _ := e.request()
	return cmp.Or(r.RequestID, idOf(e.ID), messageID)
}

// idOf makes a request id of an envelope's or a message's id, which nothing keeps short or printable.
func idOf(id string) string {
	printable := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(id, ""))
	return compact(printable, 128)
}

// take understands a delivery. It never fails: what cannot be understood is a task with a fault.
func (w *Worker) take(d *queue.Delivery, now time.Time) task {
	t := task{delivery: d, deliveries: int(d.DeliveryCount), failures: d.Failures(), trace: traceOf(d.ApplicationProperties)}
	e, err := open(d.Body, d.ApplicationProperties)
	if err == nil {
		t.request, err = e.request()
	}
	t.events = e.events
	t.fault = faultOf(err)
	if len(t.trace) == 0 {
		t.trace = e.trace()
	}

	attempt, resumes, err := resumed(d)
	if resumes {
		t.attempt = attempt
		// Whoever wrote it, it ends: a step moves the time to give up at nowhere.
		t.attempt.GiveUpAt = earlier(attempt.GiveUpAt, later(now, t.request.NotBefore).Add(w.policy.GiveUpAfter))
		return t
	}
	if err != nil {
		t.fault = &fault{CodeInvalidRequest, err.Error()}
	}
	id := cmp.Or(t.request.RequestID, idOf(e.ID), idOf(d.MessageID), strconv.FormatInt(*d.SequenceNumber, 10))
	t.attempt = newAttempt(id, *d.SequenceNumber, enqueued(d, now), now, w.policy.GiveUpAfter)
	if after := t.request.NotBefore; after.After(now) {
		t.attempt.Due, t.attempt.Why = after, WaitNotBefore
		t.attempt.GiveUpAt = after.Add(w.policy.GiveUpAfter)
	}
	return t
}

// resumed gives the Attempt that the message carries. A message with a dead-letter reason, or with another id than the Attempt's,
// was put here by somebody's tool: it begins anew, under a lineage of its own.
func resumed(d *queue.Delivery) (Attempt, bool, error) {
	text, ok := d.ApplicationProperties[attemptProperty].(string)
	if _, dead := d.ApplicationProperties["DeadLetterReason"]; dead || !ok {
		return Attempt{}, false, nil
	}
	a, err := decodeAttempt(text)
	return a, err == nil && a.messageID() == d.MessageID, err
}

func earlier(s, t time.Time) time.Time {
	if s.Before(t) {
		return s
	}
	return t
}

func later(s, t time.Time) time.Time {
	if s.After(t) {
		return s
	}
	return t
}

func enqueued(d *queue.Delivery, now time.Time) time.Time {
	if d.EnqueuedTime == nil {
		return now
	}
	return d.EnqueuedTime.UTC()
}

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

func faultOf(err error) *fault {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errUnsupportedEvent):
		return &fault{CodeUnsupportedEvent, err.Error()}
	}
	return &fault{CodeInvalidRequest, strings.ReplaceAll(err.Error(), "\n", "; ")}
}
