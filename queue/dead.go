package queue

import (
	"context"
	"errors"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

const (
	// mostHeld bounds the dead letters that are held while others are looked for behind them.
	mostHeld = 2000
	// deadWait is how long the dead-letter queue may be silent before it is taken to have been gone through.
	deadWait = 5 * time.Second
)

// Reclaim takes dead letters back: those that are wanted, from a sequence number on, are locked and passed to take one by one, and
// completed when that succeeds. It looks by peeking; only when that finds one are messages received, and what is not
// wanted is given back. The number to go on from is returned; it is the same again where something was found and not taken.
func (q *Queue) Reclaim(ctx context.Context, from int64, wanted func(*azservicebus.ReceivedMessage) bool, take func(context.Context, *Delivery) error) (int64, error) {
	dead, err := q.links().client.NewReceiverForQueue(q.name, &azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueDeadLetter})
	if err != nil {
		return from, err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbyeTimeout)
		defer cancel()
		_ = dead.Close(closing) // there is nothing left to say
	}()
	next, missing, err := count(ctx, dead, from, wanted)
	if err != nil || missing == 0 {
		return next, err
	}
	missing, err = receiveDead(ctx, dead, missing, wanted, take)
	if err != nil || missing > 0 {
		next = from
	}
	return next, err
}

// count peeks at everything from a sequence number on, and counts what is wanted.
func count(ctx context.Context, dead *azservicebus.Receiver, from int64, wanted func(*azservicebus.ReceivedMessage) bool) (next int64, n int, err error) {
	for {
		messages, err := dead.PeekMessages(ctx, peekSize, &azservicebus.PeekMessagesOptions{FromSequenceNumber: &from})
		if err != nil || len(messages) == 0 {
			return from, n, err
		}
		for _, m := range messages {
			if wanted(m) {
				n++
			}
			from = *m.SequenceNumber + 1
		}
	}
}

// receiveDead takes up to n wanted messages, and returns how many were not found, or not taken.
func receiveDead(ctx context.Context, dead *azservicebus.Receiver, n int, wanted func(*azservicebus.ReceivedMessage) bool, take func(context.Context, *Delivery) error) (missing int, err error) {
	var held []*azservicebus.ReceivedMessage
	var faults []error
	for n > 0 && len(held) < mostHeld {
		waiting, cancel := context.WithTimeout(ctx, deadWait)
		messages, err := dead.ReceiveMessages(waiting, peekSize, nil)
		cancel()
		if len(messages) == 0 {
			if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
				faults = append(faults, err)
			}
			break
		}
		for _, m := range messages {
			if !wanted(m) || n == 0 {
				held = append(held, m)
				continue
			}
			now := time.Now()
			if err := take(ctx, &Delivery{ReceivedMessage: m, received: now, broker: now}); err != nil {
				faults, held = append(faults, err), append(held, m)
				continue
			}
			faults = append(faults, within(ctx, complete, dead, m))
			n--
		}
	}
	for _, m := range held {
		if within(ctx, abandon, dead, m) != nil {
			break // the connection is gone; the locks run out
		}
	}
	return n, errors.Join(faults...)
}

func complete(ctx context.Context, r receiver, m *azservicebus.ReceivedMessage) error {
	return r.CompleteMessage(ctx, m, nil)
}

func abandon(ctx context.Context, r receiver, m *azservicebus.ReceivedMessage) error {
	return r.AbandonMessage(ctx, m, nil)
}
