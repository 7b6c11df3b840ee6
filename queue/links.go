package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

// A Dial makes a client for the namespace. It connects with its first use.
type Dial func() (*azservicebus.Client, error)

// receiver and sender are the SDK methods that are called.
type receiver interface {
	ReceiveMessages(context.Context, int, *azservicebus.ReceiveMessagesOptions) ([]*azservicebus.ReceivedMessage, error)
	PeekMessages(context.Context, int, *azservicebus.PeekMessagesOptions) ([]*azservicebus.ReceivedMessage, error)
	RenewMessageLock(context.Context, *azservicebus.ReceivedMessage, *azservicebus.RenewMessageLockOptions) error
	CompleteMessage(context.Context, *azservicebus.ReceivedMessage, *azservicebus.CompleteMessageOptions) error
	AbandonMessage(context.Context, *azservicebus.ReceivedMessage, *azservicebus.AbandonMessageOptions) error
	DeadLetterMessage(context.Context, *azservicebus.ReceivedMessage, *azservicebus.DeadLetterOptions) error
	Close(context.Context) error
}

// links are what hangs on one client, which is one connection.
type links struct {
	client   *azservicebus.Client
	receiver receiver
	settler  receiver // never receives, so its link has no credit: for lock tokens whose own link is gone
	requests *sender
	events   *sender
}

func (q *Queue) newLinks() (*links, error) {
	client, err := q.dial()
	if err != nil {
		return nil, err
	}
	l := &links{client: client}
	if l.receiver, err = client.NewReceiverForQueue(q.name, nil); err != nil {
		return nil, err
	}
	if l.settler, err = client.NewReceiverForQueue(q.name, nil); err != nil {
		return nil, err
	}
	l.requests = &sender{client: client, entity: q.name}
	l.events = &sender{client: client, entity: q.eventsName}
	return l, nil
}

// close ends the links and their connection.
func (l *links) close(ctx context.Context) error {
	l.requests.end()
	l.events.end()
	return errors.Join(l.receiver.Close(ctx), l.settler.Close(ctx), l.client.Close(ctx))
}

// links are those of now.
func (q *Queue) links() *links {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.now
}

// Connect opens both sending links, one after the other, so that a wrong name or a missing right shows before the first
// message is taken.
func (q *Queue) Connect(ctx context.Context) error {
	l := q.links()
	if _, err := l.requests.batch(ctx); err != nil {
		return fmt.Errorf("the request queue: %w", err)
	}
	if _, err := l.events.batch(ctx); err != nil {
		return fmt.Errorf("the entity for events: %w", err)
	}
	return nil
}

// Reconnect goes on with a new client, for when the old one is stuck. A Receive that waits ends as if its link was lost; what
// is in hand is settled by lock token.
func (q *Queue) Reconnect() error {
	fresh, err := q.newLinks()
	if err != nil {
		return err
	}
	q.mu.Lock()
	old := q.now
	q.now = fresh
	q.link++
	if q.stopReceive != nil {
		q.stopReceive()
	}
	q.mu.Unlock()
	q.clock.forget()
	q.closing.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), goodbyeTimeout)
		defer cancel()
		if err := old.close(ctx); err != nil {
			q.log.DebugContext(ctx, "the old connection did not end properly", "error", err)
		}
	})
	return nil
}

// goodbyeTimeout bounds the end of a connection whose peer may have fallen silent.
const goodbyeTimeout = 3 * time.Second

// StopReceiving ends the receiving link and with it the credit that the broker has on it. A message that came for that
// credit during a drain would be released by the SDK, come back for the next credit, and burn its delivery count. What is in
// hand is settled by lock token from now on.
func (q *Queue) StopReceiving(ctx context.Context) error {
	q.linkEnded()
	q.settling.Wait() // an answer that the link owes would be lost with it
	return q.links().receiver.Close(ctx)
}

// Close ends the connection. What is still locked stays so until its lock runs out: settle before.
func (q *Queue) Close(ctx context.Context) error {
	err := q.links().close(ctx)
	q.closing.Wait()
	return err
}
