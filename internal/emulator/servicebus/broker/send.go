package broker

import (
	"fmt"
	"time"
)

// Send stores the messages, all or none, and returns their sequence numbers; those with a later time to be
// active wait for it. A message whose id was accepted inside the duplicate window is accepted and dropped;
// its number is then that of the first one. Errors are ErrNotAllowed, ErrDisabled and ErrFull.
func (e *Entity) Send(messages ...*Message) ([]int64, error) {
	if !e.CanSend() {
		return nil, fmt.Errorf("send to %s, which is neither a queue nor a topic: %w", e.path, ErrNotAllowed)
	}
	e.enter()
	defer e.leave()
	if err := e.alive(); err != nil {
		return nil, err
	}
	if !e.config.Status.sends() {
		return nil, fmt.Errorf("send to %s: %w", e.path, ErrDisabled)
	}
	e.accessedAt = e.broker.now
	if !e.fits(messages) {
		return nil, fmt.Errorf("send to %s: %w", e.path, ErrFull)
	}
	numbers := make([]int64, len(messages))
	for i, m := range messages {
		number, duplicate := e.accepted.lookup(m.ID)
		if !duplicate {
			number = e.accept(m)
		}
		numbers[i] = number
	}
	return numbers, nil
}

// CancelScheduled removes scheduled messages, all or none. The error is ErrMessageNotFound if one is not
// there or already active. Their ids stay in the duplicate window.
func (e *Entity) CancelScheduled(numbers ...int64) error {
	e.enter()
	defer e.leave()
	records, err := e.find(Scheduled, numbers)
	if err != nil {
		return fmt.Errorf("cancel: %w", err)
	}
	for _, r := range records {
		e.remove(r)
	}
	return nil
}

// fits counts a message for a topic once, however many subscriptions take it: the service checks the size
// it has reached before it accepts, too.
func (e *Entity) fits(messages []*Message) bool {
	if e.config.MaxSizeBytes == 0 {
		return true
	}
	size := e.size()
	for _, m := range messages {
		if _, duplicate := e.accepted.lookup(m.ID); !duplicate {
			size += int64(m.Size)
		}
	}
	return size <= e.config.MaxSizeBytes
}

// accept takes in a message that is no duplicate and returns its sequence number.
func (e *Entity) accept(m *Message) int64 {
	r := &record{message: m, state: Scheduled, enqueuedAt: e.broker.now}
	e.add(r)
	e.rememberAccepted(m.ID, r.number)
	if m.ScheduledFor.After(e.broker.now) {
		e.schedule(r, m.ScheduledFor)
	} else {
		e.activate(r)
	}
	return r.number
}

// enqueue puts a scheduled message behind those that are there already, under a new sequence number: the one that the sender was
// told cancels it only until now.
func (e *Entity) enqueue(scheduled *record) {
	r := &record{message: scheduled.message, state: Scheduled}
	e.remove(scheduled)
	e.add(r)
	e.activate(r)
}

// activate makes a message active that was just sent, or scheduled until now. Its life begins here.
func (e *Entity) activate(r *record) {
	if e.kind == Topic {
		m := r.message
		e.remove(r)
		e.fanOut(m, r.number)
		return
	}
	e.change(r, Active)
	r.enqueuedAt = e.broker.now
	if ttl := shorter(r.message.TTL, e.timeToLive()); ttl > 0 {
		r.expiresAt = e.broker.now.Add(ttl)
	}
	e.offer(r)
}

// timeToLive is the longest life of a message in e; a topic's applies to its subscriptions, too.
func (e *Entity) timeToLive() time.Duration {
	if e.kind == Subscription {
		return shorter(e.parent.config.DefaultMessageTTL, e.config.DefaultMessageTTL)
	}
	return e.config.DefaultMessageTTL
}

// offer makes an active message available. What expired while it was locked expires now.
func (e *Entity) offer(r *record) {
	if r.expired(e.broker.now) {
		e.expire(r)
		return
	}
	e.ready.put(r)
	if !r.expiresAt.IsZero() {
		e.schedule(r, r.expiresAt)
	}
	e.dispatch()
}

func (e *Entity) expire(r *record) {
	if e.config.DeadLetterOnExpiration {
		e.moveToDeadLetter(r, "TTLExpiredException", "The message outlived its time to live and was dead-lettered.", nil)
	} else {
		e.remove(r)
	}
}

// rememberAccepted opens the duplicate window of a message id. A repeat does not extend it (unverified).
func (e *Entity) rememberAccepted(id string, number int64) {
	window := e.config.DuplicateDetectionWindow
	if window == 0 || id == "" {
		return
	}
	e.accepted.remember(id, number, e.broker.now)
	e.noteAccepted(number, acceptance{id, e.broker.now})
	e.wakeBy(e.broker.now.Add(window))
}

func (e *Entity) forgetAccepted() {
	for {
		oldest, ok := e.accepted.oldest()
		if !ok || oldest.Add(e.config.DuplicateDetectionWindow).After(e.broker.now) {
			return
		}
		e.noteForgotten(e.accepted.forgetOldest())
	}
}

// shorter returns the shorter of two times to live; zero means for ever.
func shorter(x, y time.Duration) time.Duration {
	if x == 0 || y == 0 {
		return max(x, y)
	}
	return min(x, y)
}
