package broker

import (
	"container/list"
	"fmt"
)

// A Consumer is a receiver with credit. Consumers of an entity are served in the order in which they
// asked, one message each in turn, and get messages the lowest sequence number first.
type Consumer struct {
	entity  *Entity
	mode    Mode
	deliver func(*Delivery)

	credit int
	count  uint32        // deliveries made and credit given up
	place  *list.Element // among the waiting, nil without credit
	closed bool
}

// Consume adds a consumer without credit. deliver is called under the broker's lock, in the goroutine of
// whoever made the message available or asked for it: it must only queue the delivery, block on nothing
// and call nothing of this package. When the entity is deleted the consumer gets no more, see OnClose. Errors
// are ErrNotAllowed and ErrNotFound.
func (e *Entity) Consume(mode Mode, deliver func(*Delivery)) (*Consumer, error) {
	if !e.CanReceive() {
		return nil, fmt.Errorf("receive from topic %s, receive from one of its subscriptions: %w", e.path, ErrNotAllowed)
	}
	e.enter()
	defer e.leave()
	if err := e.alive(); err != nil {
		return nil, err
	}
	return &Consumer{entity: e, mode: mode, deliver: deliver}, nil
}

// SetCredit asks for n further messages, whatever was asked for before, and delivers what is there before
// it returns. Deliveries of other goroutines may come between the caller's reckoning of n and the call; a
// caller that counts deliveries uses SetLimit.
func (c *Consumer) SetCredit(n int) {
	c.entity.enter()
	defer c.entity.leave()
	c.grant(n)
}

// SetLimit asks for messages until the number of deliveries made, and of credits given up by Drain, since
// Consume is limit, modulo 2^32. It is what an AMQP flow says: delivery-count plus link-credit.
func (c *Consumer) SetLimit(limit uint32) {
	c.entity.enter()
	defer c.entity.leave()
	c.grant(int(int32(limit - c.count)))
}

// Drain gives up the credit that is left after delivering what is there, and returns how much that was.
func (c *Consumer) Drain() int {
	c.entity.enter()
	defer c.entity.leave()
	left := c.credit
	c.count += uint32(left)
	c.grant(0)
	return left
}

// Close ends the consumer: deliver is not called after it returns. What it holds stays locked until the
// locks expire or are settled.
func (c *Consumer) Close() {
	c.entity.enter()
	defer c.entity.leave()
	c.grant(0)
	c.closed = true
}

// ReceiveDeferred hands out deferred messages, all or none, locking or removing them. The error is
// ErrMessageNotFound if one is not there, not deferred, locked or expired. Expiry of deferred messages is
// checked here and nowhere else
// (https://learn.microsoft.com/azure/service-bus-messaging/message-deferral).
func (e *Entity) ReceiveDeferred(mode Mode, numbers ...int64) ([]*Delivery, error) {
	e.enter()
	defer e.leave()
	e.accessedAt = e.broker.now
	e.expireDeferred(numbers)
	records, err := e.find(Deferred, numbers)
	if err != nil {
		return nil, fmt.Errorf("receive deferred: %w", err)
	}
	deliveries := make([]*Delivery, len(records))
	for i, r := range records {
		deliveries[i] = e.handOut(r, mode)
	}
	return deliveries, nil
}

func (c *Consumer) grant(n int) {
	if c.closed || c.entity.deleted {
		return
	}
	c.credit = max(n, 0)
	if c.credit > 0 {
		c.entity.accessedAt = c.entity.broker.now
	}
	waiting := &c.entity.waiting
	switch {
	case c.credit == 0 && c.place != nil:
		waiting.Remove(c.place)
		c.place = nil
	case c.credit > 0 && c.place == nil:
		c.place = waiting.PushBack(c)
	}
	c.entity.dispatch()
}

// dispatch serves the waiting consumers with what is available.
func (e *Entity) dispatch() {
	for e.waiting.Len() > 0 && e.ready.Len() > 0 {
		c := e.waiting.Front().Value.(*Consumer)
		c.credit--
		c.count++
		if c.credit > 0 {
			e.waiting.MoveToBack(c.place)
		} else {
			e.waiting.Remove(c.place)
			c.place = nil
		}
		c.deliver(e.handOut(e.ready.first(), c.mode))
	}
}

// handOut locks or removes r for its receiver.
func (e *Entity) handOut(r *record, mode Mode) *Delivery {
	d := r.delivery()
	if mode == ReceiveAndDelete {
		e.remove(r)
		return d
	}
	e.ready.remove(r)
	r.token = newToken()
	r.lockedUntil = e.broker.now.Add(e.config.LockDuration)
	e.locks[r.token] = r
	e.schedule(r, r.lockedUntil)
	e.noteRecord(r, false)
	d.Token, d.LockedUntil = r.token, r.lockedUntil
	return d
}

func (e *Entity) expireDeferred(numbers []int64) {
	for _, number := range numbers {
		if r := e.at(number); r != nil && r.state == Deferred && !r.locked() && r.expired(e.broker.now) {
			e.expire(r)
		}
	}
}

// find returns the unlocked messages with these sequence numbers and this state.
func (e *Entity) find(s State, numbers []int64) ([]*record, error) {
	if err := e.alive(); err != nil {
		return nil, err
	}
	records := make([]*record, len(numbers))
	seen := make(map[int64]bool, len(numbers))
	for i, number := range numbers {
		r := e.at(number)
		if r == nil || r.state != s || r.locked() || seen[number] {
			return nil, fmt.Errorf("message %d of %s: %w", number, e.path, ErrMessageNotFound)
		}
		seen[number] = true
		records[i] = r
	}
	return records, nil
}

// at returns the message with this sequence number, nil if there is none.
func (e *Entity) at(number int64) *record {
	if i := e.search(number); i < len(e.log) && e.log[i].number == number && !e.log[i].gone {
		return e.log[i]
	}
	return nil
}
