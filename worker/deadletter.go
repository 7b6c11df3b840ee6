package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/go-json-experiment/json"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"hsmsweep/deletion"
	"hsmsweep/queue"
)

const (
	// resubmitsProperty is the application property that counts how often a request was resubmitted.
	resubmitsProperty = "hsmsweep-resubmits"
	// requestIDProperty is the application property with the id that a resubmitted request goes by. It may have been known by its
	// message's id, or by one that came of a selector's, and keeps it.
	requestIDProperty = "hsmsweep-request-id"
	// endProperty is the application property of a dead letter with the Attempt as it was in the end: the one that travels is that of
	// the hop before, and a first message has none. It begins nothing and resumes nothing.
	endProperty = "hsmsweep-end"
)

// obituary is what a dead letter says of its request's life, in few words, since a message may have little room left.
func obituary(t task, v Verdict) map[string]any {
	if propertySize(t.delivery.ApplicationProperties) > roomForProperties {
		return nil
	}
	a, e := v.Next, *v.End
	e.Message, a.LastError, a.Operation, a.Verifying, a.Selection = "", "", nil, nil, nil
	a.End = &e
	state, err := a.encode()
	if err != nil {
		return nil // the letter itself matters more
	}
	return map[string]any{endProperty: state}
}

// A DeadLetter is a message of the dead-letter queue, as far as it can be known by looking at it. What does not apply is left out.
type DeadLetter struct {
	RequestID      string           `json:"requestId"`
	ConnectionID   string           `json:"connectionId,omitempty"`
	Selector       string           `json:"selector,omitempty"` // the id by which connections are to be found, where none is named
	Reason         string           `json:"reason"`
	Description    string           `json:"description"`
	DeadLetteredAt time.Time        `json:"deadLetteredAt"` // of what this program did not dead-letter: when it entered the queue
	RequestedAt    time.Time        `json:"requestedAt"`
	Hops           int              `json:"hops"`
	Attempts       int              `json:"attempts"` // DELETEs sent
	Polls          int              `json:"polls"`
	Resubmits      int              `json:"resubmits"`
	Ticket         *deletion.Ticket `json:"ticket,omitempty"`
	TraceID        string           `json:"traceId,omitempty"`
	MessageID      string           `json:"messageId,omitempty"`
	SequenceNumber int64            `json:"sequenceNumber"` // in the dead-letter queue

	Pool    deletion.PoolID `json:"-"` // zero where no pool is named
	Lineage string          `json:"-"` // see Waiting
	Attempt string          `json:"-"` // the state that it carried, as JSON; empty: none
	Body    []byte          `json:"-"` // as it came
}

// NewDeadLetter understands a dead letter that was peeked at. It never fails: of what cannot be read it has what can.
func NewDeadLetter(m *azservicebus.ReceivedMessage) DeadLetter {
	t := onlooker.take(original(queue.Peeked(m)), time.Now())
	a := t.attempt
	died := enqueued(t.delivery, time.Now())
	text := func(property string) string { s, _ := m.ApplicationProperties[property].(string); return s }
	state := text(attemptProperty)
	if last, ok := lastAttempt(text(endProperty)); ok {
		a, state, died = last, text(endProperty), last.End.At.UTC()
	}
	d := DeadLetter{
		RequestID: t.attempt.RequestID, Reason: text("DeadLetterReason"), Description: text("DeadLetterErrorDescription"),
		DeadLetteredAt: died, RequestedAt: a.RequestedAt.UTC(), Hops: a.Hop, Attempts: a.Deletes, Polls: a.Polls,
		Resubmits: resubmits(m), Ticket: t.request.Ticket, MessageID: m.MessageID, SequenceNumber: *m.SequenceNumber, Lineage: a.Lineage, Attempt: state, Body: m.Body,
	}
	if remote := remoteSpan(t.trace); remote.IsValid() {
		d.TraceID = remote.TraceID().String()
	}
	d.Pool, _ = poolOf(t.request)
	d.ConnectionID, d.Selector = about(t, m)
	return d
}

// lastAttempt reads an Attempt that is only shown.
func lastAttempt(text string) (Attempt, bool) {
	var a Attempt
	err := json.Unmarshal([]byte(text), &a)
	return a, err == nil && a.End != nil && a.RequestID != "" && min(a.Hop, a.Deletes, a.Polls) >= 0
}

// resubmits is what a message says, which somebody else may have written.
func resubmits(m *azservicebus.ReceivedMessage) int {
	n, _ := m.ApplicationProperties[resubmitsProperty].(int64)
	return int(max(0, min(n, mostCounted)))
}

func remoteSpan(carried map[string]string) trace.SpanContext {
	return trace.SpanContextFromContext(propagator.Extract(context.Background(), propagation.MapCarrier(carried)))
}

// DeadLetters goes through the dead-letter queue in the order of sequence numbers, page by page, without taking anything. It ends with
// the first error.
func (o *Operator) DeadLetters(ctx context.Context) iter.Seq2[[]DeadLetter, error] {
	return func(yield func([]DeadLetter, error) bool) {
		for messages, err := range o.queue.DeadPages(ctx, 0) {
			page := make([]DeadLetter, len(messages))
			for i, m := range messages {
				page[i] = NewDeadLetter(m)
			}
			if !yield(page, err) {
				return
			}
		}
	}
}

