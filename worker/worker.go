package worker

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"hsmsweep/deletion"
	"hsmsweep/queue"
)

// Options configure a Worker.
type Options struct {
	Queue       *queue.Queue
	QueueName   string // for spans and for events that have no other source
	ARM         *deletion.Client
	Policy      Policy        // Backoff and Spread may be nil: the ones below
	Concurrency int           // messages in hand at a time
	Grace       time.Duration // for steps in hand when the drain begins
	Log         *slog.Logger
	Tracer      trace.TracerProvider
	Meter       metric.MeterProvider // nil: nothing is measured
}

// A Worker takes requests from the queue, step by step.
type Worker struct {
	queue         broker
	queueName     string
	arm           *deletion.Client
	policy        Policy
	concurrency   int
	grace         time.Duration
	log           *slog.Logger
	tracer        trace.Tracer
	metrics       metrics
	inHand        atomic.Int64 // steps
	limits        limits
	subscriptions gate // that are throttled
	pools         gate // that are busy with a change
	conflicts     conflicts
	pace          pace
	exclusive     exclusive
	stall         stall
	silence       silence
	lost          int // how often in a row the receiving link was lost; Run's own
	health        health
	pulse         pulse
}

// New makes a worker; Run starts it.
func New(o Options) *Worker {
	if o.Policy.Backoff == nil {
		o.Policy.Backoff = Backoff
	}
	if o.Policy.Spread == nil {
		o.Policy.Spread = Spread
	}
	w := &Worker{queueName: o.QueueName, arm: o.ARM, policy: o.Policy, concurrency: o.Concurrency,
		grace: o.Grace, log: o.Log, tracer: o.Tracer.Tracer("hsmsweep/worker")}
	var meter metric.Meter
	w.metrics, meter = newMetrics(o.Meter)
	w.queue = broker{o.Queue, o.QueueName, w.tracer, &w.metrics}
	w.observe(meter)
	return w
}

// ErrDrained is the cause of steps that were cut off because the grace period of a drain was over.
var ErrDrained = errors.New("the drain's grace period is over")

var errDraining = errors.New("draining")

// Run works until ctx ends, then drains: nothing more is received, steps in hand are finished within the grace period and
// given back after it. It returns when everything it started has.
func (w *Worker) Run(ctx context.Context) {
	work, cut := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cut(nil)
	var draining sync.WaitGroup
	defer draining.Wait()
	ended := make(chan struct{})
	defer close(ended)
	draining.Go(func() {
		<-ctx.Done() // Run does not end before
		w.log.InfoContext(ctx, "draining: no more requests are received", "grace", w.grace.String())
		select {
		case <-time.After(w.grace):
			cut(ErrDrained)
		case <-ended:
		}
	})

	// Receiving goes on for a moment: what the broker has sent already would stay locked if the link ended under it.
	receiving, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(onTheWay, end) })()

	w.until(ctx, "connecting to Service Bus", func() error { return w.queue.Connect(ctx) })
	var steps sync.WaitGroup
	steps.Go(func() { w.keepHouse(ctx) })
	slots := make(chan struct{}, w.concurrency)
	hands := make(chan *queue.Delivery)
	for range w.concurrency { // that stay, and keep the stack that a step grows
		steps.Go(func() {
			for d := range hands {
				w.handle(work, d)
				<-slots
			}
		})
	}
	var late []*queue.Delivery // came after the signal, and are not begun
	for free := w.freeSlots(ctx, slots); free > 0; free = w.freeSlots(ctx, slots) {
		wanted := w.stall.admits(ctx, free)
		var deliveries []*queue.Delivery
		w.until(ctx, "receiving", func() (err error) {
			deliveries, err = w.receive(receiving, wanted)
			return err
		})
		if ctx.Err() != nil {
			late = append(deliveries, w.receiveRest(receiving, wanted-len(deliveries))...)
			break
		}
		for range free - len(deliveries) {
			<-slots
		}
		for _, d := range deliveries {
			hands <- d // at once: a slot is free for it
		}
	}
	close(hands)
	began := time.Now()
	w.health.connection(errDraining)
	w.pulse.draining()
	w.giveUpReceiving(work, late)
	steps.Wait()
	w.metrics.drain.Record(work, time.Since(began).Seconds())
}

