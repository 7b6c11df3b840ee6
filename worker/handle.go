package worker

import (
	"context"
	"fmt"
	"time"

	"hsmsweep/deletion"
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
	ctx, span := w.startSpan(ctx, t)
	defer span.End()

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

// exchange is what a step asked of ARM and what came back, for the log and the span.
type exchange struct {
	question string // DELETE, poll, read; empty: nothing was asked
	outcome  deletion.Outcome
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

// ask puts the question that the Attempt has come to. The counts it keeps are of questions that went out, whatever came back.
func (w *Worker) ask(ctx context.Context, t *task) (exchange, error) {
	id, a := t.request.Connection, &t.attempt
	switch {
	case t.request.Selects():
		out, err := w.arm.Search(ctx, w.searched(t.request), wanted(t.request))
		return exchange{"search", out}, err
	case a.Verifying != nil:
		out, err := w.arm.Read(ctx, id)
		return exchange{"read", out}, err
	case a.Operation != nil:
		out, err := w.arm.Poll(ctx, id, *a.Operation)
		a.Polls += min(out.Sent, 1) // reading back belongs to the poll
		return w.verified(ctx, id, exchange{"poll", out}, err)
	}
	if mustRead(*t, w.policy) {
		out, done, err := w.guard(ctx, *t)
		if done != nil {
			defer done()
		}
		if err != nil || !passes(*t, out, w.policy) {
			return exchange{"read", out}, err
		}
		a.Endpoint = out.Found.Endpoint
	}
	began := t.now().UTC()
	out, err := w.arm.Start(ctx, id)
	a.Deletes += out.Sent
	if out.Sent > 0 && a.StartedAt.IsZero() {
		a.StartedAt = began
	}
	return w.verified(ctx, id, exchange{"DELETE", out}, err)
}

// searched is where a selector's connections are looked for.
func (w *Worker) searched(r deletion.Request) []deletion.Scope {
	if r.Pool != nil {
		return []deletion.Scope{r.Pool.Scope()}
	}
	return w.policy.SearchScopes
}

// guard reads what the guards need to know just before the DELETE. Where the connection may be the last way into its pool, the pool is
// this step's until done is called: of two that each see the other's connection, both would go.
func (w *Worker) guard(ctx context.Context, t task) (out deletion.Outcome, done func(), err error) {
	out, err = w.arm.Read(ctx, t.request.Connection)
	if err != nil || out.Kind != deletion.Present || !protectable(t, out, w.policy) {
		return out, nil, err
	}
	done, free := w.turns.take(t.request.Connection.Pool)
	if !free {
		return deletion.Outcome{Kind: deletion.Conflict, Code: "PoolBusy", Message: "another connection of this pool is being looked at"}, nil, nil
	}
	pool, err := w.arm.ReadPool(ctx, t.request.Connection.Pool)
	if err != nil || pool.Kind != deletion.Present {
		return pool, done, err
	}
	out.Pool = pool.Pool
	return out, done, nil
}

// verified reads a connection back that is gone, ARM says, where the operator wants that. What this does not show, a later
// step asks again.
func (w *Worker) verified(ctx context.Context, id deletion.ConnectionID, did exchange, err error) (exchange, error) {
	gone := did.outcome.Kind == deletion.Deleted || did.outcome.Kind == deletion.Absent
	if err != nil || !w.policy.Verify || !gone || did.outcome.Verified {
		return did, err
	}
	read, err := w.arm.Read(ctx, id)
	did.outcome.Verified = err == nil && read.Kind == deletion.Absent
	return did, nil
}

// confirm looks before an end that was written down is told: a connection that is there is not said to be gone. It may have been
// created again since, or the state on the message may be forged; neither is for this program to delete, or to tell apart.
func (w *Worker) confirm(ctx context.Context, t task, v Verdict) (Verdict, exchange) {
	out, err := w.arm.Read(ctx, t.request.Connection)
	did := exchange{"read", out}
	switch {
	case err != nil:
		return giveBack(err), did
	case out.Kind == deletion.Present:
		return end(t.attempt, End{Outcome: EndFailed, At: t.now(), Code: CodeStillPresent, Message: fmt.Sprintf(
			"the connection was noted as %s at %s, before that could be told, and is there now: it was created again, or the note is forged; send a new request if it is to go",
			v.End.Outcome, v.End.At.UTC().Format(time.RFC3339))}), did
	}
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
