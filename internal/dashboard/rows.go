package dashboard

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"hsmsweep/deletion"
	"hsmsweep/worker"
)

// words are why a request waits, for people. Where the reason is unknown, it stands for itself.
var words = map[worker.Reason]string{
	worker.WaitOperation:   "ARM works on it",
	worker.WaitThrottle:    "ARM asked for a pause",
	worker.WaitConflict:    "pool busy with a change",
	worker.WaitDenied:      "denied, perhaps not for long",
	worker.WaitUnavailable: "ARM gave no answer",
	worker.WaitRestart:     "operation forgotten, asks again",
	worker.WaitNotBefore:   "not before its time",
	worker.WaitPublish:     "event still to be published",
	worker.WaitPanic:       "fault in hsmsweep, tries again",
	worker.WaitVerify:      "gone, being read back",
	worker.WaitExpand:      "selector, becomes requests",
	worker.WaitVersion:     "state of another release, waits for it",
	worker.WaitRedelivered: "kept apart: processes died",
	worker.WaitScheduled:   "scheduled by its sender",
}

// dueWords are for what is active. Service Bus does not tell what is locked from what is not: a peek shows no locks.
const dueWords = "queued or in hand"

// A waitRow is a request in the queue. Numbers that JavaScript cannot count up to are text.
type waitRow struct {
	Lineage        string    `json:"lineage"`
	RequestID      string    `json:"requestId"`
	ConnectionID   string    `json:"connectionId,omitempty"`
	Selector       string    `json:"selector,omitempty"`
	Parked         bool      `json:"parked"`
	Why            string    `json:"why"`
	Words          string    `json:"words"`
	DueAt          time.Time `json:"dueAt,omitzero"` // parked
	Since          time.Time `json:"since,omitzero"` // active
	RequestedAt    time.Time `json:"requestedAt"`
	Hops           int       `json:"hops"`
	Attempts       int       `json:"attempts"`
	Polls          int       `json:"polls"`
	Ticket         string    `json:"ticket,omitempty"`
	LastError      string    `json:"lastError,omitempty"`
	TraceID        string    `json:"traceId,omitempty"`
	MessageID      string    `json:"messageId,omitempty"`
	SequenceNumber int64     `json:"sequenceNumber,string"`

	NotCancelled string `json:"notCancelled,omitempty"` // why it cannot be
	NotExpedited string `json:"notExpedited,omitempty"`
	Begun        bool   `json:"begun,omitempty"` // ARM's operation: it can only be let go of
}

func newWaitRow(w worker.Waiting) waitRow {
	r := waitRow{Lineage: w.Lineage(), RequestID: w.RequestID, ConnectionID: w.ConnectionID, Selector: w.Selector, Parked: w.Parked,
		Why: string(w.Why), Words: cmp.Or(words[w.Why], string(w.Why)), Since: w.Since, RequestedAt: w.RequestedAt,
		Hops: w.Hops, Attempts: w.Attempts, Polls: w.Polls, Ticket: ticketText(w.Ticket), LastError: w.LastError, TraceID: w.TraceID,
		MessageID: w.MessageID, SequenceNumber: w.SequenceNumber, NotExpedited: said(w.Expeditable())}
	if w.Parked {
		r.DueAt = w.DueAt
	} else {
		r.Why, r.Words = "due", dueWords
	}
	err := w.Cancellable(false)
	if err != nil && w.Cancellable(true) == nil {
		r.Begun = true
	} else {
		r.NotCancelled = said(err)
	}
	return r
}

