package queue

import (
	"context"
	"errors"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

// Complete ends the message: it is gone from the queue.
func (q *Queue) Complete(ctx context.Context, d *Delivery) error {
	return q.settle(ctx, d, complete)
}

// GivenBackProperty is the application property that counts the times a message was given back on purpose.
const GivenBackProperty = "hsmsweep-given-back"

// GiveBack abandons the message, to be received again at once. The broker counts that as a failed delivery like any other, so it is
// noted on the message, see Failures.
func (q *Queue) GiveBack(ctx context.Context, d *Delivery) error {
	return q.settle(ctx, d, func(ctx context.Context, r receiver, m *azservicebus.ReceivedMessage) error {
		return r.AbandonMessage(ctx, m, &azservicebus.AbandonMessageOptions{
			PropertiesToModify: map[string]any{GivenBackProperty: d.givenBack() + 1}})
	})
}

// Failures is how many deliveries of this message before this one were not settled at all: whoever had it died, or lost the lock.
func (d *Delivery) Failures() int { return int(max(0, int64(d.DeliveryCount)-1-d.givenBack())) }

// givenBack is what the message says, which somebody else may have written.
func (d *Delivery) givenBack() int64 {
	n, _ := d.ApplicationProperties[GivenBackProperty].(int64)
	return max(0, min(n, int64(d.DeliveryCount)-1))
}

// DeadLetter moves the message to the dead-letter queue, as it is but for further application properties.
func (q *Queue) DeadLetter(ctx context.Context, d *Delivery, reason, description string, properties map[string]any) error {
	return q.settle(ctx, d, func(ctx context.Context, r receiver, m *azservicebus.ReceivedMessage) error {
		return r.DeadLetterMessage(ctx, m, &azservicebus.DeadLetterOptions{
			Reason: to.Ptr(reason), ErrorDescription: to.Ptr(description),
			PropertiesToModify: properties,
		})
	})
}

// A settling is one of the SDK's methods that end a lock.
type settling func(context.Context, receiver, *azservicebus.ReceivedMessage) error

// settle tries the message first, over the link it came by, and then its lock token, which works over any link. It has its
// own time and is not cancelled by the step's context: at a drain, settling is what must still happen.
func (q *Queue) settle(ctx context.Context, d *Delivery, by settling) error {
	ctx = context.WithoutCancel(ctx)
	if receiver, ok := q.beginOnLink(d); ok {
		err := within(ctx, by, receiver, d.ReceivedMessage)
		q.settling.Done()
		if err == nil || isLockLost(err) {
			return settled(err)
		}
		q.log.WarnContext(ctx, "settling over the link failed; settling by lock token", "messageId", d.MessageID, "error", err)
	}
	return settled(within(ctx, by, q.links().settler, byToken(d)))
}

// beginOnLink gives the delivery's link, if it is still there, and has StopReceiving wait for what is settled over it.
func (q *Queue) beginOnLink(d *Delivery) (receiver, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if d.link != q.link {
		return nil, false
	}
	q.settling.Add(1)
	return q.now.receiver, true
}

func within(ctx context.Context, by settling, r receiver, m *azservicebus.ReceivedMessage) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	return by(ctx, r, m)
}

// byToken is a message of which the SDK knows nothing but the lock, so that it goes to $management with it.
func byToken(d *Delivery) *azservicebus.ReceivedMessage {
	return &azservicebus.ReceivedMessage{LockToken: d.LockToken}
}

func settled(err error) error {
	if isLockLost(err) {
		return ErrLockLost
	}
	return err
}

func isLockLost(err error) bool {
	sbErr, ok := errors.AsType[*azservicebus.Error](err)
	return ok && sbErr.Code == azservicebus.CodeLockLost
}
