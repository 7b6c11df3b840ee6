package broker

import (
	"container/heap"
	"time"
)

// schedule puts r on the agenda for at, or moves it there.
func (e *Entity) schedule(r *record, at time.Time) {
	r.due = at
	e.agenda.put(r)
	e.wakeBy(at)
}

// catchUp does what is due by now, in the order in which it was due.
func (e *Entity) catchUp() {
	if e.parent != nil {
		e.parent.catchUp()
	}
	for e.agenda.Len() > 0 && !e.agenda.first().due.After(e.broker.now) {
		r := e.agenda.first()
		e.agenda.remove(r)
		switch {
		case r.locked():
			e.broker.violations.LockExpired++
			e.endLock(r, lockExpired)
			e.deliveryFailed(r)
		case r.state == Scheduled:
			e.enqueue(r)
		default:
			e.expire(r)
		}
	}
	e.forgetAccepted()
}

// wakeBy makes sure that the timer runs at the latest at t. A timer that runs too early costs less than
// stopping it for every lock that was settled in time.
func (e *Entity) wakeBy(t time.Time) {
	if !e.wakeAt.IsZero() && !e.wakeAt.After(t) {
		return
	}
	e.wakeAt = t
	if wait := t.Sub(e.broker.now); e.timer == nil {
		e.timer = time.AfterFunc(wait, e.wake)
	} else {
		e.timer.Reset(wait)
	}
}

func (e *Entity) wake() {
	e.broker.mu.Lock()
	defer e.leave()
	if e.broker.closed {
		return
	}
	e.begin()
	e.wakeAt = time.Time{}
	if e.agenda.Len() > 0 {
		e.wakeBy(e.agenda.first().due)
	}
	// Traffic forgets old ids as it goes; the timer need only do so when all of them are old.
	if newest, ok := e.accepted.newest(); ok {
		e.wakeBy(newest.Add(e.config.DuplicateDetectionWindow))
	}
}

// A recordHeap is a priority queue of records that know their place in it.
type recordHeap struct {
	records []*record
	before  func(x, y *record) bool
	place   func(*record) *int
}

func (h *recordHeap) first() *record { return h.records[0] }

// put adds r, or moves it to where it now belongs.
func (h *recordHeap) put(r *record) {
	if p := *h.place(r); p > 0 {
		heap.Fix(h, p-1)
	} else {
		heap.Push(h, r)
	}
}

// remove takes r out if it is in.
func (h *recordHeap) remove(r *record) {
	if p := *h.place(r); p > 0 {
		heap.Remove(h, p-1)
	}
}

// Len, Less, Swap, Push and Pop are heap.Interface.

func (h *recordHeap) Len() int { return len(h.records) }

func (h *recordHeap) Less(i, j int) bool { return h.before(h.records[i], h.records[j]) }

func (h *recordHeap) Swap(i, j int) {
	h.records[i], h.records[j] = h.records[j], h.records[i]
	*h.place(h.records[i]), *h.place(h.records[j]) = i+1, j+1
}

func (h *recordHeap) Push(x any) {
	r := x.(*record)
	h.records = append(h.records, r)
	*h.place(r) = len(h.records)
}

func (h *recordHeap) Pop() any {
	last := len(h.records) - 1
	r := h.records[last]
	h.records[last] = nil
	h.records = h.records[:last]
	*h.place(r) = 0
	return r
}
