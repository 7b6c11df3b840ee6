package worker

import (
	"context"
	"fmt"
	"time"

	"hsmsweep/queue"
)

// handle takes one delivery one step further. It waits for nothing but ARM's answer, which has a time-out, and leaves the request
// either ended, or parked, or in the queue as it was.
func (w *Worker) handle(ctx context.Context, d *queue.Delivery) {
	ctx, release := w.queue.Hold(ctx, d)
	defer release()
	// A panic in a step has its own place below. One around it must not take the process, and every step in hand, with it: the
	// message comes back when its lock has run out, and is given up after --max-deliveries.
	defer w.survive(ctx, d)

	t := w.take(d, d.Now())
	ctx, over := w.beginHop(ctx, t)
	defer over()

	began := time.Now()
	verdict, did := w.step(ctx, t)
	verdict = w.apply(ctx, t, verdict)
	w.report(ctx, t, verdict, did, time.Since(began))
}

func (w *Worker) survive(ctx context.Context, d *queue.Delivery) {
	if p := recover(); p != nil {
		w.log.ErrorContext(ctx, "hsmsweep panicked; the message comes back when its lock has run out", "messageId", d.MessageID, "panic", p, "stack", stack())
	}
}

// step asks ARM at most one thing (and reads the connection first, where a guard wants that) and decides.
func (w *Worker) step(ctx context.Context, t task) (v Verdict, did exchange) {
	defer func() {
		if p := recover(); p != nil {
			w.log.ErrorContext(ctx, "a step panicked", "requestId", t.attempt.RequestID, "panic", p, "stack", stack())
			v = panicked(t, fmt.Sprint(p), t.now(), w.policy)
		}
	}()
	v, decided := admit(t, t.now(), w.policy)
	if v.End == nil { // it may have to wait, now or after ARM's answer
		if v, ok := w.tooLarge(ctx, t); ok {
			return v, did
		}
	}
	switch {
	case decided && t.attempt.End != nil && v.End.gone():
		return w.confirm(ctx, t, v)
	case decided:
		return v, did
	}
	if v, ok := w.held(t); ok {
		return v, did
	}

	asked := t
	did, err := w.ask(ctx, &t)
	if err != nil {
		w.heard(asked, exchange{}, Verdict{})
		return giveBack(err), did
	}
	w.health.answered(did.outcome)
	v = decide(t, did.outcome, t.now(), w.policy)
	w.heard(asked, did, v)
	return v, did
}

const (
	// sizeWorthAsking, in bytes, is below what any tier of Service Bus takes, the largest Attempt included.
	sizeWorthAsking = 128 << 10
	// roomForProperties is what the sender's properties may take of Service Bus's 64 KB, so that an Attempt has the rest.
	roomForProperties = 32 << 10
)

// tooLarge finds out, before anything is done, whether the message would still fit into the queue with its Attempt.
func (w *Worker) tooLarge(ctx context.Context, t task) (Verdict, bool) {
	refused := func(what string, size int) (Verdict, bool) {
		return end(t.attempt, End{Outcome: EndInvalid, At: t.now(), Code: CodeRequestTooLarge, Message: fmt.Sprintf(
			"the message's %s of %d bytes would not fit into the queue again with its state beside it; send less around the request", what, size)}), true
	}
	properties := propertySize(t.delivery.ApplicationProperties)
	switch {
	case t.attempt.Hop > 0:
		return Verdict{}, false
	case properties > roomForProperties:
		return refused("properties", properties)
	case len(t.delivery.Body) < sizeWorthAsking:
		return Verdict{}, false
	}
	successor, err := w.successor(ctx, t, largest(t.attempt, t.request.Selects()))
	if err != nil {
		return giveBack(err), true
	}
	fits, err := w.queue.Fits(ctx, successor)
	switch {
	case err != nil:
		return giveBack(err), true
	case fits:
		return Verdict{}, false
	}
	return refused("body", len(t.delivery.Body))
}

// propertySize is roughly what properties take on the wire.
func propertySize(properties map[string]any) int {
	size := 0
	for name, value := range properties {
		size += len(name) + len(fmt.Sprint(value))
	}
	return size
}
