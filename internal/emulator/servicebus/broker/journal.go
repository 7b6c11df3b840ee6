package broker

import (
	"errors"
	"sync"

	"hsmsweep/internal/emulator/servicebus/store"
)

// A journal brings what changes in a broker to its store. Operations only note what they touch; a goroutine of its own looks
// at all that was touched since its last look, under the broker's mutex, and commits it without. So the file always holds a
// state that the broker had between two operations, and a commit serves however many operations came in while the
// one before was under way.
type journal struct {
	store *store.Store
	codec Codec
	wake  chan struct{}
	ended sync.WaitGroup

	// All of what follows is guarded by the broker's mutex.

	changes  []store.Change // of duplicate windows, and deleted entities, in their order
	entities map[*Entity]bool
	records  map[*record]touched
	waiting  []func(error)
	busy     bool // a commit is under way or its callbacks are
	closed   bool
	err      error // why nothing is committed any more
}

// touched says how a record differs from what is in the store.
type touched struct {
	entity *Entity
	isNew  bool // nothing of it is there
}

var errClosed = errors.New("the broker is closed and keeps no state any more")

func newJournal(s *store.Store, c Codec) *journal {
	return &journal{
		store:    s,
		codec:    c,
		wake:     make(chan struct{}, 1),
		entities: make(map[*Entity]bool),
		records:  make(map[*record]touched),
	}
}

// WhenDurable has f called once everything that was done before will be there after a crash: at once if it is so
// already or the broker has no store, else by another goroutine, which f must not block. The error is why the
// state cannot be kept; it stays with the broker. Those who wait are called in their order.
func (b *Broker) WhenDurable(f func(error)) {
	if wait, err := b.wait(f); !wait {
		f(err)
	}
}

// Sync returns when everything that was done before will be there after a crash. The error is as with WhenDurable.
func (b *Broker) Sync() error {
	done := make(chan error, 1)
	b.WhenDurable(func(err error) { done <- err })
	return <-done
}

// wait has f called, unless there is nothing to wait for.
func (b *Broker) wait(f func(error)) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	j := b.journal
	switch {
	case j == nil:
		return false, nil
	case j.err != nil || !j.busy && !j.pending():
		return false, j.err
	}
	j.waiting = append(j.waiting, f)
	j.signal()
	return true, nil
}

// keep commits until the broker is closed.
func (b *Broker) keep() {
	for {
		work, more := b.take()
		switch {
		case !more:
			return
		case work == nil:
			<-b.journal.wake
		default:
			err := b.commit(work)
			for _, f := range work.waiting {
				f(err)
			}
		}
	}
}

// A batch is what one commit makes durable.
type batch struct {
	changes []store.Change
	records []snapshot
	waiting []func(error)
	err     error // a change could not be encoded
}

// A snapshot is a record as it is at one instant.
type snapshot struct {
	record
	touched
}

// take returns what is to be committed, nil if there is nothing, and false once there will be nothing more.
func (b *Broker) take() (*batch, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	j := b.journal
	if j.busy = j.pending(); !j.busy {
		if j.closed && j.err == nil {
			j.err = errClosed
		}
		return nil, !j.closed
	}
	work := &batch{changes: j.changes, waiting: j.waiting}
	for e := range j.entities {
		if !e.deleted {
			value, err := encodeEntity(e, j.codec)
			work.put(e, keyOf(entityKey, 0), value, err)
		}
	}
	for r, t := range j.records {
		// What came and went between two commits was never in the store.
		if !t.entity.deleted && !(t.isNew && r.gone) {
			work.records = append(work.records, snapshot{*r, t})
		}
	}
	j.forget()
	return work, true
}

// commit makes the batch durable; after a failure, nothing is any more.
func (b *Broker) commit(work *batch) error {
	b.mu.Lock()
	err := b.journal.err
	b.mu.Unlock()
	if err != nil {
		return err
	}
	if err = work.encodeRecords(b.journal.codec); err == nil && len(work.changes) > 0 {
		err = b.journal.store.Commit(work.changes)
	}
	if err != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.journal.err = err
	}
	return err
}

// encodeRecords adds the changes of the records.
func (w *batch) encodeRecords(c Codec) error {
	for _, s := range w.records {
		message, state := keyOf(messageKey, s.number), keyOf(stateKey, s.number)
		if s.gone {
			w.delete(s.entity, message, state)
			continue
		}
		if s.isNew {
			value, err := c.EncodeMessage(s.message)
			w.put(s.entity, message, value, err)
		}
		value, err := encodeRecord(&s.record, c)
		w.put(s.entity, state, value, err)
	}
	return w.err
}

// put adds a value as it was encoded, or why it was not.
func (w *batch) put(e *Entity, key, value []byte, err error) {
	if value == nil {
		value = []byte{} // an empty message; nil would delete
	}
	w.changes = append(w.changes, store.Change{Table: e.key(), Key: key, Value: value})
	w.err = errors.Join(w.err, err)
}

func (w *batch) delete(e *Entity, keys ...[]byte) {
	for _, key := range keys {
		w.changes = append(w.changes, store.Change{Table: e.key(), Key: key})
	}
}

// close commits what there is, ends the goroutine and closes the file. mu is the broker's.
func (j *journal) close(mu *sync.Mutex) {
	mu.Lock()
	j.closed = true
	mu.Unlock()
	j.signal()
	j.ended.Wait()
	// The last commit is on disk: closing can lose nothing.
	_ = j.store.Close()
}

func (j *journal) pending() bool {
	return len(j.changes) > 0 || len(j.entities) > 0 || len(j.records) > 0 || len(j.waiting) > 0
}

func (j *journal) forget() {
	j.changes, j.waiting = nil, nil
	j.entities, j.records = make(map[*Entity]bool), make(map[*record]touched)
}

func (j *journal) signal() {
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// What follows notes changes; without a store it does nothing.

// noteEntity notes that the settings of e, its rules or its last sequence number have changed.
func (e *Entity) noteEntity() {
	if j := e.broker.journal; j.open() {
		j.entities[e] = true
		j.signal()
	}
}

// noteEnd notes that e was deleted with what it holds.
func (e *Entity) noteEnd() {
	if j := e.broker.journal; j.open() {
		j.changes = append(j.changes, store.Change{Table: e.key()})
		j.signal()
	}
}

// noteRecord notes that r has changed, come (isNew) or gone.
func (e *Entity) noteRecord(r *record, isNew bool) {
	if j := e.broker.journal; j.open() {
		if _, known := j.records[r]; !known {
			j.records[r] = touched{e, isNew}
		}
		j.signal()
	}
}

// noteAccepted notes that the duplicate window of a message id has begun.
func (e *Entity) noteAccepted(number int64, a acceptance) {
	if j := e.broker.journal; j.open() {
		j.changes = append(j.changes, store.Change{Table: e.key(), Key: keyOf(acceptedKey, number), Value: a.encode()})
		j.signal()
	}
}

// noteForgotten notes that a duplicate window has ended.
func (e *Entity) noteForgotten(number int64) {
	if j := e.broker.journal; j.open() {
		j.changes = append(j.changes, store.Change{Table: e.key(), Key: keyOf(acceptedKey, number)})
		j.signal()
	}
}

func (j *journal) open() bool { return j != nil && j.err == nil }
