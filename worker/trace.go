package worker

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// propagator carries the W3C trace context, by which one trace goes from submit to event over every hop and replica.
var propagator = propagation.TraceContext{}

// messagingSystem is Service Bus's name in OpenTelemetry's conventions.
const messagingSystem = "servicebus"

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

// beginHop begins the span and the measurements of one hop, to be ended when it is over.
func (w *Worker) beginHop(ctx context.Context, t task) (context.Context, func()) {
	ctx, span := w.startSpan(ctx, t)
	w.metrics.pickedUp(ctx, t, w.queueName)
	w.inHand.Add(1)
	return ctx, func() {
		w.inHand.Add(-1)
		span.End()
	}
}

// startSpan begins the span of one hop: in the trace that the message came with, linked to the hop before. No span stays
// open while a request waits.
func (w *Worker) startSpan(ctx context.Context, t task) (context.Context, trace.Span) {
	ctx = propagator.Extract(ctx, propagation.MapCarrier(t.trace))
	options := []trace.SpanStartOption{
		trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithAttributes(
			attribute.String("messaging.system", messagingSystem),
			attribute.String("messaging.operation.name", "process"),
			attribute.String("messaging.operation.type", "process"),
			attribute.String("messaging.destination.name", w.queueName),
			attribute.String("messaging.message.id", t.delivery.MessageID),
			attribute.Int("messaging.servicebus.message.delivery_count", t.deliveries),
			attribute.Int64("messaging.servicebus.message.enqueued_time", enqueued(t.delivery, t.now()).Unix()),
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
