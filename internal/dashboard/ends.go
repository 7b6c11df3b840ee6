package dashboard

import (
	"context"
	"slices"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

const (
	// mostEnds is how many ends are shown, of the newest.
	mostEnds = 500
	// mostPages bounds what one round reads of events that gathered while nobody watched, so that the page comes before all are read.
	mostPages = 40
	peekSize  = 250
	// peekTimeout bounds one peek, the SDK's own retries included: without a bound it would wait for an answer for ever.
	peekTimeout = 30 * time.Second
)

// ends are the events, as far as they have been read. Each is read once.
type ends struct {
	open   func() (*azservicebus.Receiver, error)
	events *azservicebus.Receiver // nil until the first read, and after a failure
	next   int64                  // sequence number

	since   time.Time // the end of the first that was read
	counts  minute    // of all
	minutes minutes
	newest  []endRow // in the order in which they came
	strange int      // messages that are no events of hsmsweep
}

// read takes what is new; more tells that it is not all. What an error leaves unread, the next round reads.
func (e *ends) read(ctx context.Context, t *timelines) (more bool, err error) {
	for range mostPages {
		page, err := e.peek(ctx)
		if err != nil || len(page) == 0 {
			return false, err
		}
		for _, m := range page {
			e.take(m, t)
		}
		e.next = *page[len(page)-1].SequenceNumber + 1
	}
	return true, nil
}

func (e *ends) peek(ctx context.Context) ([]*azservicebus.ReceivedMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, peekTimeout)
	defer cancel()
	if e.events == nil {
		var err error
		if e.events, err = e.open(); err != nil {
			return nil, err
		}
	}
	page, err := e.events.PeekMessages(ctx, peekSize, &azservicebus.PeekMessagesOptions{FromSequenceNumber: &e.next})
	if err != nil { // the entity may have been made anew, which the SDK's link does not survive
		e.close(ctx)
	}
	return page, err
}

// close ends the link, for the next read to open another.
func (e *ends) close(ctx context.Context) {
	if e.events == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	_ = e.events.Close(ctx) // it only looked
	e.events = nil
}

func (e *ends) take(m *azservicebus.ReceivedMessage, t *timelines) {
	row, err := newEndRow(m)
	if err != nil {
		e.strange++
		return
	}
	if e.knows(row.ID) {
		return
	}
	at := row.FinishedAt
	if now := time.Now(); at.After(now) {
		at = now // of a worker whose clock is ahead; the chart must not go along
	}
	if e.since.IsZero() {
		e.since = at
	}
	e.counts.add(row.Kind)
	e.minutes.add(at, row.Kind)
	t.ended(row)
	if e.newest = append(e.newest, row); len(e.newest) == 2*mostEnds {
		e.newest = slices.Clone(e.newest[mostEnds:])
	}
}

// knows tells whether an event was seen lately. A topic may let a second one through under the same id, which is the same end.
func (e *ends) knows(id string) bool {
	return slices.ContainsFunc(e.newest, func(r endRow) bool { return r.ID == id })
}

// rows are the newest ends, the last first.
func (e *ends) rows() []endRow {
	rows := slices.Clone(e.newest[max(0, len(e.newest)-mostEnds):])
	slices.Reverse(rows)
	return rows
}
