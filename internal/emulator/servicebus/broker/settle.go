package broker

import (
	"cmp"
	"fmt"
	"maps"
	"time"
)

// Settlement goes by lock token and works from anywhere, not only from the consumer that got the message.
// Every operation returns ErrLockLost if the lock expired, was settled before, or never was, and ErrNotFound if
// the entity was deleted.

// Complete removes the message.
func (e *Entity) Complete(t Token) error {
	return e.settle(t, e.remove)
}

// Abandon makes the message available again and counts the delivery as failed; at MaxDeliveryCount the
// message goes to the dead-letter queue. A deferred message stays deferred. properties are merged into the message's.
func (e *Entity) Abandon(t Token, properties map[string]any) error {
	return e.settle(t, func(r *record) {
		r.properties = merged(r.properties, properties)
		e.deliveryFailed(r)
	})
}

// Release makes the message available again as if it had not been delivered. That the delivery is not
// counted is unverified.
func (e *Entity) Release(t Token) error {
	return e.settle(t, e.putBack)
}

// Defer sets the message aside: only ReceiveDeferred gets at it. properties are merged into the message's.
func (e *Entity) Defer(t Token, properties map[string]any) error {
	return e.settle(t, func(r *record) {
		r.properties = merged(r.properties, properties)
		e.change(r, Deferred)
	})
}

// DeadLetter moves the message to the dead-letter queue. properties are merged into the message's, and
// reason and description, unless empty, added as DeadLetterReason and DeadLetterErrorDescription. In a
// dead-letter queue it is ErrNotAllowed (unverified) and leaves the lock as it is.
func (e *Entity) DeadLetter(t Token, reason, description string, properties map[string]any) error {
	if e.deadLetter == nil {
		return fmt.Errorf("dead-letter a message of %s, complete it instead: %w", e.path, ErrNotAllowed)
	}
	return e.settle(t, func(r *record) {
		e.moveToDeadLetter(r, reason, description, properties)
	})
}

// Renew lets the lock run for the entity's lock duration from now and returns when it ends.
func (e *Entity) Renew(t Token) (time.Time, error) {
	e.enter()
	defer e.leave()
	if err := e.alive(); err != nil {
		return time.Time{}, err
	}
	r := e.locks[t]
	if r == nil {
		return time.Time{}, e.lockLost(t)
	}
	r.lockedUntil = e.broker.now.Add(e.config.LockDuration)
	e.schedule(r, r.lockedUntil)
	return r.lockedUntil, nil
}

// MessageID is the id of the message that is locked by the token; empty: none is.
func (e *Entity) MessageID(t Token) string {
	e.enter()
	defer e.leave()
	if r := e.locks[t]; r != nil {
		return r.message.ID
	}
	return ""
}

type lockEnd int

const (
	lockSettled lockEnd = iota
	lockExpired
)

// settle ends the lock and does then with its message, which is neither available nor on the agenda.
func (e *Entity) settle(t Token, then func(*record)) error {
	e.enter()
	defer e.leave()
	if err := e.alive(); err != nil {
		return err
	}
	r := e.locks[t]
	if r == nil {
		e.countViolation(t)
		return e.lockLost(t)
	}
	e.endLock(r, lockSettled)
	then(r)
	return nil
}

func (e *Entity) countViolation(t Token) {
	v := &e.broker.violations
	switch end, known := e.endedLocks.lookup(t); {
	case !known:
		v.SettledUnknown++
	case end == lockSettled:
		v.SettledTwice++
	default:
		v.SettledAfterLock++
	}
}

func (e *Entity) lockLost(t Token) error {
	return fmt.Errorf("lock %x of %s: %w", t, e.path, ErrLockLost)
}

func (e *Entity) endLock(r *record, end lockEnd) {
	const enoughToBlame = 1 << 14
	if e.endedLocks.len() == enoughToBlame {
		e.endedLocks.forgetOldest()
	}
	e.endedLocks.remember(r.token, end, e.broker.now)
	delete(e.locks, r.token)
	e.agenda.remove(r)
	r.token, r.lockedUntil = Token{}, time.Time{}
	e.noteRecord(r, false)
}

// deliveryFailed counts a delivery that was abandoned or whose lock expired. A dead-letter queue does not count.
func (e *Entity) deliveryFailed(r *record) {
	if e.isDeadLetterQueue() {
		e.putBack(r)
		return
	}
	r.deliveries++
	if r.deliveries < e.config.MaxDeliveryCount {
		e.putBack(r)
		return
	}
	e.moveToDeadLetter(r, "MaxDeliveryCountExceeded",
		fmt.Sprintf("The message was not settled in %d delivery attempts.", r.deliveries), nil)
}

// putBack returns an unlocked message to its place.
func (e *Entity) putBack(r *record) {
	if r.state == Active {
		e.offer(r)
	}
}

// moveToDeadLetter removes r here and files it in the dead-letter queue, where it has a new sequence number
// (unverified), its old enqueued time (unverified) and delivery count, and no end of life.
func (e *Entity) moveToDeadLetter(r *record, reason, description string, properties map[string]any) {
	why := map[string]any{}
	if reason != "" {
		why["DeadLetterReason"] = reason
	}
	if description != "" {
		why["DeadLetterErrorDescription"] = description
	}
	dead := &record{
		message:        r.message,
		originalNumber: cmp.Or(r.originalNumber, r.number),
		enqueuedAt:     r.enqueuedAt,
		deliveries:     r.deliveries,
		properties:     merged(merged(r.properties, properties), why),
		source:         e.path,
	}
	e.remove(r)
	e.deadLetter.add(dead)
	e.deadLetter.offer(dead)
}

// merged returns a new map: old ones are in the hands of receivers.
func merged(old, changes map[string]any) map[string]any {
	if len(changes) == 0 {
		return old
	}
	all := make(map[string]any, len(old)+len(changes))
	maps.Copy(all, old)
	maps.Copy(all, changes)
	return all
}
