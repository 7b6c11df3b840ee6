package worker

import (
	"context"
	"runtime/debug"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// propagator carries the W3C trace context, by which one trace goes from submit to event over every hop and replica.
var propagator = propagation.TraceContext{}

// diagnosticID is where Azure's other SDKs keep what traceparent says.
const diagnosticID = "Diagnostic-Id"

// traceOf finds a message's trace context: the first of the two that can be read.
func traceOf(properties map[string]any) map[string]string {
	text := func(name string) string { s, _ := properties[name].(string); return s }
	for _, found := range []propagation.MapCarrier{
		{"traceparent": text("traceparent"), "tracestate": text("tracestate")},
		{"traceparent": text(diagnosticID)},
	} {
		if trace.SpanContextFromContext(propagator.Extract(context.Background(), found)).IsValid() {
			return found
		}
	}
	return nil
}

// startSpan begins the span of one hop: in the trace that the message came with, linked to the hop before. No span stays
// open while a request waits.
func (w *Worker) startSpan(ctx context.Context, t task) (context.Context, trace.Span) {
	ctx = propagator.Extract(ctx, propagation.MapCarrier(t.trace))
	options := []trace.SpanStartOption{
		trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithAttributes(
			attribute.String("messaging.system", "servicebus"),
			attribute.String("messaging.operation.name", "process"),
			attribute.String("messaging.operation.type", "process"),
			attribute.String("messaging.destination.name", w.queueName),
			attribute.String("messaging.message.id", t.delivery.MessageID),
			attribute.Int("messaging.servicebus.message.delivery_count", t.deliveries),
			attribute.String("hsmsweep.request.id", t.attempt.RequestID),
			attribute.Int("hsmsweep.hop", t.attempt.Hop),
		),
	}
	if remote := trace.SpanContextFromContext(ctx); remote.IsValid() {
		options = append(options, trace.WithLinks(trace.Link{SpanContext: remote}))
	}
	return w.tracer.Start(ctx, "process "+w.queueName, options...)
}

// InjectTrace writes the context's trace into a message's properties: for the next hop, for whoever reads events, and for
// the other SDKs.
func InjectTrace(ctx context.Context, properties map[string]any) {
	carrier := propagation.MapCarrier{}
	propagator.Inject(ctx, carrier)
	for name, value := range carrier {
		properties[name] = value
	}
	if carrier["traceparent"] != "" {
		properties[diagnosticID] = carrier["traceparent"]
	}
}

// report writes the one log line of a step and finishes its span's attributes.
func (w *Worker) report(ctx context.Context, t task, v Verdict, did exchange, took time.Duration) {
	span := trace.SpanFromContext(ctx)
	span.SetAttributes(attribute.String("hsmsweep.reason", string(v.Reason)))
	fields := []any{
		"requestId", t.attempt.RequestID, "target", target(t.request), "hop", t.attempt.Hop, "reason", string(v.Reason), "took", took.Round(time.Microsecond).String(),
	}
	if did.question != "" {
		fields = append(fields, "asked", did.question, "answer", string(did.outcome.Kind), "httpStatus", did.outcome.HTTPStatus)
		span.SetAttributes(attribute.String("hsmsweep.outcome", string(did.outcome.Kind)))
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
		w.log.InfoContext(ctx, "parked", append(fields, "until", v.Until)...)
	case v.End.failed():
		span.SetStatus(codes.Error, v.End.Code)
		w.log.WarnContext(ctx, "failed; the message is dead-lettered", append(fields, "eventId", t.attempt.eventID(), "error", v.End.Code+": "+v.End.Message)...)
	default:
		w.log.InfoContext(ctx, "ended", append(fields, "eventId", t.attempt.eventID())...)
	}
}

func stack() string { return string(debug.Stack()) }
