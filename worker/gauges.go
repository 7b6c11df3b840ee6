package worker

import (
	"context"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// observe registers what is a state of the worker, and is looked up whenever somebody collects metrics.
func (w *Worker) observe(m metric.Meter) {
	number := func(name, unit, meaning string) metric.Int64ObservableGauge {
		return made(m.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(meaning)))
	}
	seconds := func(name, meaning string) metric.Float64ObservableGauge {
		return made(m.Float64ObservableGauge(name, metric.WithUnit("s"), metric.WithDescription(meaning)))
	}
	inHand := number("hsmsweep.steps.in_hand", "{step}", "Messages being handled.")
	remaining := number("hsmsweep.arm.remaining", "{request}", "Fewest requests that ARM said it would still take from a subscription, of the last one to two minutes.")
	closed := number("hsmsweep.gates.closed", "{gate}", "Subscriptions that are throttled, and pools that are busy: not asked at present.")
	ahead := seconds("hsmsweep.turns.ahead", "How far ahead turns at ARM are promised, in the subscription where that is farthest.")
	silent := seconds("hsmsweep.receiver.silence", "Since when the receiver has been waiting for a message.")
	deaf := number("hsmsweep.receiver.deaf", "", "1: nothing comes, although the queue has a message for whoever receives, or does not answer.")
	stalled := number("hsmsweep.queue.stalled", "", "1: the request queue takes no successors, so that hardly anything is received.")
	ready := number("hsmsweep.ready", "", "1: ready, as /readyz tells.")
	_, _ = m.RegisterCallback(func(_ context.Context, o metric.Observer) error { // made for good, like the instruments
		now := time.Now()
		o.ObserveInt64(inHand, w.inHand.Load())
		for kind, left := range w.limits.lowest(now) {
			o.ObserveInt64(remaining, int64(left), metric.WithAttributes(attribute.String("kind", kind)))
		}
		o.ObserveInt64(closed, int64(w.subscriptions.shut(now)), metric.WithAttributes(attribute.String("gate", "subscription")))
		o.ObserveInt64(closed, int64(w.pools.shut(now)), metric.WithAttributes(attribute.String("gate", "pool")))
		for _, kind := range []string{deletes, reads} {
			o.ObserveFloat64(ahead, w.pace.ahead(kind, now).Seconds(), metric.WithAttributes(attribute.String("kind", kind)))
		}
		o.ObserveFloat64(silent, w.silence.lasted(now).Seconds())
		o.ObserveInt64(deaf, oneIf(w.health.isDeaf()))
		o.ObserveInt64(stalled, oneIf(w.stall.why() != nil))
		o.ObserveInt64(ready, oneIf(w.Ready() == nil))
		return nil
	}, inHand, remaining, closed, ahead, silent, deaf, stalled, ready)
}

func oneIf(yes bool) int64 {
	if yes {
		return 1
	}
	return 0
}

// limits remember how many more requests ARM said it would take: the fewest of this minute and of the one before, by kind.
type limits struct {
	mu          sync.Mutex
	minute      time.Time
	now, before map[string]int
}

// told notes what an answer said.
func (l *limits) told(did exchange, now time.Time) {
	left := did.outcome.Left
	if left == nil {
		return
	}
	kind := reads
	if did.question == "DELETE" {
		kind = deletes
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turn(now)
	if least, ok := l.now[kind]; !ok || *left < least {
		l.now[kind] = *left
	}
}

// lowest is what was told; a kind of which nothing was is left out.
func (l *limits) lowest(now time.Time) map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turn(now)
	lowest := make(map[string]int)
	for _, told := range []map[string]int{l.before, l.now} {
		for kind, left := range told {
			if least, ok := lowest[kind]; !ok || left < least {
				lowest[kind] = left
			}
		}
	}
	return lowest
}

func (l *limits) turn(now time.Time) {
	minute := now.Truncate(time.Minute)
	if l.now != nil && minute.Equal(l.minute) {
		return
	}
	l.before = l.now
	if minute.Sub(l.minute) > time.Minute {
		l.before = nil
	}
	l.minute, l.now = minute, make(map[string]int)
}
