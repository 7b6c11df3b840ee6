// Package broker knows the rules of Service Bus and nothing of its wire: entities, messages, locks,
// schedules, duplicate windows, delivery counts and dead-letter queues.
//
// A Broker holds the entities of one namespace. A queue keeps its messages in the order of their
// sequence numbers and hands them to its consumers; a topic holds scheduled messages only and passes
// active ones on to its subscriptions, each of which is a queue of its own; queues and subscriptions have
// a dead-letter queue beside them. One mutex guards it all, nothing blocks under it, and there is no
// goroutine but the one that writes a broker's file: every entity has one timer for the next thing due (a
// schedule, a lock, an expiry), and every operation first brings its entity up to the present, so that a lock is
// lost and a message is there at their exact instants however late the timer runs. Entities come and go at run
// time: a deleted one frees its messages, tells whoever asked to be told, and refuses what is still tried on it.
//
// A broker from Open keeps its state in a file. Operations act at once all the same; whoever acknowledges one to a
// client does so once WhenDurable says that it will last.
//
// A scheduled message gets a new sequence number when it becomes active, as the service documents: it stands behind what was
// there before it, and the number that its sender was told cancels it no more.
package broker

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

var (
	ErrNotFound        = errors.New("no such entity in this namespace; check the name and the emulator's configuration")
	ErrExists          = errors.New("the name is taken; choose another, or update or delete what has it")
	ErrNotAllowed      = errors.New("operation not allowed on this entity")
	ErrDisabled        = errors.New("the entity is disabled; set its status to Active")
	ErrFull            = errors.New("the entity has reached its maximum size; receive messages before sending more")
	ErrLockLost        = errors.New("the lock is lost: it expired or the message was settled; receive the message again")
	ErrMessageNotFound = errors.New("no message with this sequence number in the state that the operation needs")
)

const deadLetterSuffix = "/$DeadLetterQueue"

// A Broker is a namespace. It is safe for concurrent use.
type Broker struct {
	mu         sync.Mutex
	entities   map[string]*Entity // by path in lower case
	now        time.Time          // of the operation under way, so that it sees one time only
	closed     bool
	violations Violations
	journal    *journal      // nil without a store
	ahead      time.Duration // of the machine's clock
}

// Violations counts what a correct client never does. A fault such as a cut connection excuses it; without
// faults a test expects zero.
type Violations struct {
	SettledTwice     int // a lock that was settled before
	SettledAfterLock int // a lock that had expired
	SettledUnknown   int // a token that was never handed out, or too long ago to tell
	LockExpired      int // a lock that ran out without being settled
}

// New returns a broker with the entities of c. The error names every faulty setting.
func New(c Config) (*Broker, error) {
	b := &Broker{entities: make(map[string]*Entity)}
	if err := b.configure(c); err != nil {
		return nil, err
	}
	return b, nil
}

// Close ends what happens by itself: afterwards only operations bring their entity up to the present. A broker with a
// store keeps what was done before and nothing from then on.
func (b *Broker) Close() {
	b.stopTimers()
	if b.journal != nil {
		b.journal.close(&b.mu)
	}
}

func (b *Broker) stopTimers() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	for _, e := range b.entities {
		if e.timer != nil {
			e.timer.Stop()
		}
	}
}

// Entity finds a queue, topic, subscription (topic/Subscriptions/name) or dead-letter queue
// (path/$DeadLetterQueue). Case and a leading slash do not matter. The error is ErrNotFound.
func (b *Broker) Entity(path string) (*Entity, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.find(path)
}

// Entities lists queues, topics and subscriptions by path, without their dead-letter queues.
func (b *Broker) Entities() []*Entity {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := slices.SortedFunc(maps.Values(b.entities), func(x, y *Entity) int { return strings.Compare(x.path, y.path) })
	return slices.DeleteFunc(all, (*Entity).isDeadLetterQueue)
}

// Violations returns the counts so far.
func (b *Broker) Violations() Violations {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.violations
}

func (b *Broker) find(path string) (*Entity, error) {
	if e := b.entities[keyOfPath(strings.TrimPrefix(path, "/"))]; e != nil {
		return e, nil
	}
	return nil, fmt.Errorf("%q: %w", path, ErrNotFound)
}

// tick sets the time of the operation under way. Without the monotonic reading, times compare with those
// that come from the wire.
func (b *Broker) tick() { b.now = time.Now().Add(b.ahead).UTC().Round(0) }
