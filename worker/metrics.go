package worker

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"hsmsweep/queue"
)

// metrics are the worker's instruments. No label holds free text: see labels.go. What is a state, rather than something that
// happens, is looked up when somebody collects: see gauges.go.
type metrics struct {
	ended     metric.Int64Counter
	duration  metric.Float64Histogram
	hops      metric.Int64Histogram
	polls     metric.Int64Histogram
	parked    metric.Int64Counter
	delay     metric.Float64Histogram
	again     metric.Int64Counter
	answers   metric.Int64Counter
	locksLost metric.Int64Counter
	failed    metric.Int64Counter
	deaf      metric.Int64Counter
	reclaimed metric.Int64Counter
	drain     metric.Float64Histogram

	// By OpenTelemetry's conventions for messaging.
	processed metric.Float64Histogram
	consumed  metric.Int64Counter
	sent      metric.Int64Counter
	operation metric.Float64Histogram
}

// newMetrics makes the instruments. Without a provider nothing is measured.
func newMetrics(provider metric.MeterProvider) (metrics, metric.Meter) {
	if provider == nil {
		provider = noop.NewMeterProvider()
	}
	m := provider.Meter("hsmsweep/worker")
	counter := func(name, unit, meaning string) metric.Int64Counter {
		return made(m.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(meaning)))
	}
	seconds := func(name, meaning string, buckets ...float64) metric.Float64Histogram {
		return made(m.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(meaning), metric.WithExplicitBucketBoundaries(buckets...)))
	}
	count := func(name, unit, meaning string, buckets ...float64) metric.Int64Histogram {
		return made(m.Int64Histogram(name, metric.WithUnit(unit), metric.WithDescription(meaning), metric.WithExplicitBucketBoundaries(buckets...)))
	}
	short := []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}
	return metrics{
		ended: counter("hsmsweep.requests.ended", "{request}", "Requests that ended and whose message is settled. A failed one is a dead letter."),
		duration: seconds("hsmsweep.request.duration", "From a request's entry into the queue to its end.",
			1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400),
		hops:      count("hsmsweep.request.hops", "{hop}", "Messages that a request took, the first included.", 1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000),
		polls:     count("hsmsweep.request.polls", "{poll}", "Polls of ARM's operation that a request took.", 0, 1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000),
		parked:    counter("hsmsweep.requests.parked", "{request}", "Requests that were parked, by why."),
		delay:     seconds("hsmsweep.pickup.delay", "From when a message was due to when it was picked up.", .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 21600),
		again:     counter("hsmsweep.redelivered", "{message}", "Deliveries of messages that had been delivered before."),
		answers:   counter("hsmsweep.arm.answers", "{answer}", "What ARM's answers meant, one a step."),
		locksLost: counter("hsmsweep.locks.lost", "{lock}", "Steps that found their message's lock lost; they are repeated."),
		failed:    counter("hsmsweep.effects.failed", "{effect}", "Sends and settlements that failed; the step is repeated."),
		deaf:      counter("hsmsweep.receiver.reconnects", "{connection}", "Connections made anew because the receiver was deaf."),
		reclaimed: counter("hsmsweep.reclaimed", "{request}", "Requests taken back from the dead-letter queue that the broker gave up by itself."),
		drain:     seconds("hsmsweep.drain.duration", "From the signal to the end of the last step.", .1, .25, .5, 1, 2.5, 5, 10, 25, 60, 300),
		processed: seconds("messaging.process.duration", "Duration of one step, from understanding to settling.", short...),
		consumed:  counter("messaging.client.consumed.messages", "{message}", "Messages received."),
		sent:      counter("messaging.client.sent.messages", "{message}", "Messages sent: successors, first messages of a selector's requests, events."),
		operation: seconds("messaging.client.operation.duration", "Duration of one send, or one settlement.", short...),
	}, m
}

// made is an instrument. Names are right for good, a test sees to that; a wrong one would make an instrument that does nothing.
func made[I any](instrument I, _ error) I { return instrument }

// labels are attributes of a measurement: names and values in turn. An empty value is left out.
func labels(pairs ...string) metric.MeasurementOption {
	var set labelSet
	if copy(set[:], pairs) < len(pairs) {
		panic("a labelSet holds fewer labels") // of this file; no test would pass
	}
	return madeLabels.of(set)
}

