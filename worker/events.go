package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"hsmsweep/deletion"
)

const (
	typeCompleted = "Hsmsweep.ConnectionDeleteCompleted"
	typeSkipped   = "Hsmsweep.ConnectionDeleteSkipped"
	typeExpanded  = "Hsmsweep.RequestExpanded"
	typeFailed    = "Hsmsweep.ConnectionDeleteFailed"
)

// eventTypes says which event tells of which end.
var eventTypes = map[Reason]string{
	EndDeleted:          typeCompleted,
	EndAbsent:           typeCompleted,
	EndDryRun:           typeSkipped,
	EndStatusMismatch:   typeSkipped,
	EndEndpointMismatch: typeSkipped,
	EndProtected:        typeSkipped,
	EndNoMatch:          typeSkipped,
	EndCancelled:        typeSkipped,
	EndExpanded:         typeExpanded,
	EndRejected:         typeFailed,
	EndFailed:           typeFailed,
	EndTimedOut:         typeFailed,
	EndInvalid:          typeFailed,
	EndOutOfScope:       typeFailed,
}

// Outcomes are all words for how a request ends.
func Outcomes() []string {
	var words []string
	for outcome := range eventTypes {
		words = append(words, string(outcome))
	}
	slices.Sort(words)
	return words
}

// EventData is the data of an event. What does not apply is left out.
type EventData struct {
	RequestID       string           `json:"requestId"`
	ParentRequestID string           `json:"parentRequestId,omitempty"` // of the selector, or of the array of events, that it came of
	ConnectionID    string           `json:"connectionId,omitempty"`
	Outcome         Reason           `json:"outcome"`
	Reason          string           `json:"reason,omitempty"` // the requester's
	RequestedBy     string           `json:"requestedBy,omitempty"`
	Ticket          *deletion.Ticket `json:"ticket,omitempty"`
	RequestedAt     time.Time        `json:"requestedAt"`
	StartedAt       time.Time        `json:"startedAt,omitzero"`
	FinishedAt      time.Time        `json:"finishedAt"`
	Attempts        int              `json:"attempts"` // DELETEs sent
	Polls           int              `json:"polls"`
	DeliveryCount   int              `json:"deliveryCount"` // of the last step's message, and of those that it was parked apart from
	HTTPStatus      int              `json:"httpStatus,omitempty"`
	ARMRequestID    string           `json:"armRequestId,omitempty"`
	Verified        bool             `json:"verified,omitempty"` // read back, and gone
	Expected        string           `json:"expected,omitempty"`
	Found           string           `json:"found,omitempty"`
	Children        []string         `json:"children,omitempty"`   // request ids; of a very long list the last part
	ChildCount      int              `json:"childCount,omitempty"` // of all
	Error           *EventError      `json:"error,omitempty"`
}

// EventError is CloudError's code and message, or this program's own.
type EventError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// longestText, in bytes, is what comes back of each text of the requester, so that an event always fits where its request did.
const longestText = 4096

// event is the message that tells how a request ended.
func (w *Worker) event(ctx context.Context, t task, v Verdict) (*azservicebus.Message, error) {
	a, e := v.Next, v.End
	data := EventData{
		RequestID: a.RequestID, ParentRequestID: a.Parent, Outcome: e.Outcome,
		Reason: cut(t.request.Reason, longestText), RequestedBy: cut(t.request.RequestedBy, longestText),
		RequestedAt: a.RequestedAt.UTC(), StartedAt: a.StartedAt.UTC(), FinishedAt: e.At.UTC(),
		Attempts: a.Deletes, Polls: a.Polls, DeliveryCount: t.attempt.Failures + t.deliveries,
		HTTPStatus: e.HTTPStatus, ARMRequestID: e.ARMRequestID, Verified: e.Verified, Expected: e.Expected, Found: e.Found,
	}
	if e.Outcome == EndExpanded {
		data.Children, data.ChildCount = listChildren(t, a, w.policy)
	}
	if e.Code != "" {
		data.Error = &EventError{e.Code, e.Message}
	}
	eventType := eventTypes[e.Outcome]
	properties := map[string]any{"type": eventType, "outcome": string(e.Outcome)}
	InjectTrace(ctx, properties)

	// A CloudEvent must have a source; a request that names no pool has none but the queue it came from.
	ce := cloudAttributes{SpecVersion: "1.0", ID: a.eventID(), Source: "hsmsweep/" + w.queueName, Type: eventType, Time: data.FinishedAt, DataContentType: "application/json"}
	if pool, ok := poolOf(t.request); ok {
		ce.Source, properties["managedHsm"] = pool.String(), pool.Name
	}
	if c := t.request.Connection; !t.request.Selects() {
		data.ConnectionID, ce.Subject = c.String(), c.String()
	}
	if ticket := t.request.Ticket; ticket != nil {
		data.Ticket = &deletion.Ticket{System: cut(ticket.System, longestText), ID: cut(ticket.ID, longestText), URL: cut(ticket.URL, longestText)}
		if ticket.ID != "" {
			properties["ticketId"] = data.Ticket.ID
		}
	}
	ce.TraceParent, _ = properties["traceparent"].(string)
	ce.TraceState, _ = properties["tracestate"].(string)
	ce.Data = data
	body, err := json.Marshal(ce)
	if err != nil {
		return nil, fmt.Errorf("the event cannot be written: %w", err)
	}
	return &azservicebus.Message{
		MessageID:             new(a.eventID()),
		CorrelationID:         new(compact(a.RequestID, 128)),
		Subject:               new(eventType),
		ContentType:           new("application/cloudevents+json"),
		Body:                  body,
		ApplicationProperties: properties,
	}, nil
}

// poolOf is the one pool that a request names.
func poolOf(r deletion.Request) (deletion.PoolID, bool) {
	switch {
	case !r.Selects():
		return r.Connection.Pool, true
	case r.Pool != nil:
		return *r.Pool, true
	}
	return deletion.PoolID{}, false
}
