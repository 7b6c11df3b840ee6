package worker

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"hsmsweep/queue"
)

// CodeMayBeDeleted is the error code of a request that was cancelled although ARM may still delete the connection.
const CodeMayBeDeleted = "ConnectionMayBeDeleted"

// ErrTooLate says that a request cannot be taken back, or hurried, any more; nothing was changed.
var ErrTooLate = errors.New("too late")

// An UnpublishedError says that a request was cancelled, and that its event, which must not be lost, could not be published.
type UnpublishedError struct {
	Event *azservicebus.Message
	err   error
}

func (e *UnpublishedError) Error() string {
	return "cancelled, but the event could not be published: " + e.err.Error()
}

func (e *UnpublishedError) Unwrap() error { return e.err }

// An Operator does by hand with what waits in the queue what no worker does.
type Operator struct {
	queue  *queue.Queue
	worker *Worker // never runs; it writes events and successors
}

// NewOperator makes an operator of a queue; its name stands in events of requests that name no pool.
func NewOperator(q *queue.Queue, queueName string, tracer trace.TracerProvider) *Operator {
	return &Operator{queue: q, worker: &Worker{queueName: queueName, tracer: tracer.Tracer("hsmsweep/operator")}}
}

// Requests goes through the queue in the order of sequence numbers, page by page, without taking anything. It ends with the first error.
func (o *Operator) Requests(ctx context.Context) iter.Seq2[[]Waiting, error] { return o.from(ctx, 0) }

func (o *Operator) from(ctx context.Context, number int64) iter.Seq2[[]Waiting, error] {
	return func(yield func([]Waiting, error) bool) {
		for messages, err := range o.queue.Pages(ctx, number) {
			page := make([]Waiting, len(messages))
			for i, m := range messages {
				page[i] = NewWaiting(m)
			}
			if !yield(page, err) {
				return
			}
		}
	}
}

// Find gives the requests with these ids, each of its messages by itself. What is parked while a message of the same lineage is active
// is left out: the step at hand may write it once more, or take it further.
func (o *Operator) Find(ctx context.Context, requestIDs []string) ([]Waiting, error) {
	var found []Waiting
	active := map[string]bool{}
	for page, err := range o.Requests(ctx) {
		if err != nil {
			return nil, err
		}
		for _, w := range page {
			if slices.Contains(requestIDs, w.RequestID) {
				found = append(found, w)
				active[w.Lineage()] = active[w.Lineage()] || !w.Parked
			}
		}
	}
	return slices.DeleteFunc(found, func(w Waiting) bool { return w.Parked && active[w.Lineage()] }), nil
}

// Cancel takes a parked request out of the queue and publishes that it was cancelled. An operation that ARM has begun is only let go
// of with stopWatching. The order is this, and a crash after an effect leaves:
//
//	1  cancel the message   nothing in the queue, and no event: the one moment in which a request can vanish untold
//	2  publish the event    what was wanted
//
// The other way round a crash would leave a request that goes on to delete what was said to be spared.
func (o *Operator) Cancel(ctx context.Context, w Waiting, stopWatching bool) error {
	if err := w.Cancellable(stopWatching); err != nil {
		return err
	}
	ctx, span := o.startSpan(ctx, "cancel", w)
	defer span.End()
	event, err := o.worker.event(ctx, w.task, end(w.task.attempt, w.cancelled(time.Now())))
	if err != nil {
		return err
	}
	overtaken := false
	if err := o.queue.CancelScheduled(ctx, w.SequenceNumber); err != nil { // 1
		if overtaken, err = o.whereabouts(ctx, w, err); err != nil {
			return err
		}
	}
	if err := o.queue.Publish(ctx, event); err != nil { // 2
		return &UnpublishedError{event, err}
	}
	if overtaken {
		return errors.New("it became due and left the queue while it was being cancelled; that it was cancelled was published under the id of its end, and counts only if no worker published another end before: see the events")
	}
	return nil
}

// whereabouts looks what became of a message that could not be cancelled. Without an error it is out of the queue: because it was
// cancelled, and the answer lost; or, if overtaken, perhaps because a worker ended it. That one's event was out before the message
// was gone, so that a second under the same id is the one to be dropped.
func (o *Operator) whereabouts(ctx context.Context, w Waiting, cause error) (overtaken bool, err error) {
	for page, err := range o.from(ctx, w.SequenceNumber) {
		if err != nil {
			return false, fmt.Errorf("whether it was cancelled is not known, and no event was published; try again: %w", errors.Join(cause, err))
		}
		for _, m := range page {
			switch {
			case m.Parked && m.SequenceNumber == w.SequenceNumber:
				return false, fmt.Errorf("it could not be cancelled, and waits as before: %w", cause)
			case m.continues(w):
				return false, errHandled
			}
		}
	}
	overtaken = !time.Now().Before(w.DueAt)
	if overtaken && !w.seen { // a worker's event would have another id
		return true, fmt.Errorf("%w: it became due, and is not in the queue any more; see the events", ErrTooLate)
	}
	return overtaken, nil
}

