package worker

import (
	"cmp"
	"encoding/json"
	"math"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"hsmsweep/deletion"
	"hsmsweep/queue"
)

// WaitScheduled is why a message waits that no worker has seen: its sender scheduled it.
const WaitScheduled Reason = "scheduled"

// WaitReasons are all reasons for which a request waits.
var WaitReasons = []Reason{WaitOperation, WaitThrottle, WaitConflict, WaitDenied, WaitUnavailable, WaitRestart, WaitNotBefore,
	WaitVerify, WaitExpand, WaitPublish, WaitPanic, WaitVersion, WaitRedelivered, WaitScheduled}

// A Waiting is a request in the queue, as far as it can be known by looking at its message. What does not apply is left out.
type Waiting struct {
	RequestID      string           `json:"requestId"`
	ConnectionID   string           `json:"connectionId,omitempty"`
	Selector       string           `json:"selector,omitempty"` // the id by which connections are to be found, where none is named
	Why            Reason           `json:"why"`
	DueAt          time.Time        `json:"dueAt,omitzero"` // when the message can be received
	RequestedAt    time.Time        `json:"requestedAt"`
	Hops           int              `json:"hops"`
	Attempts       int              `json:"attempts"` // DELETEs sent
	Polls          int              `json:"polls"`
	Ticket         *deletion.Ticket `json:"ticket,omitempty"`
	LastError      string           `json:"lastError,omitempty"`
	TraceID        string           `json:"traceId,omitempty"`
	MessageID      string           `json:"messageId,omitempty"`
	SequenceNumber int64            `json:"sequenceNumber"`

	Pool   deletion.PoolID `json:"-"` // zero where no pool is named
	Parked bool            `json:"-"` // scheduled; else it is active: to be received, or in somebody's hands
	Since  time.Time       `json:"-"` // when it became active; zero while it is parked

	task task
	seen bool // by a worker, which left an Attempt
}

// onlooker is a worker that never runs. It understands messages, and gives no request less time than its own worker did.
var onlooker = &Worker{policy: Policy{GiveUpAfter: math.MaxInt64}}

// NewWaiting understands a message that was peeked at. It never fails: of what cannot be read it has what can.
func NewWaiting(m *azservicebus.ReceivedMessage) Waiting {
	t := onlooker.take(queue.Peeked(m), time.Now())
	a := t.attempt
	w := Waiting{
		RequestID: a.RequestID, Why: a.Why, RequestedAt: a.RequestedAt.UTC(), Hops: a.Hop, Attempts: a.Deletes, Polls: a.Polls,
		Ticket: t.request.Ticket, LastError: a.LastError, MessageID: m.MessageID, SequenceNumber: *m.SequenceNumber,
		Parked: m.State == azservicebus.MessageStateScheduled, seen: a.messageID() == m.MessageID,
	}
	if m.ScheduledEnqueueTime != nil {
		w.DueAt = m.ScheduledEnqueueTime.UTC()
	}
	if !w.Parked && m.EnqueuedTime != nil {
		w.Since = m.EnqueuedTime.UTC()
	}
	if remote := remoteSpan(t.trace); remote.IsValid() {
		w.TraceID = remote.TraceID().String()
	}
	if w.Parked {
		t.deliveries = 0 // the SDK counts the one that would be next
	}
	if w.Parked && !w.seen {
		w.Why = WaitScheduled
	}
	w.task = t
	w.Pool, _ = poolOf(t.request)
	w.ConnectionID, w.Selector = about(t, m)
	return w
}

// about is the connection that a request names, or else the id by which connections are to be found.
func about(t task, m *azservicebus.ReceivedMessage) (connectionID, selector string) {
	if t.request.Selects() {
		return "", cmp.Or(target(t.request), selectorOf(m))
	}
	return t.request.Connection.String(), ""
}

// selectorOf is what stands in the place of an id in a request that cannot be read.
func selectorOf(m *azservicebus.ReceivedMessage) string {
	e, err := open(m.Body, m.ApplicationProperties)
	if err != nil {
		return ""
	}
	var named struct{ ConnectionID, PrivateEndpointID, ManagedHSMID any }
	_ = json.Unmarshal(e.Data, &named) // data that is none names nothing
	text := func(value any) string { s, _ := value.(string); return s }
	return cut(cmp.Or(text(named.ConnectionID), text(named.PrivateEndpointID), text(named.ManagedHSMID), e.Subject), longestText)
}
