package worker

import (
	"context"
	"fmt"
	"time"

	"hsmsweep/deletion"
)

// exchange is what a step asked of ARM and what came back, for the log and the span.
type exchange struct {
	question string // DELETE, poll, read; empty: nothing was asked
	outcome  deletion.Outcome
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
	done, free := w.exclusive.take(t.request.Connection.Pool)
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
