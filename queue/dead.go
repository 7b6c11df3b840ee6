package queue

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

const (
	// mostHeld bounds the dead letters that are held while others are looked for behind them.
	mostHeld = 10_000
	// mostSeen is how often one dead letter comes before the search ends: locks run out faster than it gets on.
	mostSeen = 3
	// deadWait is how long the dead-letter queue may be silent before it is taken to have been gone through.
	deadWait = 5 * time.Second
)

// A Taker does something with a dead letter that is locked, and completes it. One that it does not complete is given back.
type Taker func(ctx context.Context, d *Delivery, complete func() error) error

// Reclaim takes dead letters back: those that are wanted, from a sequence number on. It looks by peeking, and receives only when that
// finds one. The number to go on from is returned; it is the same again where something was found and not taken.
func (q *Queue) Reclaim(ctx context.Context, from int64, wanted func(*azservicebus.ReceivedMessage) bool, take Taker) (int64, error) {
	numbers, next := map[int64]bool{}, from
	for page, err := range q.DeadPages(ctx, from) {
		if err != nil {
			return from, err
		}
		for _, m := range page {
			if next = *m.SequenceNumber + 1; wanted(m) {
				numbers[*m.SequenceNumber] = true
			}
		}
	}
	if len(numbers) == 0 {
		return next, nil
	}
	missing, err := q.TakeDead(ctx, numbers, peekSize, take)
	if err != nil || len(missing) > 0 {
		next = from
	}
	return next, err
}

// DeadPages goes through the dead letters as Pages goes through the queue.
func (q *Queue) DeadPages(ctx context.Context, from int64) iter.Seq2[[]*azservicebus.ReceivedMessage, error] {
	return func(yield func([]*azservicebus.ReceivedMessage, error) bool) {
		dead, end, err := q.deadLetters(ctx)
		if err != nil {
			yield(nil, err)
			return
		}
		defer end()
		pages(ctx, dead, from)(yield)
	}
}

// TakeDead locks the dead letters with these sequence numbers, at most n at a time, and passes them on one by one. Since Service Bus hands
// them out in their order, others come along, which are held meanwhile and then given back; that does not count as a delivery there.
// The numbers that were not taken are returned: gone, in somebody else's hands, or behind too many others.
func (q *Queue) TakeDead(ctx context.Context, numbers map[int64]bool, n int, take Taker) (missing map[int64]bool, err error) {
	dead, end, err := q.deadLetters(ctx)
	if err != nil {
		return numbers, err
	}
	defer end()
	missing = make(map[int64]bool, len(numbers))
	for number := range numbers {
		missing[number] = true
	}
	settling := context.WithoutCancel(ctx)
	held := map[int64]*azservicebus.ReceivedMessage{}
	seen := map[int64]int{}
	var faults []error
	for searching := true; searching && len(missing) > 0 && len(held) < mostHeld; {
		messages, err := receiveDead(ctx, dead, n)
		if err != nil {
			faults = append(faults, err)
		}
		searching = len(messages) > 0 && ctx.Err() == nil
		for _, m := range messages {
			number := *m.SequenceNumber
			held[number] = m
			if seen[number]++; seen[number] == mostSeen {
				searching = false
			}
			if !missing[number] || ctx.Err() != nil {
				continue
			}
			now := time.Now()
			err := take(ctx, &Delivery{ReceivedMessage: m, received: now, broker: now}, func() error {
				err := settled(within(settling, complete, dead, m))
				if err == nil {
					delete(held, number)
				}
				return err
			})
			if faults = append(faults, err); err == nil {
				delete(missing, number)
			}
		}
	}
	for _, m := range held {
		if within(settling, abandon, dead, m) != nil {
			break // the connection is gone; the locks run out
		}
	}
	return missing, errors.Join(faults...)
}

// receiveDead gives up to n dead letters; none when there are no more.
func receiveDead(ctx context.Context, dead *azservicebus.Receiver, n int) ([]*azservicebus.ReceivedMessage, error) {
	waiting, cancel := context.WithTimeout(ctx, deadWait)
	defer cancel()
	messages, err := dead.ReceiveMessages(waiting, n, nil)
	if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		err = nil
	}
	return messages, err
}

// deadLetters opens the dead-letter queue; end closes it.
func (q *Queue) deadLetters(ctx context.Context) (dead *azservicebus.Receiver, end func(), err error) {
	dead, err = q.links().client.NewReceiverForQueue(q.name, &azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueDeadLetter})
	return dead, func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbyeTimeout)
		defer cancel()
		_ = dead.Close(closing) // there is nothing left to say
	}, err
}

func complete(ctx context.Context, r receiver, m *azservicebus.ReceivedMessage) error {
	return r.CompleteMessage(ctx, m, nil)
}

func abandon(ctx context.Context, r receiver, m *azservicebus.ReceivedMessage) error {
	return r.AbandonMessage(ctx, m, nil)
}
