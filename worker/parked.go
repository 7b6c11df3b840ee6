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
	WaitPublish, WaitPanic, WaitRedelivered, WaitScheduled}

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
	MessageID      string           `json:"messageId,omitempty"`
	SequenceNumber int64            `json:"sequenceNumber"`

	Pool   deletion.PoolID `json:"-"` // zero where no pool is named
	Parked bool            `json:"-"` // scheduled; else it is active: to be received, or in somebody's hands

	task task
}

// onlooker is a worker that never runs. It understands messages, and gives no request less time than its own worker did.
var onlooker = &Worker{policy: Policy{GiveUpAfter: math.MaxInt64}}

// NewWaiting understands a message that was peeked at. It never fails: of what cannot be read it has what can.
func NewWaiting(m *azservicebus.ReceivedMessage) Waiting {
	t := onlooker.take(queue.Peeked(m), time.Now())
	a, connection := t.attempt, t.request.Connection
	w := Waiting{
		RequestID: a.RequestID, Why: a.Why, RequestedAt: a.RequestedAt.UTC(), Hops: a.Hop, Attempts: a.Deletes, Polls: a.Polls,
		Ticket: t.request.Ticket, LastError: a.LastError, MessageID: m.MessageID, SequenceNumber: *m.SequenceNumber,
		Pool: connection.Pool, Parked: m.State == azservicebus.MessageStateScheduled,
	}
	if m.ScheduledEnqueueTime != nil {
		w.DueAt = m.ScheduledEnqueueTime.UTC()
	}
	if w.Parked {
		t.deliveries = 0 // the SDK counts the one that would be next
	}
	if w.Parked && a.Hop == 0 {
		w.Why = WaitScheduled
	}
	w.task = t
	if connection == (deletion.ConnectionID{}) {
		w.Selector = selectorOf(m)
		w.Pool, _ = deletion.ParsePoolID(w.Selector)
	} else {
		w.ConnectionID = connection.String()
	}
	return w
}

// selectorOf is the id that stands where a connection's could, whatever else is wrong with the request.
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
