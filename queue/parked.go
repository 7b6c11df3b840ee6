package queue

import (
	"context"
	"iter"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

// pageTimeout bounds one peek, the SDK's own retries included: without a bound it would wait for an answer for ever.
const pageTimeout = 30 * time.Second

// Pages goes through the messages from a sequence number on, in that order and whatever their state, without taking any. It
// ends with the first error. A request that goes from hop to hop meanwhile is not missed: its successor is there, under a higher
// number, before the message itself is gone.
func (q *Queue) Pages(ctx context.Context, from int64) iter.Seq2[[]*azservicebus.ReceivedMessage, error] {
	return pages(ctx, q.links().settler, from)
}

func pages(ctx context.Context, r receiver, from int64) iter.Seq2[[]*azservicebus.ReceivedMessage, error] {
	return func(yield func([]*azservicebus.ReceivedMessage, error) bool) {
		for {
			page, err := peek(ctx, r, from)
			if err != nil {
				yield(nil, err)
				return
			}
			if len(page) == 0 || !yield(page, nil) {
				return
			}
			from = *page[len(page)-1].SequenceNumber + 1
		}
	}
}

func peek(ctx context.Context, r receiver, from int64) ([]*azservicebus.ReceivedMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, pageTimeout)
	defer cancel()
	return r.PeekMessages(ctx, peekSize, &azservicebus.PeekMessagesOptions{FromSequenceNumber: &from})
}

// Peeked is a message that was only looked at, as a delivery that can be understood like any other, and not be settled.
func Peeked(m *azservicebus.ReceivedMessage) *Delivery {
	now := time.Now()
	return &Delivery{ReceivedMessage: m, received: now, broker: now}
}

// CancelScheduled takes a message out of the queue that is still scheduled under this sequence number. An error does not tell that
// it is still there: the answer may be what was lost. Like a send it has its own time, and is not cancelled by ctx.
func (q *Queue) CancelScheduled(ctx context.Context, number int64) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sendTimeout)
	defer cancel()
	return q.links().requests.with(func(link *azservicebus.Sender) error {
		return link.CancelScheduledMessages(ctx, []int64{number}, nil)
	})
}
