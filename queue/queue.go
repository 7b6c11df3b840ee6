package queue

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

const (
	// settleTimeout bounds one try to settle. It is short because a lock is held meanwhile, and because settling over a
	// link that is gone only ever times out. It outlasts the SDK's pause before its second try, 3.2 to 5.2 s: settling over a
	// link does not heed the client's RetryOptions.
	settleTimeout = 6 * time.Second
)

// ErrLockLost says that a message's lock ran out: somebody else has the message now.
var ErrLockLost = errors.New("the message's lock is lost")

// A Queue is the request queue together with the entity for events.
type Queue struct {
	dial             Dial
	name, eventsName string
	log              *slog.Logger
	clock            clock

	mu          sync.Mutex
	now         *links
	stopReceive context.CancelFunc // of the Receive that waits
	link        int                // the receiving link's number; a new one with each that was lost, or ended
	newest      int64              // the highest sequence number that was received
	settling    sync.WaitGroup     // over the receiving link
	closing     sync.WaitGroup     // of connections that were given up
}

// Open makes the links' clients; nothing is dialled before Connect or the first call. The Queue owns the client; Close ends it.
func Open(dial Dial, queue, events string, log *slog.Logger) (*Queue, error) {
	q := &Queue{dial: dial, name: queue, eventsName: events, log: log}
	var err error
	q.now, err = q.newLinks()
	return q, err
}

// EventsName is the name of the entity for events.
func (q *Queue) EventsName() string { return q.eventsName }

// A Delivery is a message under a lock.
type Delivery struct {
	*azservicebus.ReceivedMessage
	link     int       // the receiving link it came over; see Queue.link
	received time.Time // by this machine's clock, whose running alone counts from then on
	broker   time.Time // the same instant by the broker's clock
}

// Now is the time by the broker's clock, as far as its messages show it. Everything that is written on a message, and
// whatever is compared with that, goes by this clock: a machine whose own is wrong, or jumps, does no harm.
func (d *Delivery) Now() time.Time { return d.broker.Add(time.Since(d.received)) }

// left is what is left of the lock.
func (d *Delivery) left(until *time.Time) time.Duration { return until.Sub(d.Now()) }

// Receive waits for messages and returns at most n of them. None and no error means that the link was lost; the next call
// opens a new one.
func (q *Queue) Receive(ctx context.Context, n int) ([]*Delivery, error) {
	waiting, stop := context.WithCancel(ctx)
	defer stop()
	q.mu.Lock()
	link, receiver := q.link, q.now.receiver
	q.stopReceive = stop
	q.mu.Unlock()
	messages, err := receiver.ReceiveMessages(waiting, n, &azservicebus.ReceiveMessagesOptions{
		// The SDK waits this long for more after the first. Longer only adds latency: the next call takes the rest.
		TimeAfterFirstMessage: time.Millisecond,
	})
	switch {
	case len(messages) > 0 || ctx.Err() != nil:
	case waiting.Err() != nil: // Reconnect
		err = nil
	default:
		q.linkEnded()
	}
	deliveries := make([]*Delivery, len(messages))
	for i, m := range messages {
		deliveries[i] = q.delivery(m, link)
	}
	return deliveries, err
}

func (q *Queue) delivery(m *azservicebus.ReceivedMessage, link int) *Delivery {
	now := time.Now()
	d := &Delivery{ReceivedMessage: m, link: link, received: now, broker: now}
	if m.EnqueuedTime != nil && m.LockedUntil != nil {
		d.broker = q.clock.at(now, *m.EnqueuedTime, *m.LockedUntil)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.newest = max(q.newest, *m.SequenceNumber)
	return d
}

func (q *Queue) linkEnded() {
	q.clock.forget() // a link also ends when the queue's settings were changed
	q.mu.Lock()
	defer q.mu.Unlock()
	q.link++
}

// Hold takes charge of the delivery's lock until release is called. The context ends with ErrLockLost when the lock does.
// Renewal is a request to $management, so it begins only when half of the lock is spent: most steps are over by then.
func (q *Queue) Hold(ctx context.Context, d *Delivery) (held context.Context, release func()) {
	held, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	timer := time.AfterFunc(d.left(d.LockedUntil)/2, func() {
		defer close(ended)
		q.renew(held, cancel, d)
	})
	return held, func() {
		cancel(nil)
		if !timer.Stop() {
			<-ended
		}
	}
}

// renew keeps the lock until the context ends. A failure is tried again while there is something left of the lock.
func (q *Queue) renew(ctx context.Context, cancel context.CancelCauseFunc, d *Delivery) {
	lock := byToken(d)
	lock.LockedUntil = d.LockedUntil
	for {
		asked, stop := context.WithTimeout(ctx, d.left(lock.LockedUntil))
		err := q.links().settler.RenewMessageLock(asked, lock, nil)
		stop()
		left := d.left(lock.LockedUntil)
		switch {
		case ctx.Err() != nil:
			return
		case isLockLost(err) || left <= 0:
			cancel(ErrLockLost)
			return
		case err != nil:
			q.log.WarnContext(ctx, "the lock was not renewed; trying again", "messageId", d.MessageID, "left", left.Round(time.Millisecond).String(), "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(max(left/2, time.Second)):
		}
	}
}

// Send puts a message on the request queue, to be received at the given time; zero is at once. The time is rounded up to the
// millisecond that AMQP knows, so that nothing comes early.
func (q *Queue) Send(ctx context.Context, m *azservicebus.Message, at time.Time) error {
	if !at.IsZero() {
		m.ScheduledEnqueueTime = to.Ptr(at.UTC().Add(time.Millisecond - 1).Truncate(time.Millisecond))
	}
	return q.links().requests.send(ctx, m)
}

// SendAll puts messages on the request queue, to be received at once, as many at a time as fit. After an error some may have been
// sent: sending all of them again is harmless, by their ids.
func (q *Queue) SendAll(ctx context.Context, messages []*azservicebus.Message) error {
	for len(messages) > 0 {
		n, err := q.links().requests.sendSome(ctx, messages)
		if err != nil {
			return err
		}
		messages = messages[n:]
	}
	return nil
}

// Publish sends an event.
func (q *Queue) Publish(ctx context.Context, m *azservicebus.Message) error {
	return q.links().events.send(ctx, m)
}

// Fits tells whether the request queue takes a message of this size. The limit is the broker's own.
func (q *Queue) Fits(ctx context.Context, m *azservicebus.Message) (bool, error) {
	batch, err := q.links().requests.batch(ctx)
	if err != nil {
		return false, err
	}
	err = batch.AddMessage(m, nil)
	if errors.Is(err, azservicebus.ErrMessageTooLarge) {
		return false, nil
	}
	return err == nil, err
}
