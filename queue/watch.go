package queue

import (
	"context"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

// peekSize is how many messages one peek asks for: Service Bus gives no more than about that.
const peekSize = 250

// NextActive looks, without taking it, for a message that waits to be received: among those that came after everything that was
// received so far, then among the oldest. nil: none is there. A message that somebody has locked is active too; its delivery count
// tells whether it changed hands.
func (q *Queue) NextActive(ctx context.Context) (*azservicebus.ReceivedMessage, error) {
	q.mu.Lock()
	newest := q.newest
	q.mu.Unlock()
	for _, from := range []int64{newest + 1, 0} {
		messages, err := q.links().settler.PeekMessages(ctx, peekSize, &azservicebus.PeekMessagesOptions{FromSequenceNumber: &from})
		if err != nil {
			return nil, err
		}
		for _, m := range messages {
			if m.State == azservicebus.MessageStateActive {
				return m, nil
			}
		}
	}
	return nil, nil
}