// A labelSet is names and values in turn; the rest is empty.
type labelSet [10]string

// A labelMemo has every set of labels that was used, because making one costs more than measuring does. There are few: no label
// holds free text.
type labelMemo struct {
	mu   sync.RWMutex
	made map[labelSet]metric.MeasurementOption
}

var madeLabels = labelMemo{made: map[labelSet]metric.MeasurementOption{}}

func (l *labelMemo) of(set labelSet) metric.MeasurementOption {
	l.mu.RLock()
	option, ok := l.made[set]
	l.mu.RUnlock()
	if ok {
		return option
	}
	var attributes []attribute.KeyValue
	for i := 0; i < len(set); i += 2 {
		if set[i+1] != "" {
			attributes = append(attributes, attribute.String(set[i], set[i+1]))
		}
	}
	option = metric.WithAttributeSet(attribute.NewSet(attributes...))
	l.mu.Lock()
	l.made[set] = option
	l.mu.Unlock()
	return option
}

// pickedUp measures a delivery that a step begins with.
func (m *metrics) pickedUp(ctx context.Context, t task, queueName string) {
	m.consumed.Add(ctx, 1, labels("messaging.system", messagingSystem, "messaging.operation.name", "receive", "messaging.destination.name", queueName))
	message := "new"
	if t.attempt.Hop > 0 {
		message = "parked"
	}
	m.delay.Record(ctx, max(0, t.now().Sub(dueAt(t)).Seconds()), labels("message", message))
	if t.deliveries > 1 {
		cause := "givenBack"
		if t.failures > 0 {
			cause = "unsettled"
		}
		m.again.Add(ctx, 1, labels("cause", cause))
	}
}

// dueAt is when a message could be received: its scheduled time, or when it entered the queue.
func dueAt(t task) time.Time {
	entered := enqueued(t.delivery, t.now())
	if at := t.delivery.ScheduledEnqueueTime; at != nil && !at.IsZero() {
		return earlier(entered, *at)
	}
	return entered
}

// stepped measures a step that is over.
func (m *metrics) stepped(ctx context.Context, t task, v Verdict, did exchange, took time.Duration, queueName string) {
	m.processed.Record(ctx, took.Seconds(), labels("messaging.system", messagingSystem, "messaging.operation.name", "process",
		"messaging.destination.name", queueName, "error.type", stepFailure(v)))
	if did.question != "" && did.outcome.Kind != "" {
		m.answers.Add(ctx, 1, labels("asked", did.question, "answer", string(did.outcome.Kind)))
	}
	switch {
	case errors.Is(v.Cause, queue.ErrLockLost):
		m.locksLost.Add(ctx, 1)
	case v.Cause != nil: // the effect that failed was counted
	case v.End != nil:
		m.reached(ctx, t, v)
	default:
		m.parked.Add(ctx, 1, labels("why", whyLabel(v.Reason)))
	}
}

func (m *metrics) reached(ctx context.Context, t task, v Verdict) {
	kind := v.End.Outcome.Kind()
	m.ended.Add(ctx, 1, labels("end", kind, "outcome", string(v.End.Outcome), "code", codeLabel(v.End.Code)))
	m.duration.Record(ctx, max(0, t.now().Sub(v.Next.RequestedAt).Seconds()), labels("end", kind))
	m.hops.Record(ctx, int64(v.Next.Hop)+1, labels("end", kind))
	m.polls.Record(ctx, int64(v.Next.Polls), labels("end", kind))
}

// operated measures a send or a settlement. A lost lock is the step's own count.
func (m *metrics) operated(ctx context.Context, o operation, err error, took time.Duration) {
	failure := ""
	if err != nil {
		failure = failureLabel(err)
	}
	m.operation.Record(ctx, took.Seconds(), labels("messaging.system", messagingSystem, "messaging.operation.name", o.name,
		"messaging.operation.type", o.kind, "messaging.destination.name", o.destination, "error.type", failure))
	if o.messages > 0 {
		m.sent.Add(ctx, int64(o.messages), labels("messaging.system", messagingSystem, "messaging.operation.name", o.name,
			"messaging.destination.name", o.destination, "error.type", failure))
	}
	if err != nil && !errors.Is(err, queue.ErrLockLost) {
		m.failed.Add(ctx, 1, labels("effect", o.effect))
	}
}
