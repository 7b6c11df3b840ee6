package worker

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"hsmsweep/queue"
)

// A broker is the queue whose settlements have spans and are measured. What is sent has its span where it is written, since it
// carries that along: see sending.
type broker struct {
	*queue.Queue
	name    string
	tracer  trace.Tracer
	metrics *metrics
}

// Complete is the queue's.
func (b broker) Complete(ctx context.Context, d *queue.Delivery) error {
	ctx, done := b.settling(ctx, "complete", d)
	return done(b.Queue.Complete(ctx, d))
}

// GiveBack is the queue's.
func (b broker) GiveBack(ctx context.Context, d *queue.Delivery) error {
	ctx, done := b.settling(ctx, "abandon", d)
	return done(b.Queue.GiveBack(ctx, d))
}

// DeadLetter is the queue's.
func (b broker) DeadLetter(ctx context.Context, d *queue.Delivery, reason, description string, properties map[string]any) error {
	ctx, done := b.settling(ctx, "dead_letter", d)
	return done(b.Queue.DeadLetter(ctx, d, reason, description, properties))
}

// settling begins the span of a settlement, in the message's trace.
func (b broker) settling(ctx context.Context, disposition string, d *queue.Delivery) (context.Context, func(error) error) {
	return b.begin(inTrace(ctx, traceOf(d.ApplicationProperties)), operation{name: disposition, kind: "settle", destination: b.name, effect: disposition},
		trace.SpanKindClient,
		attribute.String("messaging.servicebus.disposition_status", disposition),
		attribute.String("messaging.message.id", d.MessageID))
}

// schedules begins the span of a successor's sending; what is sent is to carry the context that is returned.
func (b broker) schedules(ctx context.Context, messageID string) (context.Context, func(error) error) {
	return b.begin(ctx, operation{name: "schedule", kind: "send", destination: b.name, effect: "schedule", messages: 1}, trace.SpanKindProducer,
		attribute.String("messaging.message.id", messageID))
}

// sends begins the span of n first messages' sending, each of which is to carry the context.
func (b broker) sends(ctx context.Context, n int) (context.Context, func(error) error) {
	return b.begin(ctx, operation{name: "send", kind: "send", destination: b.name, effect: "schedule", messages: n}, trace.SpanKindProducer,
		attribute.Int("messaging.batch.message_count", n))
}

// publishes begins the span of an event's sending; the event is to carry the context.
func (b broker) publishes(ctx context.Context, eventID, requestID string) (context.Context, func(error) error) {
	return b.begin(ctx, operation{name: "send", kind: "send", destination: b.EventsName(), effect: "publish", messages: 1}, trace.SpanKindProducer,
		attribute.String("messaging.message.id", eventID),
		attribute.String("messaging.message.conversation_id", requestID))
}

// An operation is one call of Service Bus, in the words of OpenTelemetry's conventions; effect is ours.
type operation struct {
	name, kind, destination, effect string
	messages                        int // that are sent
}

// begin begins an operation's span. It ends, and is measured, with the operation's error, which is handed through.
func (b broker) begin(ctx context.Context, o operation, kind trace.SpanKind, attributes ...attribute.KeyValue) (context.Context, func(error) error) {
	ctx, span := b.tracer.Start(ctx, o.name+" "+o.destination, trace.WithSpanKind(kind), trace.WithAttributes(append(attributes,
		attribute.String("messaging.system", messagingSystem),
		attribute.String("messaging.operation.name", o.name),
		attribute.String("messaging.operation.type", o.kind),
		attribute.String("messaging.destination.name", o.destination))...))
	began := time.Now()
	return ctx, func(err error) error {
		defer span.End()
		if err != nil {
			span.SetAttributes(attribute.String("error.type", failureLabel(err)))
			span.SetStatus(codes.Error, err.Error())
		}
		b.metrics.operated(ctx, o, err, time.Since(began))
		return err
	}
}

// inTrace goes on with a trace, unless the context is in one.
func inTrace(ctx context.Context, carried map[string]string) context.Context {
	if trace.SpanContextFromContext(ctx).IsValid() {
		return ctx
	}
	return propagator.Extract(ctx, propagation.MapCarrier(carried))
}