// Expedite has a parked request due now: its successor is sent as a worker would send it, but due at once. The order is this, and
// a crash after an effect leaves:
//
//	1  send the successor   both messages. Nothing is lost, and both end under one event id; but the first, when its time comes,
//	                        is one more DELETE, as after a crash of a worker. The same command again sends the same message
//	                        id, which is dropped, and goes on with 2.
//	2  cancel the message   what was wanted
//
// The other way round a crash would lose the request. The successor has the id of the next hop, not one of its own: should a worker
// take the first message meanwhile, the successor that it writes is dropped for this one, and the request is one again. For the
// same reason this one must not be cancelled any more when 2 fails.
func (o *Operator) Expedite(ctx context.Context, w Waiting) error {
	if err := w.Expeditable(); err != nil {
		return err
	}
	ctx, span := o.startSpan(ctx, "expedite", w)
	defer span.End()
	next := w.task.attempt
	next.Hop++
	next.Due = time.Time{} // this machine's clock may be ahead of the broker's, and the worker would park it once more
	successor, err := o.worker.successor(ctx, w.task, next)
	if err != nil {
		return err
	}
	if err := o.queue.Send(ctx, successor, time.Time{}); err != nil { // 1
		return fmt.Errorf("it could not be sent ahead, and waits as before: %w", err)
	}
	if err := o.queue.CancelScheduled(ctx, w.SequenceNumber); err != nil && o.waits(ctx, w) { // 2
		return fmt.Errorf("it was sent ahead, but also waits as before: give the same command again within the queue's duplicate window: %w", err)
	}
	return nil
}

// waits tells whether a message may still be scheduled.
func (o *Operator) waits(ctx context.Context, w Waiting) bool {
	for page, err := range o.from(ctx, w.SequenceNumber) {
		return err != nil || page[0].Parked && page[0].SequenceNumber == w.SequenceNumber
	}
	return false
}

// startSpan goes on with the request's trace.
func (o *Operator) startSpan(ctx context.Context, what string, w Waiting) (context.Context, trace.Span) {
	ctx = propagator.Extract(ctx, propagation.MapCarrier(w.task.trace))
	return o.worker.tracer.Start(ctx, what+" "+o.worker.queueName)
}

var errHandled = fmt.Errorf("%w: it is being handled now; try again in a moment", ErrTooLate)

// Cancellable is nil where Cancel takes the request back, as far as its message tells, and ErrTooLate with words where it does not.
func (w Waiting) Cancellable(stopWatching bool) error {
	switch a := w.task.attempt; {
	case !w.Parked:
		return errHandled
	case a.foreign():
		return fmt.Errorf("its state is of version %d, and this program knows %d, so that it cannot tell what ARM has begun: cancel it with the release that wrote it", a.Version, attemptVersion)
	case a.End != nil:
		return fmt.Errorf("%w: it has ended as %s, which is only still to be published", ErrTooLate, a.End.Outcome)
	case a.Verifying != nil:
		return fmt.Errorf("%w: ARM has deleted the connection (%s), which is only still to be read back", ErrTooLate, a.Verifying.Outcome)
	case a.Selection != nil:
		return fmt.Errorf("%w: what it selects becomes requests of their own, with ids that begin with this one's and a slash: cancel those", ErrTooLate)
	case a.Operation != nil && !stopWatching:
		return fmt.Errorf("%w: ARM has begun the operation, and it cannot be taken back; --stop-watching ends the request without knowing how the operation does", ErrTooLate)
	}
	return nil
}

// Expeditable is nil where Expedite hurries the request. It keeps what must not be: ARM asked for the wait, or the request is kept apart
// from others.
func (w Waiting) Expeditable() error {
	switch {
	case !w.Parked:
		return errHandled
	case w.Why == WaitOperation || w.Why == WaitThrottle:
		return fmt.Errorf("it waits (%s) until the time that ARM asked for, and ARM must not be asked before", w.Why)
	case w.Why == WaitRedelivered:
		return errors.New("it is kept apart because the processes that handled it died, and takes its turn")
	case w.Why == WaitScheduled:
		return errors.New("its sender scheduled it, and no worker has seen it yet; cancel it, and send it again without a time")
	}
	return nil
}

// cancelled is the end of a request that is cancelled now.
func (w Waiting) cancelled(now time.Time) End {
	e := End{Outcome: EndCancelled, At: now}
	switch a := w.task.attempt; {
	case a.Operation != nil:
		e.Code, e.Message = CodeMayBeDeleted, "nobody watches any more; ARM's operation was still running and may yet delete the connection"
	case a.Deletes > 0 && a.Why == WaitUnavailable:
		e.Code, e.Message = CodeMayBeDeleted, "a DELETE was sent that ARM has not answered: it may yet delete the connection"
	}
	return e
}

// continues tells whether a message is another one, or a later one, of the same request.
func (w Waiting) continues(earlier Waiting) bool {
	if !earlier.seen {
		return earlier.MessageID != "" && w.MessageID == earlier.MessageID
	}
	return w.Lineage() == earlier.Lineage()
}

// Lineage is what the messages of one request have in common. The id of its event is the lineage with /end.
func (w Waiting) Lineage() string { return w.task.attempt.Lineage }
