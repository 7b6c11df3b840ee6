package queue

import (
	"sync"
	"time"
)

// longestLock is what Service Bus allows.
const longestLock = 5 * time.Minute

// A clock tells the broker's time from what it writes on messages: this machine's may be wrong, or jump. A message that is
// handed out is locked until the broker's time plus the queue's lock duration, and the shortest time between the enqueuing
// of a message and the end of its lock is soon that duration.
type clock struct {
	mu   sync.Mutex
	lock time.Duration // as far as is known; 0: not yet
}

// at is the broker's time at the receipt of a message. A time of this machine that fits the message is believed.
func (c *clock) at(local, enqueued, lockedUntil time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if lock := max(0, min(lockedUntil.Sub(enqueued), longestLock)); c.lock == 0 || lock < c.lock {
		c.lock = lock
	}
	received := lockedUntil.Add(-c.lock)
	if local.Before(received.Add(-clockTolerance)) || local.After(lockedUntil) {
		return received
	}
	return local
}

// clockTolerance is by how much clocks differ everywhere.
const clockTolerance = time.Second

// forget is for when the queue's settings may have changed.
func (c *clock) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lock = 0
}
