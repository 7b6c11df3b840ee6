package broker

import "time"

// What befalls a namespace as a whole, for tests. Faults of single operations are package fault's.

// ExpireLocks takes every lock away at once, as a failover of the service does: the messages are available again, their
// deliveries count as failed, and whoever had them finds the lock lost. It is nobody's violation.
func (b *Broker) ExpireLocks() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.entities {
		e.begin()
		var locked []*record
		for _, r := range e.log {
			if !r.gone && r.locked() {
				locked = append(locked, r)
			}
		}
		for _, r := range locked {
			e.endLock(r, lockExpired)
			e.deliveryFailed(r)
		}
		e.dispatch()
	}
}

// SetClock has the broker's clock ahead of the machine's from now on; behind it, if negative.
func (b *Broker) SetClock(ahead time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ahead = ahead
	for _, e := range b.entities {
		e.begin()
		e.dispatch()
		e.wakeAt = time.Time{}
		if e.agenda.Len() > 0 {
			e.wakeBy(e.agenda.first().due)
		}
	}
}

// Deafen has the receivers of now get nothing more, although their links stay: a client that was forgotten. New ones are served.
func (e *Entity) Deafen() {
	e.enter()
	defer e.leave()
	for place := e.waiting.Front(); place != nil; place = e.waiting.Front() {
		c := place.Value.(*Consumer)
		c.closed, c.place = true, nil
		e.waiting.Remove(place)
	}
}
