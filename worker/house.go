package worker

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"hsmsweep/queue"
)

const (
	// lookEvery is how often a silent receiver is looked after. Whoever has a message locked is done with it in less than
	// twice this time.
	lookEvery = time.Minute
	// lookTimeout bounds a look at the queue.
	lookTimeout = 15 * time.Second
	// reclaimTimeout bounds a look through the dead-letter queue, whose peer may have fallen silent.
	reclaimTimeout = 2 * time.Minute
	// reclaimEvery is how often the dead-letter queue is looked through.
	reclaimEvery = 5 * time.Minute
)

// keepHouse does, until ctx ends, what no message brings about: it looks after the receiver, and after the requests that the broker
// gave up by itself.
func (w *Worker) keepHouse(ctx context.Context) {
	var look receiverLook
	var reclaimedTo int64
	var reclaimed time.Time
	for {
		w.pulse.kept()
		w.lookAfterARM(ctx)
		if time.Since(reclaimed) >= reclaimEvery {
			reclaimed = time.Now()
			reclaimedTo = w.reclaim(ctx, reclaimedTo)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(lookEvery):
		}
		w.lookAfterReceiver(ctx, &look)
	}
}

// lookAfterARM sees whether ARM could be asked, where no step has told of late: at the start, and while no requests come.
func (w *Worker) lookAfterARM(ctx context.Context) {
	if !w.health.looks() {
		return
	}
	err := w.arm.Reach(ctx)
	if ctx.Err() != nil {
		return
	}
	w.health.looked(err)
	if err != nil {
		w.log.WarnContext(ctx, "not ready: ARM could not be asked if a request came; looking again", "in", lookEvery.String(), "error", err)
	}
}

// A silence is since when the receiver has been waiting for messages.
type silence struct {
	mu    sync.Mutex
	since time.Time // zero: it is not waiting
}

func (s *silence) listening(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.since.IsZero() {
		s.since = now
	}
}

func (s *silence) broken() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.since = time.Time{}
}

// lasted is how long it has been waiting; 0: it is not.
func (s *silence) lasted(now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.since.IsZero() {
		return 0
	}
	return now.Sub(s.since)
}

// A receiverLook is what was seen of the queue when the receiver was last looked after.
type receiverLook struct {
	number     int64 // of a message that waits to be received; 0: none
	deliveries uint32
	times      int // it was seen in a row, the same
	failures   int // of looking, in a row
}

// lookAfterReceiver connects anew when the receiver hears nothing although the queue has a message for it, or does not even
// answer: the SDK is known to fall silent in rare cases, after idle hours or while it recovers a link.
func (w *Worker) lookAfterReceiver(ctx context.Context, look *receiverLook) {
	if w.silence.lasted(time.Now()) < lookEvery {
		*look = receiverLook{}
		return
	}
	asked, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	m, err := w.queue.NextActive(asked)
	if ctx.Err() != nil {
		return
	}
	*look = look.next(m, err)
	switch {
	case look.failures > 0:
		err = fmt.Errorf("no message has come for a while, and the queue does not answer: %w", err)
	case look.times > 1:
		err = fmt.Errorf("no message has come for a while, although the queue has message %d for whoever receives", look.number)
	}
	w.health.hearsNothing(err)
	if look.failures < 2 && look.times < 3 {
		return
	}
	w.log.ErrorContext(ctx, "the receiver is deaf; connecting to Service Bus anew", "error", err)
	*look = receiverLook{}
	w.metrics.deaf.Add(ctx, 1)
	w.pulse.disturbed()
	if err := w.queue.Reconnect(); err != nil {
		w.log.ErrorContext(ctx, "connecting to Service Bus anew failed; trying again", "in", lookEvery.String(), "error", err)
	}
}

// next is the look after one more: m is the message that waits to be received, if any.
func (l receiverLook) next(m *azservicebus.ReceivedMessage, err error) receiverLook {
	switch {
	case err != nil:
		return receiverLook{failures: l.failures + 1}
	case m == nil:
		return receiverLook{}
	case l.times > 0 && l.number == *m.SequenceNumber && l.deliveries == m.DeliveryCount:
		l.times++
		l.failures = 0
		return l
	}
	return receiverLook{number: *m.SequenceNumber, deliveries: m.DeliveryCount, times: 1}
}

// reclaim takes back what the broker dead-lettered by itself, because it expired or was delivered too often: such a request
// would end in silence. It goes on from a sequence number, and returns the one to go on from next time.
func (w *Worker) reclaim(ctx context.Context, from int64) int64 {
	ctx, cancel := context.WithTimeout(ctx, reclaimTimeout)
	defer cancel()
	next, err := w.queue.Reclaim(ctx, from, func(m *azservicebus.ReceivedMessage) bool { return brokersOwn(m.DeadLetterReason) }, w.takeBack)
	if err != nil && ctx.Err() == nil {
		w.log.WarnContext(ctx, "the dead-letter queue could not be looked through for what the broker gave up; trying again", "in", reclaimEvery.String(), "error", err)
	}
	return next
}

// The reasons with which Service Bus dead-letters by itself.
const (
	reasonDeliveries = "MaxDeliveryCountExceeded"
	reasonExpired    = "TTLExpiredException"
)

func brokersOwn(reason *string) bool {
	return reason != nil && (*reason == reasonDeliveries || *reason == reasonExpired)
}

// takeBack puts a request that the broker gave up into the queue again, as a successor of the message that it was: with its end
// written down, which then takes the way of every end, or to go on, where it was this program that gave it back.
func (w *Worker) takeBack(ctx context.Context, d *queue.Delivery, complete func() error) error {
	reason := *d.DeadLetterReason
	t := w.take(original(d), time.Now())
	a := t.attempt
	// The broker's count has the last delivery too.
	if failures := a.Failures + t.failures + 1; a.End == nil && reason == reasonExpired {
		a.End = &End{Outcome: EndTimedOut, At: t.now(), Code: CodeMessageExpired,
			Message: "the message was older than the queue lets messages become before a worker took it; raise the queue's time to live, or see why no worker ran"}
	} else if a.End == nil && failures >= w.policy.MaxDeliveries {
		e := tooManyDeliveries(failures, t.now())
		a.End = &e
	}
	ctx = inTrace(ctx, t.trace)
	w.log.WarnContext(ctx, "the broker gave a request up; taking it back", "requestId", a.RequestID, "deadLetterReason", reason, "ends", a.End != nil)
	if err := w.schedule(ctx, t, park(a, a.Due, a.Why)); err != nil {
		return err
	}
	w.metrics.reclaimed.Add(ctx, 1, labels("reason", reclaimLabel(reason)))
	return complete()
}

// original is the message before the broker dead-lettered it.
func original(d *queue.Delivery) *queue.Delivery {
	m := *d.ReceivedMessage
	if n := m.EnqueuedSequenceNumber; n != nil && *n != 0 {
		m.SequenceNumber = n
	}
	m.ApplicationProperties = make(map[string]any, len(d.ApplicationProperties))
	for name, value := range d.ApplicationProperties {
		if !strings.HasPrefix(name, "DeadLetter") {
			m.ApplicationProperties[name] = value
		}
	}
	before := *d
	before.ReceivedMessage = &m
	return &before
}
