package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

const (
	// sendTimeout bounds one send, the SDK's own retries and a reconnection (3 to 5 s) included.
	sendTimeout = 15 * time.Second
	// settleTimeout bounds one try to settle. It is short because a lock is held meanwhile, and because settling over a
	// link that is gone only ever times out. It outlasts the SDK's pause before its second try, 3.2 to 5.2 s: settling over a
	// link does not heed the client's RetryOptions.
	settleTimeout = 6 * time.Second
)

// ErrLockLost says that a message's lock ran out: somebody else has the message now.
var ErrLockLost = errors.New("the message's lock is lost")

// receiver and sender are the SDK methods that are called.
type receiver interface {
	ReceiveMessages(context.Context, int, *azservicebus.ReceiveMessagesOptions) ([]*azservicebus.ReceivedMessage, error)
	RenewMessageLock(context.Context, *azservicebus.ReceivedMessage, *azservicebus.RenewMessageLockOptions) error
	CompleteMessage(context.Context, *azservicebus.ReceivedMessage, *azservicebus.CompleteMessageOptions) error
	AbandonMessage(context.Context, *azservicebus.ReceivedMessage, *azservicebus.AbandonMessageOptions) error
	DeadLetterMessage(context.Context, *azservicebus.ReceivedMessage, *azservicebus.DeadLetterOptions) error
	Close(context.Context) error
}

type sender interface {
	SendMessage(context.Context, *azservicebus.Message, *azservicebus.SendMessageOptions) error
	NewMessageBatch(context.Context, *azservicebus.MessageBatchOptions) (*azservicebus.MessageBatch, error)
	Close(context.Context) error
}

// A Queue is the request queue together with the entity for events.
type Queue struct {
	receiver receiver
	settler  receiver // never receives, so its link has no credit: for lock tokens whose own link is gone
	requests sender
	events   sender
	log      *slog.Logger

	mu       sync.Mutex
	link     int            // the receiving link's number; a new one with each that was lost, or ended
	settling sync.WaitGroup // over the receiving link
}

// Open makes the links' clients; nothing is dialled before Connect or the first call.
func Open(client *azservicebus.Client, queue, events string, log *slog.Logger) (*Queue, error) {
	r, err := client.NewReceiverForQueue(queue, nil)
	if err != nil {
		return nil, err
	}
	settler, err := client.NewReceiverForQueue(queue, nil)
	if err != nil {
		return nil, err
	}
	requests, err := client.NewSender(queue, nil)
	if err != nil {
		return nil, err
	}
	toEvents, err := client.NewSender(events, nil)
	if err != nil {
		return nil, err
	}
	return &Queue{receiver: r, settler: settler, requests: requests, events: toEvents, log: log}, nil
}

// Connect opens both sending links, one after the other, so that a wrong name or a missing right shows before the first
// message is taken.
func (q *Queue) Connect(ctx context.Context) error {
	if _, err := q.requests.NewMessageBatch(ctx, nil); err != nil {
		return fmt.Errorf("the request queue: %w", err)
	}
	if _, err := q.events.NewMessageBatch(ctx, nil); err != nil {
		return fmt.Errorf("the entity for events: %w", err)
	}
	return nil
}

// StopReceiving ends the receiving link and with it the credit that the broker has on it. A message that came for that
// credit during a drain would be released by the SDK, come back for the next credit, and burn its delivery count. What is in
// hand is settled by lock token from now on.
func (q *Queue) StopReceiving(ctx context.Context) error {
	q.linkEnded()
	q.settling.Wait() // an answer that the link owes would be lost with it
	return q.receiver.Close(ctx)
}

// Close ends the links. What is still locked stays so until its lock runs out: settle before.
func (q *Queue) Close(ctx context.Context) error {
	return errors.Join(q.receiver.Close(ctx), q.settler.Close(ctx), q.requests.Close(ctx), q.events.Close(ctx))
}

// A Delivery is a message under a lock.
type Delivery struct {
	*azservicebus.ReceivedMessage
	link int // the receiving link it came over; see Queue.link
}

// Receive waits for messages and returns at most n of them. None and no error means that the link was lost; the next call
// opens a new one.
func (q *Queue) Receive(ctx context.Context, n int) ([]*Delivery, error) {
	q.mu.Lock()
	link := q.link
	q.mu.Unlock()
	messages, err := q.receiver.ReceiveMessages(ctx, n, &azservicebus.ReceiveMessagesOptions{
		// The SDK waits this long for more after the first. Longer only adds latency: the next call takes the rest.
		TimeAfterFirstMessage: time.Millisecond,
	})
	if len(messages) == 0 && ctx.Err() == nil {
		q.linkEnded()
	}
	deliveries := make([]*Delivery, len(messages))
	for i, m := range messages {
		deliveries[i] = &Delivery{m, link}
	}
	return deliveries, err
}

func (q *Queue) linkEnded() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.link++
}

// Hold takes charge of the delivery's lock until release is called. The context ends with ErrLockLost when the lock does.
// Renewal is a request to $management, so it begins only when half of the lock is spent: most steps are over by then.
func (q *Queue) Hold(ctx context.Context, d *Delivery) (held context.Context, release func()) {
	held, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	timer := time.AfterFunc(time.Until(*d.LockedUntil)/2, func() {
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
		asked, stop := context.WithDeadline(ctx, *lock.LockedUntil)
		err := q.settler.RenewMessageLock(asked, lock, nil)
		stop()
		left := time.Until(*lock.LockedUntil)
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
	return send(ctx, q.requests, m)
}

// Publish sends an event.
func (q *Queue) Publish(ctx context.Context, m *azservicebus.Message) error {
	return send(ctx, q.events, m)
}

// send is not cancelled by the step's context: at a drain, what was decided is still carried out, within its own time.
func send(ctx context.Context, s sender, m *azservicebus.Message) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sendTimeout)
	defer cancel()
	return s.SendMessage(ctx, m, nil)
}

// Fits tells whether the request queue takes a message of this size. The limit is the broker's own.
func (q *Queue) Fits(ctx context.Context, m *azservicebus.Message) (bool, error) {
	batch, err := q.requests.NewMessageBatch(ctx, nil)
	if err != nil {
		return false, err
	}
	err = batch.AddMessage(m, nil)
	if errors.Is(err, azservicebus.ErrMessageTooLarge) {
		return false, nil
	}
	return err == nil, err
}
