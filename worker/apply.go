package worker

import (
	"context"
	"errors"
	"fmt"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"hsmsweep/queue"
)

// apply carries a verdict out, and returns the one that was: a failure changes it. The order of effects never does, and this
// is what a crash right after each of them leaves:
//
//	1  schedule the successor,  message and successor: the step is repeated, the second successor has the same id and is dropped
//	   and what else comes of the request: the first messages of a selector's requests, which have ids as firm
//	2  publish the event        message, and the event is out: the step is repeated, the second event has the same id
//	3  settle                   the commit point; before it the message comes back, after it the hop is over
//
// worker/model/step.pml is this order as a model, and expand.pml a selector's, checked in every state that two workers and three
// faults can bring about.
//
// If 3 fails because the lock is lost, somebody else repeats the step: our effects had the ids that theirs have.
func (w *Worker) apply(ctx context.Context, t task, v Verdict) Verdict {
	if errors.Is(context.Cause(ctx), queue.ErrLockLost) {
		return giveBack(queue.ErrLockLost) // somebody else has the message; an effect now could only be a second one
	}
	if v.Cause != nil {
		return settled(v, w.queue.GiveBack(ctx, t.delivery))
	}
	if err := w.scheduleAll(ctx, v.Children); err != nil { // 1
		return w.notScheduled(ctx, t, err)
	}
	if v.End != nil {
		v = w.publish(ctx, t, v)
	}
	switch {
	case v.End == nil:
		if err := w.schedule(ctx, t, v); err != nil { // 1
			return w.notScheduled(ctx, t, err)
		}
		w.stall.over()
		return settled(v, w.queue.Complete(ctx, t.delivery)) // 3
	case v.End.failed():
		return settled(v, w.queue.DeadLetter(ctx, t.delivery, v.End.Code, v.End.Message, obituary(t, v))) // 3
	default:
		return settled(v, w.queue.Complete(ctx, t.delivery)) // 3
	}
}

// notScheduled gives the message back: the step is repeated, and what was sent already has the ids that it will have then.
func (w *Worker) notScheduled(ctx context.Context, t task, err error) Verdict {
	w.stall.failed(err)
	v := giveBack(fmt.Errorf("the successor could not be scheduled: %w", err))
	return settled(v, w.queue.GiveBack(ctx, t.delivery))
}

// publish sends the event of an end. When that fails for good, the end is written into a successor that only publishes: what
// ARM has done is not asked about again.
func (w *Worker) publish(ctx context.Context, t task, v Verdict) Verdict {
	sending, sent := w.queue.publishes(ctx, v.Next.eventID(), v.Next.RequestID)
	event, err := w.event(sending, t, v)
	if err == nil {
		err = w.queue.Publish(sending, event) // 2
	}
	if sent(err) == nil {
		return v
	}
	w.log.ErrorContext(ctx, "the event could not be published; trying again later",
		"requestId", t.attempt.RequestID, "outcome", v.End.Outcome, "error", err)
	next := v.Next
	next.End = v.End
	next.Setbacks++
	return park(next, t.now().Add(w.policy.Backoff(next.Setbacks)), WaitPublish)
}

func (w *Worker) schedule(ctx context.Context, t task, v Verdict) error {
	ctx, sent := w.queue.schedules(ctx, v.Next.messageID())
	successor, err := w.successor(ctx, t, v.Next)
	if err == nil {
		err = w.queue.Send(ctx, successor, v.Until)
	}
	return sent(err)
}

// settled is the verdict as it came out. Nothing is undone: a message that could not be settled comes back and is repeated.
func settled(v Verdict, err error) Verdict {
	if err != nil {
		return giveBack(fmt.Errorf("settling: %w", err))
	}
	return v
}

// successor is the message that takes the request further: the body byte for byte, the sender's properties, the Attempt.
func (w *Worker) successor(ctx context.Context, t task, a Attempt) (*azservicebus.Message, error) {
	d := t.delivery
	state, err := a.encode()
	if err != nil {
		return nil, fmt.Errorf("the state of the request cannot be written down: %w", err)
	}
	m := copyOf(d, a.messageID())
	m.ApplicationProperties[attemptProperty] = state
	InjectTrace(ctx, m.ApplicationProperties)
	return m, nil
}

// copyOf is a message with what its sender wrote, under another id.
func copyOf(d *queue.Delivery, id string) *azservicebus.Message {
	m := &azservicebus.Message{
		MessageID:             &id,
		Body:                  d.Body,
		ContentType:           d.ContentType,
		CorrelationID:         d.CorrelationID,
		Subject:               d.Subject,
		To:                    d.To,
		ReplyTo:               d.ReplyTo,
		ApplicationProperties: make(map[string]any, len(d.ApplicationProperties)+4),
	}
	for name, value := range d.ApplicationProperties {
		switch name {
		case "DeadLetterReason", "DeadLetterErrorDescription", endProperty, queue.GivenBackProperty: // of this message, or of an earlier life
		default:
			m.ApplicationProperties[name] = value
		}
	}
	return m
}
