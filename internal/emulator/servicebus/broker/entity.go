package broker

import (
	"cmp"
	"container/list"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Kind is a kind of entity.
type Kind int

const (
	Queue Kind = iota
	Topic
	Subscription
	DeadLetterQueue
)

// String returns the kind in words.
func (k Kind) String() string {
	return [...]string{"queue", "topic", "subscription", "dead-letter queue"}[k]
}

// An Entity is a queue, a topic, a subscription or a dead-letter queue.
type Entity struct {
	broker     *Broker
	kind       Kind
	path       string
	parent     *Entity // the topic of a subscription, the owner of a dead-letter queue
	deadLetter *Entity // of queues and subscriptions

	// All of what follows is guarded by the broker's mutex.

	config        QueueConfig // what applies to this kind of entity, defaults filled in
	subscriptions []*Entity   // of a topic
	rules         []Rule      // of a subscription

	createdAt, updatedAt time.Time
	accessedAt           time.Time // last send or wish to receive; before the first zero, of a subscription createdAt
	deleted              bool
	onClose              map[*func(deleted bool)]bool

	contents
}

// contents is what an entity holds; all of it goes when the entity is deleted.
type contents struct {
	lastNumber int64
	log        []*record // by sequence number; what is gone stays until compact
	gone       int
	counts     [3]int // by State
	bytes      int64

	ready   recordHeap // available messages, the lowest sequence number first
	agenda  recordHeap // messages to which something happens at a known time, the next first
	timer   *time.Timer
	wakeAt  time.Time // when the timer runs, zero if it does not
	waiting list.List // consumers with credit, the next to be served first

	locks      map[Token]*record
	endedLocks history[Token, lockEnd]
	accepted   history[string, int64] // message ids inside the duplicate window, to sequence number
}

// A record is one message in one entity.
type record struct {
	message        *Message
	number         int64 // sequence number
	originalNumber int64 // in the entity that the sender sent to, 0 in that one
	state          State
	gone           bool

	enqueuedAt time.Time
	expiresAt  time.Time // zero = never
	due        time.Time // while on the agenda

	token       Token // while locked
	lockedUntil time.Time
	deliveries  int // failed ones
	properties  map[string]any
	source      string

	readyPlace, agendaPlace int // in the heaps, from 1; 0 = not in it
}

func newEntity(b *Broker, kind Kind, c QueueConfig) *Entity {
	return &Entity{
		broker:   b,
		kind:     kind,
		path:     c.Name,
		config:   c,
		onClose:  make(map[*func(bool)]bool),
		contents: newContents(),
	}
}

func newContents() contents {
	return contents{
		locks: make(map[Token]*record),
		ready: recordHeap{
			before: func(x, y *record) bool { return x.number < y.number },
			place:  func(r *record) *int { return &r.readyPlace },
		},
		agenda: recordHeap{
			before: func(x, y *record) bool {
				return cmp.Or(x.due.Compare(y.due), cmp.Compare(x.number, y.number)) < 0
			},
			place: func(r *record) *int { return &r.agendaPlace },
		},
	}
}

func newQueue(b *Broker, kind Kind, c QueueConfig) *Entity {
	c = c.withDefaults()
	e := newEntity(b, kind, c)
	e.deadLetter = newEntity(b, DeadLetterQueue, QueueConfig{Name: e.path + deadLetterSuffix, LockDuration: c.LockDuration})
	e.deadLetter.parent = e
	return e
}

// Kind returns the kind of the entity.
func (e *Entity) Kind() Kind { return e.kind }

// Path returns the path of the entity as configured.
func (e *Entity) Path() string { return e.path }

// CanSend reports whether messages can be sent to it: queues and topics.
func (e *Entity) CanSend() bool { return e.parent == nil }

// CanReceive reports whether it can be received from: queues, subscriptions and dead-letter queues.
func (e *Entity) CanReceive() bool { return e.kind != Topic }

// Refuses is ErrDisabled while the entity's status keeps it from taking messages (sending) or handing them out.
func (e *Entity) Refuses(sending bool) error {
	e.enter()
	defer e.leave()
	if sending && !e.config.Status.sends() || !sending && !e.config.Status.receives() {
		return fmt.Errorf("%s is %s: %w", e.path, e.config.Status, ErrDisabled)
	}
	return nil
}

// MaxMessageSize is the limit of one encoded message in bytes, for whatever is sent to it or to the entity
// above it. The caller that knows the encoding enforces it.
func (e *Entity) MaxMessageSize() int {
	for e.parent != nil {
		e = e.parent
	}
	e.enter()
	defer e.leave()
	return e.config.MaxMessageSize
}

// key is the path as the broker and the store know it.
func (e *Entity) key() string { return keyOfPath(e.path) }

func keyOfPath(path string) string { return strings.ToLower(path) }

func (e *Entity) isDeadLetterQueue() bool { return e.kind == DeadLetterQueue }

// Counts is how many messages an entity holds.
type Counts struct {
	Active     int // available and locked ones, as the service and KEDA's scaler count
	Scheduled  int
	Deferred   int
	DeadLetter int   // in its dead-letter queue
	Bytes      int64 // of everything in it, its dead-letter queue and its subscriptions
}

// Counts counts the messages of the entity.
func (e *Entity) Counts() Counts {
	e.enter()
	defer e.leave()
	return e.count()
}

func (e *Entity) count() Counts {
	c := Counts{Active: e.counts[Active], Scheduled: e.counts[Scheduled], Deferred: e.counts[Deferred], Bytes: e.size()}
	if e.deadLetter != nil {
		c.DeadLetter = len(e.deadLetter.log) - e.deadLetter.gone
	}
	return c
}

// Peek returns up to n messages from sequence number from upwards, in whatever state, without locking them.
func (e *Entity) Peek(from int64, n int) []*Delivery {
	e.enter()
	defer e.leave()
	var found []*Delivery
	for i := e.search(from); i < len(e.log) && len(found) < n; i++ {
		if r := e.log[i]; !r.gone {
			found = append(found, r.delivery())
		}
	}
	return found
}

// enter and leave stand around every operation.
func (e *Entity) enter() {
	e.broker.mu.Lock()
	e.begin()
}

func (e *Entity) leave() { e.broker.mu.Unlock() }

// begin brings e up to the present.
func (e *Entity) begin() {
	e.broker.tick()
	e.catchUp()
}

func (e *Entity) size() int64 {
	n := e.bytes
	if e.deadLetter != nil {
		n += e.deadLetter.bytes
	}
	for _, s := range e.subscriptions {
		n += s.size()
	}
	return n
}

// add gives r the next sequence number and files it.
func (e *Entity) add(r *record) {
	e.lastNumber++
	r.number = e.lastNumber
	e.log = append(e.log, r)
	e.counts[r.state]++
	e.bytes += int64(r.message.Size)
	e.noteEntity()
	e.noteRecord(r, true)
}

// change moves r to another state.
func (e *Entity) change(r *record, s State) {
	e.counts[r.state]--
	r.state = s
	e.counts[s]++
	e.noteRecord(r, false)
}

// remove takes r out of the entity for good. Its message may be freed at once, its record when the log is compacted.
func (e *Entity) remove(r *record) {
	e.ready.remove(r)
	e.agenda.remove(r)
	e.counts[r.state]--
	e.bytes -= int64(r.message.Size)
	r.message, r.properties, r.gone = nil, nil, true
	e.gone++
	e.noteRecord(r, false)
	e.compact()
}

// compact copies the log once half of it is gone, so that it costs each message a constant.
func (e *Entity) compact() {
	const tooSmallToMatter = 64
	if e.gone < tooSmallToMatter || e.gone <= len(e.log)/2 {
		return
	}
	left := make([]*record, 0, len(e.log)-e.gone)
	for _, r := range e.log {
		if !r.gone {
			left = append(left, r)
		}
	}
	e.log, e.gone = left, 0
}

// search returns the index in the log of the first record from number upwards.
func (e *Entity) search(number int64) int {
	i, _ := slices.BinarySearchFunc(e.log, number, func(r *record, n int64) int { return cmp.Compare(r.number, n) })
	return i
}

func (r *record) locked() bool { return !r.lockedUntil.IsZero() }

func (r *record) expired(now time.Time) bool {
	return !r.expiresAt.IsZero() && !r.expiresAt.After(now)
}

// delivery returns r as a peek sees it, without its lock.
func (r *record) delivery() *Delivery {
	return &Delivery{
		Message:                r.message,
		SequenceNumber:         r.number,
		EnqueuedSequenceNumber: r.originalNumber,
		EnqueuedTime:           r.enqueuedAt,
		ExpiresAt:              r.expiresAt,
		DeliveryCount:          r.deliveries,
		State:                  r.state,
		DeadLetterSource:       r.source,
		Properties:             r.properties,
	}
}