func said(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func ticketText(t *deletion.Ticket) string {
	if t == nil {
		return ""
	}
	return cmp.Or(t.ID, t.URL, t.System)
}

// An endRow is an event.
type endRow struct {
	ID           string    `json:"id"`
	Lineage      string    `json:"lineage"`
	RequestID    string    `json:"requestId"`
	ParentID     string    `json:"parentId,omitempty"`
	ConnectionID string    `json:"connectionId,omitempty"`
	Kind         string    `json:"kind"` // completed, skipped, expanded, failed
	Outcome      string    `json:"outcome"`
	Detail       string    `json:"detail,omitempty"`
	RequestedAt  time.Time `json:"requestedAt"`
	StartedAt    time.Time `json:"startedAt,omitzero"`
	FinishedAt   time.Time `json:"finishedAt"`
	Attempts     int       `json:"attempts"`
	Polls        int       `json:"polls"`
	HTTPStatus   int       `json:"httpStatus,omitempty"`
	ARMRequestID string    `json:"armRequestId,omitempty"`
	Ticket       string    `json:"ticket,omitempty"`
	RequestedBy  string    `json:"requestedBy,omitempty"`
	Reason       string    `json:"reason,omitempty"`
	TraceID      string    `json:"traceId,omitempty"`
}

// eventSuffix makes the id of a lineage's event.
const eventSuffix = "/end"

// newEndRow reads an event; what is none of hsmsweep's is not shown.
func newEndRow(m *azservicebus.ReceivedMessage) (endRow, error) {
	var event struct {
		ID          string           `json:"id"`
		TraceParent string           `json:"traceparent"`
		Data        worker.EventData `json:"data"`
	}
	if err := json.Unmarshal(m.Body, &event); err != nil {
		return endRow{}, err
	}
	d := event.Data
	r := endRow{ID: event.ID, RequestID: d.RequestID, ParentID: d.ParentRequestID, ConnectionID: d.ConnectionID, Kind: d.Outcome.Kind(), Outcome: string(d.Outcome),
		Detail: detail(d), RequestedAt: d.RequestedAt, StartedAt: d.StartedAt, FinishedAt: d.FinishedAt, Attempts: d.Attempts, Polls: d.Polls,
		HTTPStatus: d.HTTPStatus, ARMRequestID: d.ARMRequestID, Ticket: ticketText(d.Ticket), RequestedBy: d.RequestedBy, Reason: d.Reason}
	if r.Kind == "" {
		return endRow{}, fmt.Errorf("outcome %q is none of hsmsweep's", d.Outcome)
	}
	r.Lineage = strings.TrimSuffix(event.ID, eventSuffix)
	r.TraceID = traceID(event.TraceParent)
	return r, nil
}

// detail is what there is to say beyond the outcome.
func detail(d worker.EventData) string {
	switch {
	case d.Error != nil:
		return d.Error.Code + ": " + d.Error.Message
	case d.ChildCount == 1:
		return "became 1 request"
	case d.ChildCount > 1:
		return fmt.Sprintf("became %d requests", d.ChildCount)
	case d.Expected != "":
		return "expected " + d.Expected + ", found " + d.Found
	}
	return ""
}

func traceID(traceparent string) string {
	ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{"traceparent": traceparent})
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		return span.TraceID().String()
	}
	return ""
}

// A deadRow is a dead letter.
type deadRow struct {
	Lineage        string    `json:"lineage"`
	RequestID      string    `json:"requestId"`
	ConnectionID   string    `json:"connectionId,omitempty"`
	Selector       string    `json:"selector,omitempty"`
	Reason         string    `json:"reason"`
	Description    string    `json:"description"`
	DeadLetteredAt time.Time `json:"deadLetteredAt"`
	RequestedAt    time.Time `json:"requestedAt"`
	Hops           int       `json:"hops"`
	Attempts       int       `json:"attempts"`
	Polls          int       `json:"polls"`
	Resubmits      int       `json:"resubmits"`
	Ticket         string    `json:"ticket,omitempty"`
	TraceID        string    `json:"traceId,omitempty"`
	MessageID      string    `json:"messageId,omitempty"`
	SequenceNumber int64     `json:"sequenceNumber,string"`
}

func newDeadRow(d worker.DeadLetter) deadRow {
	return deadRow{Lineage: d.Lineage, RequestID: d.RequestID, ConnectionID: d.ConnectionID, Selector: d.Selector, Reason: d.Reason, Description: d.Description,
		DeadLetteredAt: d.DeadLetteredAt, RequestedAt: d.RequestedAt, Hops: d.Hops, Attempts: d.Attempts, Polls: d.Polls, Resubmits: d.Resubmits,
		Ticket: ticketText(d.Ticket), TraceID: d.TraceID, MessageID: d.MessageID, SequenceNumber: d.SequenceNumber}
}