var errLinkLost = errors.New("the receiving link was lost as soon as it was open")

// receive asks for n messages. A link that is lost is opened anew at once, unless it did not last.
func (w *Worker) receive(ctx context.Context, n int) ([]*queue.Delivery, error) {
	began := time.Now()
	w.silence.listening(began)
	w.pulse.listening()
	deliveries, err := w.queue.Receive(ctx, n)
	w.pulse.moved()
	switch {
	case len(deliveries) > 0:
		w.silence.broken()
		w.health.hears()
		w.lost = 0
	case err == nil:
		if w.lost++; w.lost > 1 && time.Since(began) < time.Second {
			err = errLinkLost
		}
	}
	return deliveries, err
}

// giveUpReceiving ends the link and gives back what came too late to be begun, so that another replica has it now.
func (w *Worker) giveUpReceiving(ctx context.Context, late []*queue.Delivery) {
	stopping, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	if err := w.queue.StopReceiving(stopping); err != nil {
		w.log.DebugContext(ctx, "the receiving link did not end properly", "error", err)
	}
	for _, d := range late {
		if err := w.queue.GiveBack(ctx, d); err != nil {
			w.log.WarnContext(ctx, "a message that came while draining could not be given back; it is free when its lock has run out", "messageId", d.MessageID, "error", err)
		}
	}
}

// receiveRest takes what the broker still sends for the credit that it has: at most n messages, within the moment that is left.
func (w *Worker) receiveRest(ctx context.Context, n int) []*queue.Delivery {
	var rest []*queue.Delivery
	for len(rest) < n && ctx.Err() == nil {
		deliveries, err := w.queue.Receive(ctx, n-len(rest))
		if err != nil {
			break // the moment is over, or the link is
		}
		rest = append(rest, deliveries...)
	}
	return rest
}

// onTheWay is longer than messages are under way from a broker.
const onTheWay = 250 * time.Millisecond

// stopTimeout bounds the end of the receiving link, whose peer may have fallen silent.
const stopTimeout = 3 * time.Second

// freeSlots takes every free slot and waits for the first. 0 means that ctx has ended.
func (w *Worker) freeSlots(ctx context.Context, slots chan struct{}) int {
	if ctx.Err() != nil {
		return 0
	}
	select {
	case slots <- struct{}{}:
	case <-ctx.Done():
		return 0
	}
	for n := 1; ; n++ {
		select {
		case slots <- struct{}{}:
		default:
			return n
		}
	}
}

// until repeats what must succeed before anything else makes sense, with growing pauses, while ctx lasts.
func (w *Worker) until(ctx context.Context, what string, do func() error) {
	pauses := backoff.WithContext(backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(time.Second), backoff.WithMaxInterval(30*time.Second), backoff.WithMaxElapsedTime(0)), ctx)
	// The error is ctx's, and the caller looks at that itself.
	_ = backoff.RetryNotify(func() error {
		w.pulse.moved()
		err := do()
		if ctx.Err() == nil {
			w.health.connection(err)
		}
		return err
	}, pauses, func(err error, pause time.Duration) {
		if ctx.Err() == nil {
			w.log.ErrorContext(ctx, what+" failed; trying again", "in", pause.Round(time.Millisecond).String(), "error", err)
		}
	})
}

// Backoff is the delay after so many steps without progress: exponential from one second to five minutes, with full jitter
// (anything between nothing and twice the interval), so that requests that were refused together do not come back together.
func Backoff(setbacks int) time.Duration {
	b := backoff.NewExponentialBackOff(backoff.WithInitialInterval(time.Second), backoff.WithMultiplier(2),
		backoff.WithMaxInterval(5*time.Minute), backoff.WithRandomizationFactor(1), backoff.WithMaxElapsedTime(0))
	var d time.Duration
	for range min(setbacks, 12) { // the interval has reached its end by then
		d = b.NextBackOff()
	}
	return max(d, shortestWait)
}

// shortestWait keeps a lucky draw of the jitter from becoming no wait at all.
const shortestWait = 500 * time.Millisecond

// Spread adds up to a tenth, five seconds at most. ARM's time itself is kept.
func Spread(d time.Duration) time.Duration {
	return d + rand.N(min(d/10, 5*time.Second)+1)
}