// errReclaimed keeps what no event has told of from being lost, or told of under two ids.
var errReclaimed = errors.New("the broker gave it up by itself, so that no event has told of it yet; a worker that runs takes it back within five minutes and ends it")

// Settled hears what became of a dead letter.
type Settled func(d DeadLetter, err error)

// Resubmit puts dead letters back into the queue as new requests, n of them locked at a time, each after pace has returned. The order is
// this, and a crash after an effect leaves:
//
//	1  send the request          both; giving the same command again sends the same message id, which the queue drops within its
//	                             duplicate window, and goes on with 2
//	2  complete the dead letter  what was wanted
//
// The body is the same byte for byte, and so are the sender's properties. The Attempt is left behind, and so is the trace: a new one
// begins, with a link to the old.
func (o *Operator) Resubmit(ctx context.Context, letters []DeadLetter, n int, pace func(context.Context) error, told Settled) error {
	return o.takeDead(ctx, letters, n, told, func(ctx context.Context, d *queue.Delivery, complete func() error) error {
		if err := pace(ctx); err != nil {
			return err
		}
		again, done, err := o.again(ctx, d)
		if err == nil {
			err = done(o.queue.Send(ctx, again, time.Time{})) // 1
		}
		if err != nil {
			return fmt.Errorf("it could not be sent, and is a dead letter as before: %w", err)
		}
		if err := complete(); err != nil { // 2
			return fmt.Errorf("it was sent, but is also a dead letter as before: give the same command again within the queue's duplicate window: %w", err)
		}
		return nil
	})
}

// Drop completes dead letters, n of them locked at a time. Their events were published when they became dead letters.
func (o *Operator) Drop(ctx context.Context, letters []DeadLetter, n int, told Settled) error {
	return o.takeDead(ctx, letters, n, told, func(_ context.Context, _ *queue.Delivery, complete func() error) error { return complete() })
}

// takeDead takes dead letters one by one and tells of each; what was not found, too.
func (o *Operator) takeDead(ctx context.Context, letters []DeadLetter, n int, told Settled, take queue.Taker) error {
	byNumber, numbers := map[int64]DeadLetter{}, map[int64]bool{}
	for _, d := range letters {
		if brokersOwn(&d.Reason) {
			told(d, errReclaimed)
			continue
		}
		byNumber[d.SequenceNumber], numbers[d.SequenceNumber] = d, true
	}
	if len(numbers) == 0 {
		return nil
	}
	missing, err := o.queue.TakeDead(ctx, numbers, n, func(ctx context.Context, d *queue.Delivery, complete func() error) error {
		err := take(ctx, d, complete)
		if err != nil && ctx.Err() != nil {
			return err // it was not begun
		}
		told(byNumber[*d.SequenceNumber], err)
		return nil
	})
	for _, d := range letters {
		if missing[d.SequenceNumber] {
			told(d, cmp.Or(ctx.Err(), err, errNotThere))
		}
	}
	return err
}

var errNotThere = errors.New("it is not there any more, or somebody else has it locked: look again in a minute")

// again makes a new request of a dead letter. Its id is the same on every repeat, and another when the request comes back and is
// resubmitted once more: a dead letter has a number of its own. The span that begins ends with the function that is returned.
func (o *Operator) again(ctx context.Context, d *queue.Delivery) (*azservicebus.Message, func(error) error, error) {
	if d.Body == nil {
		return nil, nil, errNoData
	}
	letter := NewDeadLetter(d.ReceivedMessage)
	id := fmt.Sprintf("%s@%d/resubmit", compact(letter.RequestID, 80), letter.SequenceNumber)
	links := []trace.SpanStartOption{trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(
		attribute.String("messaging.system", messagingSystem), attribute.String("messaging.operation.name", "send"), attribute.String("messaging.operation.type", "send"),
		attribute.String("messaging.destination.name", o.worker.queueName), attribute.String("messaging.message.id", id), attribute.String("hsmsweep.request.id", letter.RequestID))}
	if old := remoteSpan(traceOf(d.ApplicationProperties)); old.IsValid() {
		links = append(links, trace.WithLinks(trace.Link{SpanContext: old}))
	}
	ctx, span := o.worker.tracer.Start(ctx, "resubmit "+o.worker.queueName, links...)
	m := copyOf(d, id)
	for name := range m.ApplicationProperties {
		if strings.HasPrefix(name, "hsmsweep-") || name == diagnosticID || name == "traceparent" || name == "tracestate" {
			delete(m.ApplicationProperties, name)
		}
	}
	m.ApplicationProperties[resubmitsProperty] = int64(letter.Resubmits) + 1
	m.ApplicationProperties[requestIDProperty] = letter.RequestID
	InjectTrace(ctx, m.ApplicationProperties)
	return m, func(err error) error {
		if err != nil {
			span.RecordError(err)
		}
		span.End()
		return err
	}, nil
}
