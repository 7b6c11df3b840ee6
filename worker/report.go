package worker

import (
	"context"
	"log/slog"
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
	fields := make([]slog.Attr, 0, 16)
	fields = append(fields, slog.String("requestId", t.attempt.RequestID), slog.String("target", target(t.request)), slog.Int("hop", t.attempt.Hop),
		slog.String("reason", string(v.Reason)), slog.String("took", took.Round(time.Microsecond).String()))
	if ticket := t.request.Ticket; ticket != nil && ticket.ID != "" {
		fields = append(fields, slog.String("ticketId", cut(ticket.ID, 128)))
	}
	if did.question != "" {
		fields = append(fields, slog.String("asked", did.question), slog.String("answer", string(did.outcome.Kind)), slog.Int("httpStatus", did.outcome.HTTPStatus))
		span.SetAttributes(attribute.String("hsmsweep.asked", did.question), attribute.String("hsmsweep.outcome", string(did.outcome.Kind)))
	}
	if did.outcome.Code != "" {
		fields = append(fields, slog.String("code", did.outcome.Code))
	}
	if n := len(v.Children); n > 0 {
		fields = append(fields, slog.Int("children", n))
		span.SetAttributes(attribute.Int("hsmsweep.children", n))
	}
	switch {
	case v.Cause != nil:
		span.SetStatus(codes.Error, v.Cause.Error())
		w.log.LogAttrs(ctx, slog.LevelWarn, "not finished; the step is repeated when the message comes back", append(fields, slog.Any("error", v.Cause))...)
	case v.End == nil:
		span.SetAttributes(waitOf(t, v)...)
		w.log.LogAttrs(ctx, slog.LevelInfo, "parked", append(fields, slog.Time("until", v.Until))...)
	case v.End.failed():
		span.SetStatus(codes.Error, v.End.Code)
		w.log.LogAttrs(ctx, slog.LevelWarn, "failed; the message is dead-lettered",
			append(fields, slog.String("eventId", t.attempt.eventID()), slog.String("error", v.End.Code+": "+v.End.Message))...)
	default:
		w.log.LogAttrs(ctx, slog.LevelInfo, "ended", append(fields, slog.String("eventId", t.attempt.eventID()))...)
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
