package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"hsmsweep/worker"
)

// A submission is what submit tells of a message that it sent.
type submission struct {
	RequestID string `json:"requestId"`
	MessageID string `json:"messageId"`
	TraceID   string `json:"traceId"`
}

// An outgoing message has a span that ends when Service Bus has taken it.
type outgoing struct {
	submission
	message *azservicebus.Message
	span    trace.Span
}

// begin makes a message of a request and begins its trace.
func begin(ctx context.Context, queue string, tracer trace.TracerProvider, messageID string, body []byte) outgoing {
	ctx, span := tracer.Tracer("hsmsweep/submit").Start(ctx, "send "+queue, trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(
		attribute.String("messaging.system", "servicebus"),
		attribute.String("messaging.operation.name", "send"),
		attribute.String("messaging.operation.type", "send"),
		attribute.String("messaging.destination.name", queue),
		attribute.String("messaging.message.id", messageID),
	))
	properties := map[string]any{}
	worker.InjectTrace(ctx, properties)
	return outgoing{
		submission: submission{RequestID: worker.RequestIDOf(body, messageID), MessageID: messageID, TraceID: span.SpanContext().TraceID().String()},
		message:    &azservicebus.Message{MessageID: &messageID, Body: body, ContentType: new("application/json"), ApplicationProperties: properties},
		span:       span,
	}
}

func (o outgoing) end(err error) {
	if err != nil {
		o.span.RecordError(err)
	}
	o.span.End()
}

// send puts one request on the queue and begins its trace.
func send(ctx context.Context, sender *azservicebus.Sender, queue string, tracer trace.TracerProvider, messageID string, body []byte) (submission, error) {
	o := begin(ctx, queue, tracer, messageID, body)
	err := sender.SendMessage(ctx, o.message, nil)
	o.end(err)
	return o.submission, err
}

// A batch is messages that the broker takes all or none of.
type batch struct {
	*azservicebus.MessageBatch
	messages []outgoing
}

func (b *batch) end(err error) {
	for _, o := range b.messages {
		o.end(err)
	}
}

// largestBatch is how many messages are told of at a time; what the namespace allows in bytes may be fewer.
const largestBatch = 500

// pack puts all requests into batches before the first is sent, so that one too large for the namespace is found in time.
func pack(ctx context.Context, sender *azservicebus.Sender, queue string, tracer trace.TracerProvider, drafts []draft) ([]*batch, error) {
	var batches []*batch
	for _, d := range drafts {
		o := begin(ctx, queue, tracer, d.messageID, d.body)
		err := azservicebus.ErrMessageTooLarge // for a batch that is full or not there
		if n := len(batches); n > 0 && len(batches[n-1].messages) < largestBatch {
			err = batches[n-1].add(o)
		}
		if errors.Is(err, azservicebus.ErrMessageTooLarge) {
			empty, failed := sender.NewMessageBatch(ctx, nil)
			if failed != nil {
				return nil, failed
			}
			b := &batch{MessageBatch: empty}
			batches = append(batches, b)
			err = b.add(o)
		}
		if err != nil {
			return nil, faultAt(d.place, err)
		}
	}
	return batches, nil
}

func (b *batch) add(o outgoing) error {
	if err := b.AddMessage(o.message, nil); err != nil {
		return err
	}
	b.messages = append(b.messages, o)
	return nil
}

// sendAll sends batch after batch, tells of each once it was taken, and returns how many requests were sent.
func sendAll(ctx context.Context, sender *azservicebus.Sender, batches []*batch, told *teller) (int, error) {
	defer told.close()
	sent := 0
	for i, b := range batches {
		if err := sender.SendMessageBatch(ctx, b.MessageBatch, nil); err != nil {
			for _, unsent := range batches[i:] {
				unsent.end(err)
			}
			return sent, err
		}
		b.end(nil)
		sent += len(b.messages)
		if err := told.sent(b.messages); err != nil {
			return sent, fmt.Errorf("telling of it: %w", err)
		}
	}
	return sent, nil
}
