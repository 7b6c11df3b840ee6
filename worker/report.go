package worker

import (
	"context"
	"runtime/debug"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// report tells of a step that is over: in one log line, in the attributes of its span, and in what is measured.
func (w *Worker) report(ctx context.Context, t task, v Verdict, did exchange, took time.Duration) {
	w.metrics.stepped(ctx, t, v, did, took, w.queueName)
	w.limits.told(did, time.Now())
	span := trace.SpanFromContext(ctx)
	span.SetAttributes(attribute.String("hsmsweep.reason", string(v.Reason)))
	fields := []any{
		"requestId", t.attempt.RequestID, "target", target(t.request), "hop", t.attempt.Hop, "reason", string(v.Reason), "took", took.Round(time.Microsecond).String(),
	}
	if ticket := t.request.Ticket; ticket != nil && ticket.ID != "" {
		fields = append(fields, "ticketId", cut(ticket.ID, 128))
	}
	if did.question != "" {
		fields = append(fields, "asked", did.question, "answer", string(did.outcome.Kind), "httpStatus", did.outcome.HTTPStatus)
		span.SetAttributes(attribute.String("hsmsweep.asked", did.question), attribute.String("hsmsweep.outcome", string(did.outcome.Kind)))
	}
	if did.outcome.Code != "" {
		fields = append(fields, "code", did.outcome.Code)
	}
	if n := len(v.Children); n > 0 {
		fields = append(fields, "children", n)
		span.SetAttributes(attribute.Int("hsmsweep.children", n))
	}
	switch {
	case v.Cause != nil:
		span.SetStatus(codes.Error, v.Cause.Error())
		w.log.WarnContext(ctx, "not finished; the step is repeated when the message comes back", append(fields, "error", v.Cause)...)
	case v.End == nil:
		span.SetAttributes(waitOf(t, v)...)
		w.log.InfoContext(ctx, "parked", append(fields, "until", v.Until)...)
	case v.End.failed():
		span.SetStatus(codes.Error, v.End.Code)
		w.log.WarnContext(ctx, "failed; the message is dead-lettered", append(fields, "eventId", t.attempt.eventID(), "error", v.End.Code+": "+v.End.Message)...)
	default:
		w.log.InfoContext(ctx, "ended", append(fields, "eventId", t.attempt.eventID())...)
	}
}

// waitOf is what the span of a hop tells of the wait that follows. No span is open while a request waits.
func waitOf(t task, v Verdict) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("hsmsweep.wait.reason", whyLabel(v.Reason)),
		attribute.Float64("hsmsweep.wait.seconds", max(0, v.Until.Sub(t.now())).Round(time.Millisecond).Seconds()),
		attribute.String("hsmsweep.wait.due", v.Until.UTC().Format(time.RFC3339Nano)),
	}
}

func stack() string { return string(debug.Stack()) }
